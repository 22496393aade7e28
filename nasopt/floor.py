"""Evidence that nothing smaller clears the bar: all genomes below a size, within limits, trained and raced.

A training is stopped where even an optimistic continuation of its curve, learned from the study's own curves, stays
below the bar. What ends above the bar races over fresh seeds. Every result is a line in a file, so that an interrupted
floor goes on where it was.
"""

import json
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasopt.errors import DivergedError, StudyError
from nasopt.genome import Genome
from nasopt.racing import RaceRule, RaceVerdict
from nasopt.records import Candidate, Evaluation, Evaluator, Race, StopRule, trial_seed
from nasopt.verification import run_race


@dataclass(frozen=True, slots=True)
class FloorLimits:
    """What is enumerated: below how many parameters, how deep, with which activations, and the recipe."""

    below: int
    max_depth: int
    activations: tuple[str, ...]
    lr: float
    lr_decay: float


@dataclass(frozen=True, slots=True)
class FloorEntry:
    """One genome of the floor: its validation accuracy after ``n_epochs``, fewer than all where it was stopped."""

    genome: str
    n_params: int
    accuracy: float
    n_epochs: int
    stopped: bool


@dataclass(frozen=True, slots=True)
class Floor:
    """How far a floor is: the entries of ``n_genomes``, and the races of those that ended above the bar."""

    limits: FloorLimits
    bar: float
    n_genomes: int
    entries: tuple[FloorEntry, ...]
    races: tuple[tuple[Race, RaceVerdict], ...] = ()

    @property
    def best(self) -> list[FloorEntry]:
        """The entries that were trained to the end, most accurate first."""
        whole = [e for e in self.entries if not e.stopped]
        return sorted(whole, key=lambda e: (-e.accuracy, e.n_params, e.genome))

    @property
    def passed(self) -> list[Race]:
        """The races that were won."""
        return [race for race, verdict in self.races if verdict == "accepted"]

    @property
    def is_complete(self) -> bool:
        """Whether every genome was trained, and every one above the bar raced."""
        above = [e for e in self.entries if not e.stopped and e.accuracy >= self.bar]
        return len(self.entries) == self.n_genomes and len(self.races) == len(above)

    def to_json(self) -> dict[str, Any]:
        """The floor as plain JSON values, with its ten best entries."""
        return {
            **asdict(self.limits),
            "bar": self.bar,
            "n_genomes": self.n_genomes,
            "n_trained": len(self.entries),
            "n_stopped": sum(e.stopped for e in self.entries),
            "complete": self.is_complete,
            "races": [race.to_json() | {"verdict": verdict} for race, verdict in self.races],
            "best": [asdict(entry) for entry in self.best[:10]],
        }


class FloorLog:
    """The entries of a floor in a file, one JSON object a line, the limits first."""

    def __init__(self, path: Path, limits: FloorLimits) -> None:
        """Opens the file at ``path``, or makes it.

        Raises:
            StudyError: if it holds a floor within other limits, or cannot be read or written.
        """
        self.path = path
        head = json.loads(json.dumps(asdict(limits)))
        try:
            lines = path.read_text().splitlines() if path.exists() else []
            # A line that a killed process left half written is trained again.
            rows = [json.loads(line) for line in lines if line.endswith("}")]
            if not rows:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(head) + "\n")
        except (OSError, ValueError) as error:
            raise StudyError(
                f"cannot use {path} ({error}); move it away and run the same command again"
            ) from error
        if rows and rows[0] != head:
            raise StudyError(
                f"{path} holds a floor within other limits ({rows[0]}); give the same, or move it away"
            )
        self.entries = [FloorEntry(**row) for row in rows[1:]]

    def add(self, entry: FloorEntry) -> None:
        """Keeps one more entry."""
        self.entries.append(entry)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")


@dataclass(frozen=True, slots=True)
class FloorWork:
    """What a floor is done with; ``n_params`` counts a genome's parameters."""

    evaluator: Evaluator
    executor: Executor
    n_workers: int
    study_seed: int
    n_params: Callable[[Genome], int]


def train_floor(
    genomes: Sequence[Genome],
    log: FloorLog,
    limits: FloorLimits,
    rule: StopRule,
    work: FloorWork,
) -> Generator[FloorEntry, None, None]:
    """Trains what ``log`` does not have yet, once each under ``rule``; the entries as they come."""
    known = {entry.genome for entry in log.entries}
    left = iter([g for g in genomes if str(g) not in known])
    running: dict[Future[Evaluation], Genome] = {}
    try:
        while True:
            while len(running) < work.n_workers and (genome := next(left, None)) is not None:
                candidate = Candidate(genome, limits.lr, limits.lr_decay)
                seed = trial_seed(work.study_seed, genome)
                running[work.executor.submit(work.evaluator, candidate, seed, rule)] = genome
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                entry = _entry(running.pop(future), future, work)
                log.add(entry)
                yield entry
    finally:
        for future in running:
            future.cancel()


def race_floor(
    floor: Floor, rule: RaceRule, work: FloorWork
) -> tuple[tuple[Race, RaceVerdict], ...]:
    """The races of all entries that ended above the bar, the smallest first."""
    above = [e for e in floor.best if e.accuracy >= floor.bar]
    races: list[tuple[Race, RaceVerdict]] = []
    for position, entry in enumerate(sorted(above, key=lambda e: (e.n_params, e.genome)), start=1):
        candidate = Candidate(Genome.parse(entry.genome), floor.limits.lr, floor.limits.lr_decay)
        own = RaceRule(rule.bar, rule.min_pass_rate, rule.n_seeds, position=position)
        race = run_race(
            Race(position, candidate, entry.n_params),
            own,
            work.study_seed,
            work.evaluator,
            work.executor,
            lambda _race: None,
        )
        races.append((race, own.judge(race.accuracies)))
    return tuple(races)


def _entry(genome: Genome, future: Future[Evaluation], work: FloorWork) -> FloorEntry:
    n_params = work.n_params(genome)
    try:
        evaluation = future.result()
    except DivergedError:
        return FloorEntry(str(genome), n_params, 0.0, 0, stopped=True)
    return FloorEntry(
        str(genome), n_params, evaluation.val_accuracy, len(evaluation.curve), evaluation.stopped
    )


def describe_floor(floor: Floor) -> list[str]:
    """What the floor says, in lines."""
    limits = floor.limits
    names = ", ".join(limits.activations)
    stopped = sum(e.stopped for e in floor.entries)
    lines = [
        f"{floor.n_genomes:,} genomes below {limits.below:,} parameters, of at most {limits.max_depth} convolutions, one activation each ({names}), "
        f"lr {limits.lr:.4g}, lr_decay {limits.lr_decay:.4g}",
        f"{len(floor.entries):,} trained from one seed, {stopped:,} of them stopped early as hopeless",
    ]
    best = floor.best[:1]
    if best:
        lines.append(
            f"the best ended at {best[0].accuracy:.2%} with {best[0].n_params:,} parameters: {best[0].genome}"
        )
    lines += [
        f"{race.n_params:,} parameters, race: mean {race.mean:.2%} over {len(race.accuracies)} fresh seeds, "
        f"{race.n_above(floor.bar)} above {floor.bar:.1%}: {verdict}  {race.candidate.genome}"
        for race, verdict in floor.races
    ]
    if not floor.is_complete:
        lines.append("not complete; run the same command again to go on")
    elif floor.passed:
        lines.append(f"{len(floor.passed)} of them cleared {floor.bar:.1%}")
    else:
        lines.append(f"none of them cleared {floor.bar:.1%}")
    return lines

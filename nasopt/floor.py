"""Evidence that nothing smaller clears the bar: all genomes below a size, within limits, trained and raced.

One training says little of a network that is near the bar. So a floor has a gate, the bar less the study's margin: a
training is stopped where even an optimistic continuation of its curve, learned from the study's own curves, stays below
the gate, and what ends above the gate races over fresh seeds.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import asdict, dataclass, replace
from typing import Any

from nasopt.enumeration import describe_activations
from nasopt.errors import TrainingError, WorkerDiedError
from nasopt.floor_log import FloorEntry, FloorLimits, FloorLog
from nasopt.genome import Genome
from nasopt.racing import RaceRule, RaceVerdict
from nasopt.records import Candidate, Evaluation, Evaluator, Race, trial_seed
from nasopt.verification import run_race
from nasopt.wording import format_share


@dataclass(frozen=True, slots=True)
class Floor:
    """How far a floor is: the entries of ``n_genomes``, and the races of those that ended above ``gate``."""

    limits: FloorLimits
    bar: float
    gate: float
    n_genomes: int
    entries: tuple[FloorEntry, ...]
    races: tuple[tuple[Race, RaceVerdict], ...] = ()

    @property
    def best(self) -> list[FloorEntry]:
        """The entries that were not stopped early, most accurate first."""
        whole = [e for e in self.entries if not e.stopped]
        return sorted(whole, key=lambda e: (-e.accuracy, e.n_params, e.genome))

    @property
    def near(self) -> list[FloorEntry]:
        """The entries above the gate, the smallest first: what is to be raced."""
        above = [e for e in self.best if e.accuracy > self.gate]
        return sorted(above, key=lambda e: (e.n_params, e.genome))

    @property
    def passed(self) -> list[Race]:
        """The races that were won."""
        return [race for race, verdict in self.races if verdict == "accepted"]

    @property
    def is_complete(self) -> bool:
        """Whether every genome was trained, and every one above the gate raced."""
        return len(self.entries) == self.n_genomes and len(self.races) == len(self.near)

    def to_json(self) -> dict[str, Any]:
        """The floor as plain JSON values, with its ten best entries."""
        return {
            **asdict(self.limits),
            "bar": self.bar,
            "gate": self.gate,
            "n_genomes": self.n_genomes,
            "n_trained": len(self.entries),
            "n_stopped": sum(e.stopped for e in self.entries),
            "complete": self.is_complete,
            "races": [race.to_json() | {"verdict": verdict} for race, verdict in self.races],
            "best": [asdict(entry) for entry in self.best[:10]],
        }


@dataclass(frozen=True, slots=True)
class FloorWork:
    """What a floor is done with; ``n_params`` counts a genome's parameters."""

    evaluator: Evaluator
    executor: Executor
    n_workers: int
    study_seed: int
    n_params: Callable[[Genome], int]


def train_floor(
    genomes: Sequence[Genome], log: FloorLog, work: FloorWork, n_most: int | None = None
) -> Generator[FloorEntry, None, None]:
    """Trains what ``log`` does not have yet, at most ``n_most``, once each under its rule; the entries as they come."""
    known = {entry.genome for entry in log.entries}
    left = iter([g for g in genomes if str(g) not in known][:n_most])
    running: dict[Future[Evaluation], Genome] = {}
    try:
        while True:
            while len(running) < work.n_workers and (genome := next(left, None)) is not None:
                candidate = Candidate(genome, log.limits.lr, log.limits.lr_decay)
                seed = trial_seed(work.study_seed, genome)
                future = work.executor.submit(work.evaluator, candidate, seed, log.rule)
                running[future] = genome
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            # What ends all, as a worker that died, says nothing of the others that ended meanwhile: they are kept before.
            for future in sorted(done, key=_ends_all):
                entry = _entry(running.pop(future), future, work)
                log.add_entry(entry)
                yield entry
    finally:
        for future in running:
            future.cancel()


def race_floor(
    floor: Floor, log: FloorLog, rule: RaceRule, work: FloorWork
) -> tuple[tuple[Race, RaceVerdict], ...]:
    """The races of all entries above the gate, the smallest first; seeds that ``log`` has are not trained."""
    races: list[tuple[Race, RaceVerdict]] = []
    for position, entry in enumerate(floor.near, start=1):
        candidate = Candidate(Genome.parse(entry.genome), floor.limits.lr, floor.limits.lr_decay)
        own = replace(rule, position=position, n_candidates=len(floor.near))
        start = Race(position, candidate, entry.n_params, tuple(log.races.get(entry.genome, ())))

        def keep(race: Race, genome: str = entry.genome) -> None:
            log.add_seed(genome, race.accuracies[-1])

        race = run_race(start, own, work.study_seed, work.evaluator, work.executor, keep)
        verdict, n_used = own.decide(race.accuracies)
        races.append((replace(race, accuracies=race.accuracies[:n_used]), verdict))
    return tuple(races)


def _ends_all(future: Future[Evaluation]) -> bool:
    """Whether it failed by what says nothing of its network, which the same command trains again."""
    error = future.exception()
    says_something = isinstance(error, TrainingError) and not isinstance(error, WorkerDiedError)
    return error is not None and not says_something


def _entry(genome: Genome, future: Future[Evaluation], work: FloorWork) -> FloorEntry:
    n_params = work.n_params(genome)
    if future.exception() is not None and not _ends_all(future):
        return FloorEntry(str(genome), n_params, 0.0, 0, stopped=False)
    evaluation = future.result()
    return FloorEntry(
        str(genome), n_params, evaluation.val_accuracy, len(evaluation.curve), evaluation.stopped
    )


def describe_floor(floor: Floor) -> list[str]:
    """What the floor says, in lines."""
    limits = floor.limits
    activations = "; ".join(map(describe_activations, limits.activations))
    stopped = sum(e.stopped for e in floor.entries)
    lines = [
        f"{floor.n_genomes:,} genomes below {limits.below:,} parameters: {_range((limits.min_depth, limits.max_depth))} convolutions, filters {_range(limits.filters)}, "
        f"kernels {_range(limits.kernel)}, {_caps(limits)}{activations}; trained with lr {limits.lr:.4g}, lr_decay {limits.lr_decay:.4g}",
        f"{len(floor.entries):,} trained from one seed, {stopped:,} of them stopped early as hopeless, {len(floor.near):,} above {format_share(floor.gate)} and so {'raced' if len(floor.races) == len(floor.near) else 'to be raced'}",
    ]
    best = floor.best[:1]
    if best:
        lines.append(
            f"the best ended at {best[0].accuracy:.2%} with {best[0].n_params:,} parameters: {best[0].genome}"
        )
    lines += [
        f"{race.n_params:,} parameters, race: mean {race.mean:.2%} over {len(race.accuracies)} fresh seeds, "
        f"{race.n_above(floor.bar)} above {format_share(floor.bar)}: {verdict}  {race.candidate.genome}"
        for race, verdict in floor.races
    ]
    if not floor.is_complete:
        lines.append("not complete; run the same command again to go on")
    elif floor.passed:
        lines.append(f"{len(floor.passed)} of them cleared {format_share(floor.bar)}")
    else:
        lines.append(f"none of them cleared {format_share(floor.bar)}")
    return lines


def _range(bounds: tuple[int, int]) -> str:
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]} to {bounds[1]}"


def _caps(limits: FloorLimits) -> str:
    return "" if limits.max_macs is None else f"at most {limits.max_macs:,} MACs, "

"""The most reliable networks of at most so many parameters: halving over seeds, among the children of the best so far.

A search judges a network by one training or a few, which near the bar is luck. Here a network is trained from 1, 2, 4, ...
64 seeds, and of all that come to a rung only the best go on to the next (asynchronous successive halving). A worker that
is not needed for that trains a new child of the best architectures. It begins with the starts of the study file:

    python studies/halving.py studies/below-1000.toml --log studies/runs/halving.jsonl --minutes 60

Every training is a line of the log, and with a log that is there it goes on. Seeds are those of no study, so that what is
found can be a start of one, and be raced from fresh seeds: ``nasopt search STUDY --trials 8``, ``nasopt verify STUDY --trial 0``.

References:
    Li et al. (2020), A system for massively parallel hyperparameter tuning (ASHA).
"""

import argparse
import itertools
import json
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from running import run_script

from nasopt.errors import SearchStoppedError, TrainingError
from nasopt.evaluation import TrainingEvaluator
from nasopt.files import read_rows, write_rows
from nasopt.genome import Genome
from nasopt.records import TO_THE_END, Candidate, Evaluator, trial_seed
from nasopt.space import SearchSpace
from nasopt.variation import vary
from nasopt.workflow import open_context

RUNGS = (1, 2, 4, 8, 16, 32, 64)
KEPT = 0.3  # of all that came to a rung
N_START = 2  # seeds of every start
N_PARENTS = 16
CROSSOVERS = 0.2
PRIOR_SEEDS = 1.5  # how many seeds of a mediocre network are added to those of each
# An accuracy counts as at most so much above or below the bar: luck hardly, a seed that died a good deal.
MOST_ABOVE, MOST_BELOW = 0.02, 0.1
MAX_CHILDREN = 10_000  # made before one that is allowed


@dataclass(slots=True)
class Entry:
    """A network on trial: accuracies by the numbers of its trainings, how many it is to have, which are under way."""

    accuracies: dict[int, float] = field(default_factory=dict)
    wanted: int = RUNGS[0]
    under_way: set[int] = field(default_factory=set)

    @property
    def n(self) -> int:
        """How many accuracies there are."""
        return len(self.accuracies)

    def next_number(self) -> int:
        """The first training that is neither there nor under way."""
        return next(i for i in itertools.count() if i not in {*self.accuracies, *self.under_way})


@dataclass(slots=True)
class Halving:
    """Says what to train next, of ``sizes`` parameters, and with ``n_features`` filters in the last convolution if given."""

    space: SearchSpace
    bar: float
    sizes: tuple[int, int]
    rng: np.random.Generator
    n_features: int | None = None
    entries: dict[Candidate, Entry] = field(default_factory=dict)

    def start(self, candidates: tuple[Candidate, ...]) -> None:
        """Begins with those of ``candidates`` that are allowed."""
        for candidate in filter(self.allows, candidates):
            self.entries.setdefault(candidate, Entry(wanted=N_START))

    def allows(self, candidate: Candidate) -> bool:
        """Whether the network is one of those that are looked for."""
        genome, (least, most) = candidate.genome, self.sizes
        return (
            least <= self.space.n_params(genome) <= most
            and self.space.why_too_large(genome) is None
            and self.n_features in (None, genome.layers[-1].filters)
        )

    def recall(self, candidate: Candidate, number: int, accuracy: float) -> None:
        """Takes in a training of an earlier run, if the network is allowed in this one."""
        if not self.allows(candidate):
            return
        entry = self.entries.setdefault(candidate, Entry())
        entry.accuracies[number] = accuracy
        entry.wanted = max([entry.wanted, *[rung for rung in RUNGS if rung <= entry.n]])

    def next_training(self) -> tuple[Candidate, int]:
        """A candidate, and the number of its training from 0; :meth:`tell` takes the accuracy."""
        candidate = self._unfilled() or self._promoted() or self._child() or self._least_trained()
        number = self.entries[candidate].next_number()
        self.entries[candidate].under_way.add(number)
        return candidate, number

    def tell(self, candidate: Candidate, number: int, accuracy: float) -> None:
        """Takes in the accuracy of a training that was asked for."""
        self.entries[candidate].under_way.remove(number)
        self.entries[candidate].accuracies[number] = accuracy

    def best(self, n_most: int) -> list[Candidate]:
        """The best candidate of each of the best architectures, few seeds drawn towards the mean of all networks."""
        scores = {c: self._scores(c) for c, entry in self.entries.items() if entry.n}
        if not scores:
            return []
        mediocre = float(np.mean([s.mean() for s in scores.values()]))

        def expected(candidate: Candidate) -> float:
            seen = scores[candidate]
            return float((seen.sum() + PRIOR_SEEDS * mediocre) / (len(seen) + PRIOR_SEEDS))

        best_of: dict[Genome, Candidate] = {}
        for candidate in sorted(scores, key=expected, reverse=True):
            best_of.setdefault(candidate.genome, candidate)
        return list(best_of.values())[:n_most]

    def _scores(self, candidate: Candidate) -> np.ndarray:
        """Accuracies, clipped near the bar."""
        accuracies = list(self.entries[candidate].accuracies.values())
        return np.clip(accuracies, self.bar - MOST_BELOW, self.bar + MOST_ABOVE)

    def _unfilled(self) -> Candidate | None:
        for candidate, entry in self.entries.items():
            if entry.n + len(entry.under_way) < entry.wanted:
                return candidate
        return None

    def _promoted(self) -> Candidate | None:
        for rung, following in reversed(list(itertools.pairwise(RUNGS))):
            there = [c for c, entry in self.entries.items() if entry.n >= rung]
            there.sort(key=lambda c: float(self._scores(c).mean()), reverse=True)
            for candidate in there[: int(KEPT * len(there))]:
                if self.entries[candidate].wanted == rung:
                    self.entries[candidate].wanted = following
                    return candidate
        return None

    def _child(self) -> Candidate | None:
        """A new child of the best, None before any training has ended."""
        parents = self.best(N_PARENTS)
        if not parents:
            return None
        for _ in range(MAX_CHILDREN):
            n_parents = 2 if self.rng.random() < CROSSOVERS else 1
            chosen = [parents[int(self.rng.integers(len(parents)))] for _ in range(n_parents)]
            child = vary(chosen, self.space, self.rng)
            if child not in self.entries and self.allows(child):
                self.entries[child] = Entry()
                return child
        least, most = self.sizes
        raise SearchStoppedError(
            f"none of {MAX_CHILDREN:,} children of the best networks has {least} to {most} parameters and is new; widen "
            "--min-params and --max-params, or begin with other networks"
        )

    def _least_trained(self) -> Candidate:
        """A network on its way to the next rung early: there are more workers than seeds to begin with."""
        candidate = min(self.entries, key=lambda c: self.entries[c].wanted)
        self.entries[candidate].wanted *= 2
        return candidate


def seed_of(candidate: Candidate, number: int) -> int:
    """The seed of a training. Two recipes of one architecture share none, or what is lucky for one would flatter all."""
    recipe = zlib.crc32(f"{candidate.lr!r} {candidate.lr_decay!r}".encode())
    return trial_seed(recipe, candidate.genome, number, "race")


def read_log(path: Path, trained_as: dict[str, object]) -> list[tuple[Candidate, int, float]]:
    """The trainings of earlier runs, in order; a new log begins with ``trained_as``, how all of them are trained.

    Raises:
        SearchStoppedError: if the log holds trainings of another kind.
    """
    head, *rows = read_rows(path) or [trained_as]
    if head != trained_as:
        raise SearchStoppedError(
            f"{path} holds trainings of another kind ({head}, not {trained_as}); name another file with --log"
        )
    write_rows(path, [head, *rows])
    return [
        (
            Candidate(Genome.parse(row["genome"]), row["lr"], row["lr_decay"]),
            row["number"],
            row["val_accuracy"],
        )
        for row in rows
    ]


def append_log(path: Path, candidate: Candidate, number: int, accuracy: float) -> None:
    """Adds a training."""
    row = {
        "genome": str(candidate.genome),
        "lr": candidate.lr,
        "lr_decay": candidate.lr_decay,
        "number": number,
        "val_accuracy": accuracy,
    }
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def run(
    halving: Halving, evaluator: Evaluator, log: Path, n_workers: int, stop: threading.Event
) -> None:
    """Trains on so many threads until ``stop`` is set, or one of them fails; what is under way is finished."""
    lock = threading.Lock()

    def work() -> None:
        while not stop.is_set():
            with lock:
                candidate, number = halving.next_training()
            try:
                seed = seed_of(candidate, number)
                accuracy = evaluator(candidate, seed, TO_THE_END).val_accuracy
            except TrainingError:
                accuracy = 0.0  # as in a race
            with lock:
                halving.tell(candidate, number, accuracy)
                append_log(log, candidate, number, accuracy)

    with ThreadPoolExecutor(n_workers) as executor:
        try:
            for done in as_completed([executor.submit(work) for _ in range(n_workers)]):
                done.result()
        finally:
            stop.set()


def main() -> None:
    """Trains until the time is over, then prints the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--min-params", type=int, default=930)
    parser.add_argument("--max-params", type=int, default=999)
    parser.add_argument("--features", type=int, help="filters of the last convolution")
    parser.add_argument("--seed", type=int, default=1, help="of the children")
    args = parser.parse_args()
    context = open_context(args.study)
    halving = Halving(
        context.plan.space,
        context.settings.bar,
        (args.min_params, args.max_params),
        np.random.default_rng(args.seed),
        args.features,
    )
    halving.start(context.plan.start)
    settings, source = context.settings, context.source
    training = settings.training
    trained_as = {
        "data": source.identity(),
        "epochs": training.epochs,
        "batch_size": training.batch_size,
    }
    args.log.parent.mkdir(parents=True, exist_ok=True)
    for candidate, number, accuracy in read_log(args.log, trained_as):
        halving.recall(candidate, number, accuracy)
    if not halving.entries:
        parser.error("no start of the study file has such a size; name one ([[search.start]])")
    evaluator = TrainingEvaluator(source, settings.recipe, "native")
    stop = threading.Event()
    timer = threading.Timer(60 * args.minutes, stop.set)
    timer.daemon = True
    timer.start()
    try:
        run(halving, evaluator, args.log, args.workers, stop)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on")
    except SearchStoppedError as error:
        print(error)
    for candidate in halving.best(20):
        accuracies = list(halving.entries[candidate].accuracies.values())
        print(
            f"{halving.space.n_params(candidate.genome)} {candidate.genome} "
            f"lr {candidate.lr:.6g} lr_decay {candidate.lr_decay:.6g}: "
            f"{np.mean(accuracies):.2%}, {sum(a > halving.bar for a in accuracies)} of {len(accuracies)} above"
        )


if __name__ == "__main__":
    run_script(main)

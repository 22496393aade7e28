"""Candidates with the trainings that came to their end, and the Pareto front of them."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasopt.pareto import is_non_dominated
from nasopt.records import Candidate, Evaluation, TrialRecord

Array = NDArray[np.float64]

ROUNDING = 1e-12  # what an accuracy may miss that is just met


@dataclass(frozen=True, slots=True)
class CandidateSummary:
    """A candidate with all its trainings of a search that came to their end: one, or one a replicate.

    ``first`` is the earliest of them; ``accuracies`` are their validation accuracies, in order, ``val_accuracy`` the mean.
    ``n_failed`` counts the trainings that gave no accuracy.
    """

    first: TrialRecord
    accuracies: tuple[float, ...]
    n_failed: int = 0
    val_accuracy: float = field(init=False)  # the mean of accuracies
    n_params: int = field(init=False)  # fields, since all of them are read for every replicate

    def __post_init__(self) -> None:
        mean = sum(self.accuracies) / len(self.accuracies)
        object.__setattr__(self, "val_accuracy", mean)
        object.__setattr__(self, "n_params", self.first.n_params)

    @property
    def number(self) -> int:
        """The number of the first trial."""
        return self.first.number

    @property
    def candidate(self) -> Candidate:
        """The candidate."""
        return self.first.candidate

    @property
    def n_runs(self) -> int:
        """How many trainings there are."""
        return len(self.accuracies)

    def shortfall(self, bar: float, margin: float) -> float:
        """What it misses to clear ``bar`` for sure, not above 0 if it does; see :func:`shortfall`."""
        return shortfall(self.accuracies, bar, margin)

    def to_json(self) -> dict[str, Any]:
        """The first trial as plain JSON values, with the mean accuracy and that of every training."""
        return self.first.to_json() | {
            "val_accuracy": self.val_accuracy,
            "val_accuracies": list(self.accuracies),
        }


def shortfall(accuracies: Sequence[float], bar: float, margin: float) -> float:
    """What the mean of ``accuracies`` misses to lie above ``bar`` by ``margin / sqrt(their number)``.

    ``margin`` is what a single training must be above the bar to count: about one standard deviation of an
    accuracy from seed to seed. A mean of ``n`` trainings is known better by the root of ``n``.
    """
    n = len(accuracies)
    return bar + margin / math.sqrt(n) - sum(accuracies) / n - ROUNDING


def completed(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The records of trainings that came to their end, in order of their number."""
    return sorted((r for r in records if r.state == "complete"), key=lambda r: r.number)


def trained(records: Sequence[TrialRecord]) -> dict[int, Evaluation]:
    """What every training of the records came to, stopped or not, by the number of its trial; repeats are left out."""
    return {
        r.number: r.evaluation
        for r in records
        if r.evaluation is not None and r.duplicate_of is None
    }


class CandidateTable:
    """Candidates with their trainings that came to their end, kept up to date record by record.

    ``summaries`` has one entry a candidate, in the order in which they came. What is asked of all of them after every trial is
    kept in columns besides, shape ``(c,)``.
    """

    def __init__(self, records: Sequence[TrialRecord] = ()) -> None:
        """Begins with ``records``, in order of their number."""
        self.summaries: list[CandidateSummary] = []
        self._rows: dict[Candidate, int] = {}
        self._runs: dict[Candidate, list[TrialRecord]] = {}
        self._failures: Counter[Candidate] = Counter()
        self._columns = np.zeros((4, 64))  # with room for more candidates
        for record in sorted(records, key=lambda r: r.number):
            self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Takes in one more record; those stopped early, and repeats, change nothing."""
        candidate = record.candidate
        if record.state == "failed":
            self._failures[candidate] += 1
        elif record.state != "complete" or record.duplicate_of is not None:
            return
        else:
            runs = self._runs.setdefault(candidate, [])
            runs.append(record)
            runs.sort(key=lambda r: r.number)
        if candidate in self._runs:
            runs = self._runs[candidate]
            accuracies = tuple(r.val_accuracy for r in runs)
            self._put(CandidateSummary(runs[0], accuracies, self._failures[candidate]))

    def _put(self, summary: CandidateSummary) -> None:
        row = self._rows.setdefault(summary.candidate, len(self.summaries))
        if row == len(self.summaries):
            self.summaries.append(summary)
            if row == self._columns.shape[1]:
                self._columns = np.hstack((self._columns, np.zeros_like(self._columns)))
        self.summaries[row] = summary
        n_trained = summary.n_runs + summary.n_failed
        self._columns[:, row] = summary.n_params, summary.val_accuracy, summary.n_runs, n_trained

    def get(self, candidate: Candidate) -> CandidateSummary | None:
        """The summary of ``candidate``, if it has one."""
        row = self._rows.get(candidate)
        return None if row is None else self.summaries[row]

    @property
    def sizes(self) -> Array:
        """The parameters of every candidate."""
        return self._columns[0, : len(self.summaries)]

    @property
    def accuracies(self) -> Array:
        """The mean validation accuracy of every candidate."""
        return self._columns[1, : len(self.summaries)]

    @property
    def n_runs(self) -> Array:
        """The number of trainings of every candidate that gave an accuracy."""
        return self._columns[2, : len(self.summaries)]

    @property
    def n_trained(self) -> Array:
        """The number of trainings of every candidate, those that failed included."""
        return self._columns[3, : len(self.summaries)]

    def front(self) -> list[CandidateSummary]:
        """The candidates that no other dominates by size and mean accuracy, smallest first, each point once."""
        return _front(self.summaries, self.sizes, self.accuracies)

    def smallest_above(self, bar: float) -> CandidateSummary | None:
        """The smallest candidate whose mean accuracy is above ``bar``, the first of them; None if there is none."""
        above = np.flatnonzero(self.accuracies > bar)
        if not len(above):
            return None
        smallest = above[self.sizes[above] == self.sizes[above].min()]
        return min((self.summaries[int(i)] for i in smallest), key=lambda s: s.number)


def summarize_candidates(records: Sequence[TrialRecord]) -> list[CandidateSummary]:
    """Every candidate with a training that came to its end, in order of the first of these."""
    return CandidateTable(records).summaries


def pareto_front(records: Sequence[TrialRecord]) -> list[CandidateSummary]:
    """The candidates that no other dominates by size and mean accuracy, smallest first, each point once."""
    return CandidateTable(records).front()


def front_of(summaries: Sequence[CandidateSummary]) -> list[CandidateSummary]:
    """Those of ``summaries`` that no other dominates, smallest first, each point once."""
    sizes, accuracies = [s.n_params for s in summaries], [s.val_accuracy for s in summaries]
    return _front(summaries, sizes, accuracies)


def _front(
    summaries: Sequence[CandidateSummary], sizes: ArrayLike, accuracies: ArrayLike
) -> list[CandidateSummary]:
    keep = is_non_dominated(np.column_stack((sizes, np.negative(accuracies))))
    front = list(itertools.compress(summaries, keep.tolist()))
    # On a front a size has one accuracy; of several networks the first counts, in whatever order they ended.
    points = {s.n_params: s for s in sorted(front, key=lambda s: -s.number)}
    return [points[size] for size in sorted(points)]

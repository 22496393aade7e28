"""What a trial may know, and a history as arrays that grow with it, so that no candidate is described twice.

``n`` is the number of observations, ``c`` that of distinct candidates, ``d`` that of features.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

C = TypeVar("C", bound=Hashable)
Array = NDArray[np.float64]


def n_known_to(number: int, generation_size: int) -> int:
    """Of how many trials, from the first, the results are known to the trial of that number.

    They are those of the generations before the one before its own, whatever has ended by then: so a study is one
    trajectory, and a generation can start before the one before it has ended.
    """
    return max(number // generation_size - 1, 0) * generation_size


@dataclass(frozen=True, slots=True)
class Observation(Generic[C]):
    """A candidate and its accuracy; None if its evaluation failed."""

    candidate: C
    accuracy: float | None


@dataclass(slots=True)
class Ledger(Generic[C]):
    """The observations of a history in order of time, and every distinct candidate in order of its first.

    ``describe(candidate)`` gives its size and its features, shape ``(d,)``.
    """

    describe: Callable[[C], tuple[float, Array]]
    history: list[Observation[C]] = field(default_factory=list)
    rows: dict[C, int] = field(default_factory=dict)
    _row_of: list[int] = field(default_factory=list)
    _accuracies: list[float] = field(default_factory=list)
    _sizes: list[float] = field(default_factory=list)
    _new_features: list[Array] = field(default_factory=list)
    _table: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def follow(self, history: Sequence[Observation[C]]) -> None:
        """Takes in what ``history`` has more; where it is not a continuation, all of it anew."""
        n = len(self.history)
        if self.history != list(history[:n]):
            self.history, self.rows = [], {}
            self._row_of, self._accuracies = [], []
            self._sizes, self._new_features = [], []
            self._table = np.zeros((0, 0))
            n = 0
        for observation in history[n:]:
            row = self.rows.setdefault(observation.candidate, len(self.rows))
            if row == len(self._sizes):
                size, features = self.describe(observation.candidate)
                self._sizes.append(size)
                self._new_features.append(features)
            self._row_of.append(row)
            self._accuracies.append(
                math.nan if observation.accuracy is None else observation.accuracy
            )
            self.history.append(observation)

    @property
    def row_of(self) -> NDArray[np.int_]:
        """The candidate of every observation, shape ``(n,)``."""
        return np.array(self._row_of, dtype=int)

    @property
    def accuracies(self) -> Array:
        """The accuracy of every observation, NaN where it failed, shape ``(n,)``."""
        return np.array(self._accuracies)

    @property
    def sizes(self) -> Array:
        """The size of every candidate, shape ``(c,)``."""
        return np.array(self._sizes)

    @property
    def features(self) -> Array:
        """The features of every candidate, shape ``(c, d)``."""
        if self._new_features:
            new = np.stack(self._new_features)
            self._table = np.concatenate((self._table, new)) if len(self._table) else new
            self._new_features = []
        return self._table

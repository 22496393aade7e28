"""What a history of trainings tells of accuracy: a Gaussian process on standardised logarithmic errors.

``n`` is the number of observations, ``m`` that of new points.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nasopt.pareto import non_dominated_ranks
from nasopt.search.ledger import Array, Ledger, Observation
from nasopt.search.surrogate import GaussianProcess, Hyperparameters, fit_hyperparameters

C = TypeVar("C", bound=Hashable)

MIN_ERROR = 1e-4
MAX_MODELLED = 500
MAX_FITTED = 200
REFIT_FACTOR = 1.25


@dataclass(frozen=True, slots=True)
class AccuracyModel:
    """A Gaussian process whose targets are logarithmic errors, less ``center``, in units of ``scale``."""

    process: GaussianProcess
    center: float
    scale: float

    def accuracies(self, targets: Array) -> Array:
        """The accuracies that the process's targets stand for, shape ``(m,)``."""
        return np.asarray(1 - np.exp(targets * self.scale + self.center))

    def target(self, accuracy: float) -> float:
        """What stands for ``accuracy`` among the process's targets."""
        return float((_log_errors(np.array([accuracy]))[0] - self.center) / self.scale)


@dataclass(slots=True)
class AccuracyLearner(Generic[C]):
    """Makes the model of a history; what is kept between calls is only what would be computed again.

    ``n_start`` is the least history that is modelled; ``groups`` numbers the features that share a length scale, all
    of them if None.
    """

    n_start: int
    groups: Sequence[int] | None = None
    _fits: dict[int, tuple[tuple[Observation[C], ...], Hyperparameters]] = field(
        default_factory=dict
    )

    def fit(self, ledger: Ledger[C]) -> AccuracyModel:
        """The model of a history; hyperparameters come from an earlier, fixed part of it."""
        history, row_of = ledger.history, ledger.row_of
        sizes, features = ledger.sizes[row_of], ledger.features
        # What failed counts as the worst accuracy before it, or as the first one where there was none.
        observed = ledger.accuracies
        failed = np.isnan(observed)
        worst = np.fmin.accumulate(observed)
        worst[np.isnan(worst)] = observed[~failed][0]
        accuracies = np.where(failed, worst, observed)
        logs = _log_errors(accuracies)
        chosen = _informative(sizes, accuracies, MAX_MODELLED)
        center, scale = float(logs[chosen].mean()), float(logs[chosen].std()) or 1.0
        n_fitted = _fitted_at(len(history), self.n_start)
        fitted = tuple(history[:n_fitted])
        if n_fitted not in self._fits or self._fits[n_fitted][0] != fitted:
            part = _informative(sizes[:n_fitted], accuracies[:n_fitted], MAX_FITTED)
            targets = logs[part]
            targets = (targets - targets.mean()) / (targets.std() or 1.0)
            groups = np.zeros(features.shape[1], dtype=int)
            if self.groups is not None:
                groups = np.asarray(self.groups)
            found = fit_hyperparameters(features[row_of[part]], targets, groups)
            self._fits[n_fitted] = (fitted, found)
        targets = (logs[chosen] - center) / scale
        process = GaussianProcess(features[row_of[chosen]], targets, self._fits[n_fitted][1])
        return AccuracyModel(process, center, scale)


def _log_errors(accuracies: Array) -> Array:
    return np.asarray(np.log(np.maximum(1 - accuracies, MIN_ERROR)))


def _informative(sizes: Array, accuracies: Array, n_most: int) -> NDArray[np.int_]:
    """Which observations a model is made of, at most ``n_most``: half of them nearest to the front.

    The other half is spread evenly over the rest, best to worst: a model that forgets what was bad
    becomes curious about it again.
    """
    if len(sizes) <= n_most:
        return np.arange(len(sizes))
    ranks = non_dominated_ranks(np.column_stack((sizes, -accuracies)))
    order = np.lexsort((-np.arange(len(sizes)), ranks))
    half = n_most // 2
    spread = np.linspace(half, len(sizes) - 1, n_most - half).round().astype(int)
    return np.sort(order[np.concatenate((np.arange(half), spread))])


def _fitted_at(n: int, n_start: int) -> int:
    """The last of the growing sizes of history, up to ``n``, at which hyperparameters are fitted anew."""
    size = n_start
    while (following := int(size * REFIT_FACTOR) + 1) <= n:
        size = following
    return min(size, n)

"""A Gaussian process that learns accuracy: its hyperparameters, its posterior mean and deviation.

``n`` is the number of observations, ``d`` that of features, ``g`` that of groups of features, ``m``
that of new points. The kernel is ``s2 * exp(-sum over groups of (squared distance / scale))``. For one
category in one-hot coding this is the exponential Hamming kernel; for numbers it is the squared
exponential one. Noise is independent and of equal variance.

All linear algebra runs on one thread: its matrices are small, and trainings keep the cores busy, so that
the threads of a BLAS wait for each other (at 1,000 trials, with two busy cores, a trial took 0.5 s of
processor time with two threads, 0.1 s with one).

References:
    Rasmussen and Williams (2006), algorithm 2.1 and equations 5.8 and 5.9.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

Array = NDArray[np.float64]

JITTER = 1e-8
MAX_STEPS = 20
MIN_DISTANCE = 1e-12
N_ROWS = 200
# Standard deviations of the normal priors on the logarithms of variance, noise and scales.
PRIOR_SD = (1.0, 2.0, 1.0)
PRIOR_NOISE = 1e-2
_BLAS = ThreadpoolController().select(
    user_api="blas"
)  # of numpy and scipy, which are loaded above


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What the kernel is made of; ``scales`` holds one positive number a feature, shape ``(d,)``."""

    variance: float
    noise: float
    scales: Array

    def kernel(self, left: Array, right: Array) -> Array:
        """The covariance of every row of ``left`` with every row of ``right``."""
        # Far from the origin the squares below would cancel out to nothing but rounding.
        origin, roots = right[:1], np.sqrt(self.scales)
        a, b = (left - origin) / roots, (right - origin) / roots
        # 2ab - aa - bb as one product: passes over the result cost more than the columns do.
        lefts = np.column_stack((2 * a, -np.sum(a * a, axis=1), np.ones(len(a))))
        rights = np.column_stack((b, np.ones(len(b)), -np.sum(b * b, axis=1)))
        exponents = lefts @ rights.T
        np.exp(np.minimum(exponents, 0.0, out=exponents), out=exponents)
        exponents *= self.variance
        return np.asarray(exponents)


def fit_hyperparameters(
    features: Array, targets: Array, groups: NDArray[np.int_]
) -> Hyperparameters:
    """The maximum a posteriori hyperparameters; features of one group, shape ``(d,)``, share a scale.

    ``features`` has shape ``(n, d)``, ``targets``, of mean 0 and variance 1, shape ``(n,)``.
    Scales are sought around half the number of groups times the mean distance of the data in a group, so
    that no unit of a feature matters.
    """
    names = np.unique(groups)
    distances = np.stack([_squared_distances(features[:, groups == name]) for name in names])
    means = np.array([float(d.mean()) for d in distances])
    means[means < MIN_DISTANCE] = 1.0  # a group that does not vary, as a fixed learning rate
    distances /= means[:, None, None]
    start = np.array([0.0, np.log(PRIOR_NOISE), *[np.log(len(names) / 2)] * len(names)])
    sds = np.array([*PRIOR_SD[:2], *[PRIOR_SD[2]] * len(names)])

    def loss(theta: Array) -> tuple[float, Array]:
        weights = np.exp(-theta[2:])
        signal = np.exp(theta[0]) * np.exp(-np.tensordot(weights, distances, axes=1))
        noise = np.exp(theta[1])
        covariance = signal + (noise + JITTER) * np.eye(len(targets))
        factor = np.linalg.cholesky(covariance)
        inverse = cho_solve((factor, True), np.eye(len(targets)))
        alpha = inverse @ targets
        value = 0.5 * targets @ alpha + np.log(np.diag(factor)).sum()
        slope = 0.5 * (inverse - np.outer(alpha, alpha))
        weighted = slope * signal
        gradient = np.array(
            [
                weighted.sum(),
                noise * np.trace(slope),
                *(w * np.vdot(weighted, d) for w, d in zip(weights, distances, strict=True)),
            ]
        )
        offset = (theta - start) / sds
        return float(value + 0.5 * offset @ offset), gradient + offset / sds

    bounds = [(s - 4 * sd, s + 4 * sd) for s, sd in zip(start, sds, strict=True)]
    with _BLAS.limit(limits=1):
        found = minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_STEPS}
        ).x
    scale_of = dict(zip(names.tolist(), np.exp(found[2:]) * means, strict=True))
    scales = np.array([scale_of[group] for group in groups.tolist()])
    return Hyperparameters(float(np.exp(found[0])), float(np.exp(found[1])), scales)


class GaussianProcess:
    """The posterior after ``targets``, shape ``(n,)``, were seen at ``features``, shape ``(n, d)``."""

    def __init__(self, features: Array, targets: Array, hyperparameters: Hyperparameters) -> None:
        self._features = features
        self._hyperparameters = hyperparameters
        with _BLAS.limit(limits=1):
            covariance = hyperparameters.kernel(features, features)
            covariance.flat[:: len(targets) + 1] += hyperparameters.noise + JITTER
            self._factor = np.linalg.cholesky(covariance)
            self._alpha = cho_solve((self._factor, True), targets)

    def mean(self, features: Array) -> Array:
        """The posterior mean, shape ``(m,)``, at ``features``, shape ``(m, d)``."""
        kernel = self._hyperparameters.kernel
        # Some rows at a time, so that the kernel stays in the cache.
        parts = [features[i : i + N_ROWS] for i in range(0, len(features), N_ROWS)]
        with _BLAS.limit(limits=1):
            means = [kernel(part, self._features) @ self._alpha for part in parts]
        return np.concatenate(means) if means else np.zeros(0)

    def foresee(self, features: Array) -> "Outlook":
        """What is expected at ``features``, shape ``(m, d)``, before anything is under way."""
        kernel = self._hyperparameters.kernel
        with _BLAS.limit(limits=1):
            cross = kernel(features, self._features)
            solved = self._solve(cross.T)
            variance = self._hyperparameters.variance - np.sum(solved * solved, axis=0)
            return Outlook(features, cross @ self._alpha, variance, solved)

    def deviation(self, outlook: "Outlook", pending: Array) -> Array:
        """The posterior standard deviation without noise where ``outlook`` looks, shape ``(m,)``.

        Observations at ``pending``, shape ``(k, d)``, are under way: they leave the mean as it is, and
        the deviation is what it will be when they are known.
        """
        kernel, variance = self._hyperparameters.kernel, outlook.variance
        if len(pending):
            with _BLAS.limit(limits=1):
                met = self._solve(kernel(self._features, pending))
                covariance = kernel(pending, pending) - met.T @ met
                covariance.flat[:: len(pending) + 1] += self._hyperparameters.noise + JITTER
                rest = kernel(pending, outlook.features) - met.T @ outlook.solved
                told = solve_triangular(np.linalg.cholesky(covariance), rest, lower=True)
                variance = variance - np.sum(told * told, axis=0)
        return np.asarray(np.sqrt(np.maximum(variance, JITTER)))

    def _solve(self, right: Array) -> Array:
        return np.asarray(solve_triangular(self._factor, right, lower=True, check_finite=False))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a process of ``n`` observations expects at ``features``, shape ``(m, d)``.

    ``mean`` and ``variance`` have shape ``(m,)``; ``solved``, shape ``(n, m)``, is the triangular factor's solution
    for the covariances with the observations, from which the variance followed.
    """

    features: Array
    mean: Array
    variance: Array
    solved: Array


def _squared_distances(features: Array) -> Array:
    squares = np.sum(features * features, axis=1)
    return np.asarray(np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0.0))

"""Dominance and hypervolume on plain arrays; every objective is minimised.

``n`` is the number of points, ``m`` the number of objectives.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def is_non_dominated(losses: ArrayLike) -> NDArray[np.bool_]:
    """A mask, shape ``(n,)``, of the points of ``losses``, shape ``(n, m)``, that no other dominates.

    A point dominates another when it is nowhere larger and somewhere smaller; equal points do not
    dominate each other.

    Raises:
        ValueError: if ``losses`` is not two-dimensional or holds a NaN.
    """
    points = _as_points(losses)
    unique, inverse = np.unique(points, axis=0, return_inverse=True)
    keep = np.ones(len(unique), dtype=bool)
    # Sorted lexicographically, a point can only be dominated by one before it.
    for i in range(1, len(unique)):
        front = unique[:i][keep[:i]]
        keep[i] = not np.any(np.all(front <= unique[i], axis=1))
    return keep[inverse.reshape(-1)]


def hypervolume(losses: ArrayLike, ref_point: ArrayLike) -> float:
    """The area that ``losses``, shape ``(n, 2)``, dominate up to ``ref_point``, shape ``(2,)``.

    Points that are not better than the reference point in both objectives add nothing.

    Raises:
        ValueError: if there are not exactly two objectives, or a value is NaN.

    References:
        Zitzler and Thiele (1998).
    """
    points = _as_points(losses)
    ref = np.asarray(ref_point, dtype=float)
    if points.shape[1] != 2 or ref.shape != (2,):
        raise ValueError(
            f"hypervolume takes 2 objectives, got points {points.shape} and ref_point {ref.shape}"
        )
    points = points[np.all(points < ref, axis=1)]
    points = points[is_non_dominated(points)] if len(points) else points
    points = np.unique(points, axis=0)
    # Along a front sorted by the first objective the second falls: a staircase of rectangles.
    upper = np.concatenate(([ref[1]], points[:-1, 1]))
    return float(np.sum((ref[0] - points[:, 0]) * (upper - points[:, 1])))


def _as_points(losses: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(losses, dtype=float)
    if points.size == 0:
        points = points.reshape(0, 2 if points.ndim < 2 else points.shape[1])
    if points.ndim != 2:
        raise ValueError(f"expected an array of points, shape (n, m), got shape {points.shape}")
    if np.isnan(points).any():
        raise ValueError("a loss is NaN; leave points without a value out")
    return points

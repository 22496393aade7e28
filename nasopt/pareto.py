"""Dominance and hypervolume on plain arrays; every objective is minimised.

``n`` is the number of points, ``m`` the number of objectives.
"""

from bisect import bisect_right

import numpy as np
from numpy.typing import ArrayLike, NDArray


def is_non_dominated(losses: ArrayLike) -> NDArray[np.bool_]:
    """A mask, shape ``(n,)``, of the points of ``losses``, shape ``(n, 2)``, that no other dominates.

    A point dominates another when it is nowhere larger and somewhere smaller; equal points do not
    dominate each other.

    Raises:
        ValueError: if there are not exactly two objectives, or a value is NaN.
    """
    points = _as_points(losses)
    if points.shape[1] != 2:
        raise ValueError(f"the front takes 2 objectives, got points {points.shape}")
    order = np.lexsort((points[:, 1], points[:, 0]))
    ordered = points[order]
    lowest_before = np.concatenate(([np.inf], np.minimum.accumulate(ordered[:, 1])[:-1]))
    is_first = _is_first(ordered)
    keep_by_point = (ordered[:, 1] < lowest_before)[is_first]
    keep_by_point[:1] = True  # even at infinity
    keep = np.empty(len(points), dtype=bool)
    keep[order] = keep_by_point[np.cumsum(is_first) - 1]
    return keep


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
    points = np.unique(points[is_non_dominated(points)], axis=0)
    # Along a front sorted by the first objective the second falls: a staircase of rectangles.
    upper = np.concatenate(([ref[1]], points[:-1, 1]))
    return float(np.sum((ref[0] - points[:, 0]) * (upper - points[:, 1])))


def hypervolume_gains(
    losses: ArrayLike, new: ArrayLike, ref_point: ArrayLike
) -> NDArray[np.float64]:
    """The area, shape ``(k,)``, that each point of ``new``, shape ``(k, 2)``, alone would add to ``losses``.

    Raises:
        ValueError: if there are not exactly two objectives, or a value is NaN.
    """
    points, added = _as_points(losses), _as_points(new)
    ref = np.asarray(ref_point, dtype=float)
    if points.shape[1] != 2 or added.shape[1] != 2 or ref.shape != (2,):
        raise ValueError(
            f"hypervolume takes 2 objectives, got {points.shape}, {added.shape} and {ref.shape}"
        )
    points = points[np.all(points < ref, axis=1)]
    points = np.unique(points[is_non_dominated(points)], axis=0)
    # Steps of the staircase: from one first objective to the next it is as high as the second objective.
    left = np.concatenate(([-np.inf], points[:, 0]))
    right = np.concatenate((points[:, 0], [ref[0]]))
    height = np.concatenate(([ref[1]], points[:, 1]))
    width = np.maximum(right - np.maximum(left, added[:, :1]), 0.0)
    return np.asarray(np.sum(width * np.maximum(height - added[:, 1:], 0.0), axis=1))


def non_dominated_ranks(losses: ArrayLike) -> NDArray[np.int_]:
    """The rank, shape ``(n,)``, of every point of ``losses``, shape ``(n, 2)``: 0 for the front.

    Rank ``r`` is the front of what is left when all lower ranks are taken away. Equal points share one.

    Raises:
        ValueError: if there are not exactly two objectives, or a value is NaN.

    References:
        Deb et al. (2002); in two objectives by sorting, Jensen (2003).
    """
    points = _as_points(losses)
    if points.shape[1] != 2:
        raise ValueError(f"ranks take 2 objectives, got points {points.shape}")
    order = np.lexsort((points[:, 1], points[:, 0]))
    is_first = _is_first(points[order])
    # The second objective that a rank has come down to, growing with the rank.
    lowest: list[float] = []
    ranks_by_point: list[int] = []
    for second in points[order[is_first], 1].tolist():
        rank = bisect_right(lowest, second)
        if rank == len(lowest):
            lowest.append(second)
        else:
            lowest[rank] = second
        ranks_by_point.append(rank)
    ranks = np.empty(len(points), dtype=int)
    ranks[order] = np.array(ranks_by_point, dtype=int)[np.cumsum(is_first) - 1]
    return ranks


def crowding_distance(losses: ArrayLike) -> NDArray[np.float64]:
    """How alone every point of a front, shape ``(n, m)``, is: shape ``(n,)``, infinite at its ends.

    In each objective it is the gap between a point's two neighbours, as a share of the front's range.

    References:
        Deb et al. (2002).
    """
    points = _as_points(losses)
    distance = np.zeros(len(points))
    for values in points.T if len(points) else ():
        order = np.argsort(values, kind="stable")
        spread = values[order[-1]] - values[order[0]]
        distance[order[[0, -1]]] = np.inf
        if spread > 0:
            distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / spread
    return distance


def _is_first(ordered: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of ``ordered``, where equal ones are neighbours, are the first of their kind."""
    is_first = np.ones(len(ordered), dtype=bool)
    is_first[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    return is_first


def _as_points(losses: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(losses, dtype=float)
    if points.size == 0:
        points = points.reshape(0, 2 if points.ndim < 2 else points.shape[1])
    if points.ndim != 2:
        raise ValueError(f"expected an array of points, shape (n, m), got shape {points.shape}")
    if np.isnan(points).any():
        raise ValueError("a loss is NaN; leave points without a value out")
    return points

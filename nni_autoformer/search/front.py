"""What is best in several respects at once: non-dominated sorting and crowding distance (NSGA-II, Deb et al.
2002), and the hypervolume that a set dominates.

Every function takes one row per point and one column per objective, and minimises each objective. One point
dominates another if it is as low in every objective and lower in one; equal points don't dominate each other.
What a function says of a point depends on the set of points alone, never on their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import ArrayLike, NDArray


def non_dominated(points: ArrayLike) -> NDArray[numpy.bool_]:
    """Which points no other one dominates.

    Args:
        points: (points, objectives).

    Raises:
        ValueError: `points` is no such table, or a value is NaN.
    """
    table = _table(points)
    distinct, place = _distinct(table)
    # in lexicographic order no point is dominated by a later one: what is left when its turn comes stays
    left = numpy.arange(len(distinct))
    turn = 0
    while turn < len(left):
        beaten = (distinct[left] >= distinct[left[turn]]).all(axis=1)
        beaten[turn] = False
        left = left[~beaten]
        turn += 1
    kept = numpy.zeros(len(distinct), dtype=bool)
    kept[left] = True
    return kept[place]


def front(points: ArrayLike) -> list[int]:
    """The places of the points that no other one dominates, in lexicographic order; of equal points that of
    the first.

    Raises:
        ValueError: `points` is no such table, or a value is NaN.
    """
    table = _table(points)
    distinct, first = numpy.unique(table, axis=0, return_index=True)
    return [int(place) for place in first[non_dominated(distinct)]]


def fronts(points: ArrayLike) -> NDArray[numpy.int64]:
    """Each point's front: 0 for those that none dominates, 1 for those that only points of front 0 dominate,
    and so on.

    Args:
        points: (points, objectives).

    Raises:
        ValueError: `points` is no such table, or a value is NaN.
    """
    table = _table(points)
    ranks = numpy.zeros(len(table), dtype=numpy.int64)
    left = numpy.arange(len(table))
    rank = 0
    while len(left):
        first = non_dominated(table[left])
        ranks[left[first]] = rank
        left = left[~first]
        rank += 1
    return ranks


def crowding(points: ArrayLike) -> NDArray[numpy.float64]:
    """How much room each point of a front has to itself: the sum over objectives of the distance between its
    two neighbours, as a share of the range; infinite for the lowest and the highest of an objective.

    Equal points have the same distance, that of one such point among the others (Fortin and Parizeau 2013).
    An objective in which all points are equal counts nothing.

    Args:
        points: (points, objectives) of one front, finite.

    Raises:
        ValueError: `points` is no such table, or a value is not finite.
    """
    table = _table(points)
    if not numpy.isfinite(table).all():
        raise ValueError("every value should be finite")
    distinct, place = _distinct(table)
    distances = numpy.zeros(len(distinct))
    for objective in range(distinct.shape[1]):
        order = numpy.argsort(
            distinct[:, objective], kind="stable"
        )  # of equal values, the rows' order decides
        values = distinct[order, objective]
        if len(values) and values[0] < values[-1]:
            distances[order[[0, -1]]] = numpy.inf
            distances[order[1:-1]] += (values[2:] - values[:-2]) / (values[-1] - values[0])
    if len(distinct) == 1:
        distances[:] = numpy.inf
    return distances[place]


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """The volume that lies between some points and a reference point: of all that a point of the set
    dominates and that dominates the reference.

    Exact, by slices along the last objective; meant for some hundred points in up to four objectives.

    Args:
        points: (points, objectives); those that are not lower than the reference everywhere count nothing.
        reference: a value per objective that is still worth something.

    Raises:
        ValueError: `points` is no such table, a value is NaN, or the reference has another number of
            objectives.
    """
    table, corner = _table(points), numpy.asarray(reference, dtype=float)
    if corner.shape != (table.shape[1],) or numpy.isnan(corner).any():
        raise ValueError(f"the reference should have {table.shape[1]} numbers, one per objective")
    table = table[(table < corner).all(axis=1)]
    return _volume(table[non_dominated(table)], corner)


def _volume(table: NDArray[numpy.float64], corner: NDArray[numpy.float64]) -> float:
    """Of points that are lower than the corner everywhere."""
    if not len(table):
        return 0.0
    if table.shape[1] == 1:
        return float(corner[0] - table.min())
    table = table[numpy.argsort(table[:, -1], kind="stable")]
    levels = numpy.append(table[1:, -1], corner[-1])
    if table.shape[1] == 2:
        return float(numpy.sum((levels - table[:, 1]) * (corner[0] - numpy.minimum.accumulate(table[:, 0]))))
    total = 0.0
    front = table[:0, :-1]
    area = 0.0
    for point, level in zip(table, levels):
        if not (front <= point[:-1]).all(axis=1).any():  # else it adds nothing to the slices above it
            front = numpy.vstack([front[~(front >= point[:-1]).all(axis=1)], point[:-1]])
            area = _volume(front, corner[:-1])
        total += float(level - point[-1]) * area
    return total


def _table(points: ArrayLike) -> NDArray[numpy.float64]:
    table = numpy.asarray(points, dtype=float)
    if table.ndim != 2 or table.shape[1] < 1:
        raise ValueError(f"points of shape {table.shape}; it should be (points, objectives)")
    if numpy.isnan(table).any():
        raise ValueError("a value is NaN")
    return table


def _distinct(table: NDArray[numpy.float64]) -> tuple[NDArray[numpy.float64], NDArray[numpy.int64]]:
    """The different rows in lexicographic order, and the place among them of every row."""
    distinct, place = numpy.unique(table, axis=0, return_inverse=True)
    return distinct, place.reshape(-1)

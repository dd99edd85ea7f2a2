"""Fronts against their definitions, spelled out point by point."""

import itertools
import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_autoformer.search.front import crowding, front, fronts, hypervolume, non_dominated

QUICK = settings(max_examples=60, deadline=None)


@st.composite
def tables(draw, most=12, low=0, high=6, least_points=0):
    """Small whole numbers, so that there are ties and equal points."""
    width = draw(st.integers(2, 4))
    row = st.tuples(*[st.integers(low, high)] * width)
    rows = draw(st.lists(row, min_size=least_points, max_size=most))
    return numpy.array(rows, dtype=float).reshape(-1, width)


def dominates(one, other):
    return all(a <= b for a, b in zip(one, other)) and any(a < b for a, b in zip(one, other))


def by_definition(points):
    """Ranks of all points, front after front."""
    ranks, left = {}, set(range(len(points)))
    for rank in itertools.count():
        if not left:
            return [ranks[place] for place in range(len(points))]
        first = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        ranks.update(dict.fromkeys(first, rank))
        left -= first


@QUICK
@given(tables())
def test_fronts_are_those_of_the_definition(points):
    assert fronts(points).tolist() == by_definition(points)
    assert non_dominated(points).tolist() == [rank == 0 for rank in by_definition(points)]


@QUICK
@given(tables(high=4))
def test_the_hypervolume_is_the_number_of_unit_cells_that_are_dominated(points):
    width = points.shape[1]
    cells = itertools.product(range(5), repeat=width)
    dominated = sum(any(all(p <= c for p, c in zip(point, cell)) for point in points) for cell in cells)
    assert hypervolume(points, [5] * width) == dominated


@QUICK
@given(tables(least_points=1), st.randoms(use_true_random=False))
def test_the_order_of_the_points_does_not_matter(points, rng):
    order = list(range(len(points)))
    rng.shuffle(order)
    assert fronts(points)[order].tolist() == fronts(points[order]).tolist()
    assert crowding(points)[order].tolist() == crowding(points[order]).tolist()
    reference = [7] * points.shape[1]
    assert hypervolume(points, reference) == hypervolume(points[order], reference)


@QUICK
@given(tables(least_points=1))
def test_equal_points_share_rank_and_distance_and_add_no_volume(points):
    twice = numpy.vstack([points, points])
    for function in (fronts, crowding):
        first, second = numpy.split(function(twice), 2)
        assert first.tolist() == second.tolist() == function(points).tolist()
    reference = [7] * points.shape[1]
    assert hypervolume(twice, reference) == hypervolume(points, reference)


@QUICK
@given(tables(least_points=1))
def test_the_front_names_each_point_once_in_lexicographic_order(points):
    first = {tuple(point): place for place, point in reversed(list(enumerate(points.tolist())))}
    best = non_dominated(points)
    assert front(points) == [place for _, place in sorted(first.items()) if best[place]]


def test_crowding_is_the_sum_of_the_gaps_to_both_sides_as_shares_of_the_range():
    points = [(0, 10), (1, 6), (4, 5), (10, 0)]
    assert crowding(points).tolist() == [math.inf, 0.4 + 0.5, 0.9 + 0.6, math.inf]


def test_an_objective_without_a_range_counts_nothing():
    assert crowding([(0, 3, 2), (1, 3, 1), (2, 3, 0)]).tolist() == [math.inf, 2, math.inf]
    assert crowding([(1, 2)]).tolist() == [math.inf]


def test_the_volume_of_a_few_known_points():
    assert hypervolume([(1, 2), (2, 1)], (3, 3)) == 3
    assert hypervolume([(0.5, 0.5, 0.5)], (1, 1, 1)) == pytest.approx(0.125)
    assert hypervolume([(0, 3), (3, 0), (5, 5)], (3, 3)) == 0  # none is lower than the reference everywhere


def test_infinite_objectives_are_dominated_by_finite_ones():
    points = [(1, 1), (math.inf, 0), (math.inf, 1)]
    assert fronts(points).tolist() == [0, 0, 1]
    assert hypervolume(points, (2, 2)) == 1


@pytest.mark.parametrize("function", [fronts, non_dominated, crowding])
@pytest.mark.parametrize("points", [[1, 2], [(1, math.nan)], [[]]])
def test_what_is_no_table_of_numbers_is_refused(function, points):
    with pytest.raises(ValueError, match=r"points of shape|NaN|finite"):
        function(points)


def test_a_reference_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 numbers"):
        hypervolume([(1, 2)], (3, 3, 3))

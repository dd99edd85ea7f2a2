"""From measurements to a table: the parts' times, the correction, the table's own error."""

import random

import pytest

from nni_autoformer import SearchSpace
from nni_autoformer.latency.fit import correction, deviation, left_out, parts_from, summaries, table_from
from nni_autoformer.latency.pieces import Piece, parts_of
from nni_autoformer.latency_table import Conditions, Measured
from nni_autoformer.search.random_subnets import draw_subnets
from tests.latency_tables import invented

DIGITS = SearchSpace.load("digits")
TRUE = invented(DIGITS)
FACTS = {"machine": TRUE.machine, "versions": TRUE.versions, "date": TRUE.date}


def exact(milliseconds):
    return Measured(milliseconds, milliseconds, milliseconds)


def clock(piece, seconds=lambda subnet: TRUE.parts.total(subnet)):
    """What a perfect clock says of a network that takes what its parts take."""
    if piece.kind == "subnet":
        return exact(seconds(piece.architecture))
    return exact(getattr(TRUE.parts, piece.kind)[piece.architecture.embed_dim].median)


def test_parts_are_what_the_measured_networks_are_made_of():
    found = parts_from({piece: clock(piece) for piece in parts_of(DIGITS)})
    assert len(parts_of(DIGITS)) == 3 + 3 + 27
    for shape, time in TRUE.parts.blocks.items():
        assert found.blocks[shape].median == pytest.approx(time.median, rel=1e-5)


def test_a_network_that_noise_makes_quicker_than_its_ends_has_blocks_that_take_time():
    times = {piece: clock(piece, lambda subnet: 0.01) for piece in parts_of(DIGITS)}
    assert all(time.low > 0 for time in parts_from(times).blocks.values())


def test_the_correction_finds_offset_and_factor_in_spite_of_outliers():
    sums = [float(number) for number in range(10, 40)]
    measured = [2.5 + 1.25 * total for total in sums]
    measured[3] *= 4
    measured[20] *= 3
    assert correction(sums, measured) == pytest.approx((2.5, 1.25))


@pytest.mark.parametrize(
    ("sums", "measured", "factor"),
    [
        ([10.0], [12.0], 1.2),
        ([10.0, 20.0], [11.0, 22.0], 1.1),
        ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], 1.0833),
    ],
)
def test_where_no_line_can_be_drawn_there_is_a_factor_alone(sums, measured, factor):
    assert correction(sums, measured) == pytest.approx((0.0, factor), rel=1e-3)


def test_the_deviation_in_percent_and_in_order():
    found = deviation([10.0, 22.0, 30.0], [10.0, 20.0, 40.0])
    assert (found.subnets, found.median, found.kendall_tau) == (3, 10.0, 1.0)
    assert found.p95 == pytest.approx(23.5)
    assert deviation([1.0, 1.0], [1.0, 2.0]).kendall_tau == 0.0


def test_a_subnet_that_is_judged_has_no_part_in_its_own_prediction():
    subnets = draw_subnets(DIGITS, 4, seed=1)
    whole = {subnet: exact(TRUE.parts.total(subnet)) for subnet in subnets}
    odd = max(subnets, key=TRUE.parts.total)
    whole[odd] = exact(3 * TRUE.parts.total(odd))
    # by a fit with it, four points of which one is off would bend; without it the error is the whole factor
    assert left_out(TRUE.parts, whole).p95 > 50


def test_a_table_of_a_perfect_clock_predicts_perfectly():
    subnets = draw_subnets(DIGITS, 30, seed=0)
    pieces = [*parts_of(DIGITS), *(Piece("subnet", subnet) for subnet in subnets)]
    times = {piece: clock(piece) for piece in pieces}
    table = table_from(DIGITS, Conditions(), times, parts_of(DIGITS), subnets, **FACTS)
    assert (table.offset, table.factor) == pytest.approx((0, 1), abs=1e-4)
    assert table.error.subnets == 30
    assert table.error.p95 < 0.01
    other = DIGITS.sample(random.Random(5))
    assert table.predicted(other) == pytest.approx(TRUE.parts.total(other), rel=1e-4)


def test_a_round_in_which_everything_was_slow_changes_nothing():
    steady = [[[float(piece + 5)] * 3 for _ in range(4)] for piece in range(12)]
    drifted = [
        [[time * level for time in turn] for turn, level in zip(turns, (1, 1, 2.5, 1.2))] for turns in steady
    ]
    expected = [pytest.approx(piece + 5, rel=1e-5) for piece in range(12)]
    found = summaries(drifted)
    scale = found[0].median / 5
    assert [time.median / scale for time in found] == expected
    assert max(time.spread / time.median for time in found) < 1e-5


def test_the_spread_of_few_pieces_is_their_own():
    (found,) = summaries([[[10.0], [20.0], [30.0]]])
    assert (found.low, found.median, found.high) == (15.0, 20.0, 25.0)

"""Random subnets: which ones are drawn, and what is told of them."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_autoformer import ConfigError, Limits, SearchSpace
from nni_autoformer.complexity import params
from nni_autoformer.randomness import generator
from nni_autoformer.search.random_subnets import (
    SampledSubnet,
    best_of_sizes,
    draw_subnets,
    round_step,
    standing,
)

TINY, DIGITS = SearchSpace.load("tiny"), SearchSpace.load("digits")
SMALL = SearchSpace("small", (16, 32), (1, 2), (1, 2), (1.0, 2.0))  # 40 subnets


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60))
def test_they_differ_and_a_shorter_list_begins_a_longer_one(seed, count):
    subnets = draw_subnets(DIGITS, count, seed=seed)
    assert len(set(subnets)) == len(subnets) == count
    assert all(subnet in DIGITS for subnet in subnets)
    assert draw_subnets(DIGITS, max(1, count // 2), seed=seed) == subnets[: max(1, count // 2)]


def test_each_draw_is_the_published_one_from_a_generator_of_its_own():
    subnets = draw_subnets(TINY, 50, seed=3)
    assert subnets == [TINY.sample(generator(3, "sample", number)) for number in range(50)]


def test_limits_hold_and_are_no_bias_among_those_within():
    limits = Limits(min_params=6, max_params=7)
    subnets = draw_subnets(TINY, 100, limits)
    assert all(6e6 <= params(subnet, TINY.model) <= 7e6 for subnet in subnets)
    rng = generator(0, "sample", 0)
    first = next(a for a in iter(lambda: TINY.sample(rng), None) if limits.allows(a, TINY.model))
    assert subnets[0] == first


def test_a_small_space_gives_all_that_it_has():
    assert set(draw_subnets(SMALL, 40)) == set(draw_subnets(SMALL, 1000)) == set(SMALL)
    limits = Limits(max_params=0.1)
    few = [subnet for subnet in SMALL if limits.allows(subnet, SMALL.model)]
    assert 0 < len(few) < 40 and set(draw_subnets(SMALL, 1000, limits)) == set(few)


def test_limits_that_nothing_or_too_little_meets_are_sentences(monkeypatch):
    with pytest.raises(ConfigError, match="--max-params 1: no subnet meets this limit"):
        draw_subnets(TINY, 5, Limits(max_params=1))
    between = sorted(params(subnet, SMALL.model) / 1e6 for subnet in SMALL)
    gap = max(pairwise(between), key=lambda pair: pair[1] - pair[0])
    limits = Limits(min_params=gap[0] + 1e-6, max_params=gap[1] - 1e-6)
    with pytest.raises(ConfigError, match="no subnet of 'small' is within the limits"):
        draw_subnets(SMALL, 5, limits)
    monkeypatch.setattr("nni_autoformer.search.random_subnets.DRAWS", 50)
    only = params(TINY.smallest, TINY.model) / 1e6
    with pytest.raises(ConfigError, match="--n 5: only 0 different subnets within the limits were found"):
        draw_subnets(TINY, 5, Limits(max_params=only))


def rows_of(points):
    return [
        {"number": number, "origin": "random", "params": count, "top1": top1}
        for number, (count, top1) in enumerate(points)
    ]


@settings(deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(1000, 10**8), st.floats(0, 100)), min_size=1, max_size=80),
    sizes=st.integers(1, 30),
)
def test_the_best_of_sizes_partition_the_sample(points, sizes):
    rows = rows_of(points)
    given_row = {"number": len(rows), "origin": "given", "params": 5 * 10**8, "top1": 100.0}
    found = best_of_sizes([*rows, given_row], sizes)
    assert sum(entry["subnets"] for entry in found) == len(rows)
    assert len(found) <= sizes + 2
    for entry in found:
        low, high = entry["from"] * 1e6 * (1 - 1e-5), entry["to"] * 1e6 * (1 + 1e-5)
        members = [row for row in rows if low <= row["params"] <= high]
        assert entry["best"] in members and entry["best"]["top1"] <= max(row["top1"] for row in members)
        assert entry["mean"] <= entry["best"]["top1"] + 1e-9
    assert max(entry["best"]["top1"] for entry in found) == max(row["top1"] for row in rows)


def test_the_best_of_sizes_by_hand():
    rows = rows_of([(1_000_000, 50), (1_400_000, 60), (1_450_000, 60), (1_500_000, 40), (3_000_000, 70)])
    found = best_of_sizes(rows, 4)
    assert [(entry["from"], entry["to"], entry["subnets"]) for entry in found] == [
        (1, 1.5, 3),
        (1.5, 2, 1),
        (3, 3.5, 1),
    ]
    assert found[0]["best"]["number"] == 1  # of equal ones the smaller
    assert found[0]["mean"] == pytest.approx(170 / 3)
    assert found[0]["std"] == pytest.approx(math.sqrt(200 / 9))


@given(st.floats(1e-6, 1e6))
def test_steps_are_round_and_at_most_two_and_a_half_times_too_wide(width):
    step = round_step(width, 1.0)
    assert width * (1 - 1e-6) <= step <= 2.5 * width
    assert float(f"{step:.2g}") == pytest.approx(step)


def test_standing_counts_by_hand():
    rows = rows_of([(1000, 10), (2000, 20), (3000, 30), (4000, 40)])
    assert standing(rows, {"params": 2500, "top1": 20}) == (25.0, 50.0)
    assert standing(rows, {"params": 500, "top1": 35}) == (75.0, 100.0)


def test_a_row_has_the_keys_of_a_candidate():
    row = SampledSubnet(7, SMALL.largest, "mine").row(SMALL)
    assert row["number"] == 7 and row["origin"] == "given" and row["name"] == "mine"
    assert row["params"] == params(SMALL.largest, SMALL.model)
    assert row["architecture"] == SMALL.largest.to_dict()

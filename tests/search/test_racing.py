"""Racing: verdicts are as seldom wrong as they say, and the best are those of the full evaluation."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_autoformer.errors import ConfigError
from nni_autoformer.search.racing import Race, Racing, balanced_order, best, needed, race


def hypergeometric(population, marked, drawn):
    """P(x marked ones among those drawn), for each x that is possible."""
    whole = comb(population, drawn)
    return {
        x: comb(marked, x) * comb(population - marked, drawn - x) / whole
        for x in range(max(0, drawn - population + marked), min(marked, drawn) + 1)
    }


@settings(max_examples=150, deadline=None)
@given(data=st.data(), images=st.integers(2, 60), error=st.sampled_from([0.3, 0.1, 0.02, 0.001]))
def test_a_rival_that_is_not_better_is_called_so_as_seldom_as_said(data, images, error):
    seen = data.draw(st.integers(1, images))
    differing = data.draw(st.integers(0, images))
    theirs = data.draw(st.integers(0, differing // 2))
    wrong = 0.0
    for m, chance in hypergeometric(images, differing, seen).items():
        least = needed(m, seen, images, error)
        wrong += chance * sum(p for b, p in hypergeometric(differing, theirs, m).items() if b >= least)
    assert wrong <= error


@settings(max_examples=100, deadline=None)
@given(data=st.data(), images=st.integers(1, 300))
def test_who_cannot_catch_up_any_more_is_out_for_certain(data, images):
    seen = data.draw(st.integers(1, images))
    differing = data.draw(st.integers(0, seen))
    least = needed(differing, seen, images, 1e-12)
    theirs = (differing + images - seen) // 2 + 1  # more than half of all that may ever differ
    assert least <= theirs
    assert least > differing // 2


def test_the_last_image_decides():
    assert needed(differing=7, seen=100, images=100, error=0.01) == 4


def correctness(rng, candidates, images, spread):
    """Subnets that fail on the same hard images."""
    skill = rng.normal(0, spread, (candidates, 1))
    return skill - rng.normal(0, 2, images) + rng.normal(0, 0.7, (candidates, images)) > 0


@pytest.mark.parametrize("known", [False, True])
def test_the_best_ten_are_those_of_the_full_evaluation_with_the_stated_probability(known):
    rng = np.random.default_rng(0)
    racing, trials, wrong, spared = Racing(0.9), 100, 0, []
    pool = correctness(rng, 40, 800, 0.25)
    for _ in range(trials):
        right = pool[:, rng.permutation(800)]
        incumbents = right[best(right[:20].sum(axis=1), 10)] if known else None
        runners = right[20:] if known else right
        seen = race(runners, racing, keep=10, incumbents=incumbents)
        everyone = runners if incumbents is None else np.concatenate((incumbents, runners))
        finished = np.concatenate((np.full(len(everyone) - len(seen), 800), seen)) == 800
        totals = everyone.sum(axis=1)
        wrong += best(totals, 10) != best(np.where(finished, totals, -1), 10)
        spared.append(1 - seen.mean() / 800)
    assert wrong <= 0.1 * trials
    assert np.mean(spared) > 0.1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), keep=st.integers(1, 12), confidence=st.sampled_from([0.5, 0.9, 0.999]))
def test_as_many_as_have_to_stay_do_stay(seed, keep, confidence):
    right = correctness(np.random.default_rng(seed), 12, 200, 1.0)
    seen = race(right, Racing(confidence), keep)
    assert (seen == 200).sum() >= keep
    assert set(seen.tolist()) <= set(Racing().looks(200))


def test_looking_again_stops_nobody_else():
    """What a race that goes on after a kill relies on."""
    right = correctness(np.random.default_rng(3), 30, 1000, 0.6)
    judge = Race(Racing(), 5, 1000)
    active = np.arange(30)
    for look in Racing().looks(1000)[:-1]:
        active = active[~judge.losers(right[active, :look])]
        for earlier in Racing().looks(1000):
            assert earlier > look or not judge.losers(right[active, :earlier]).any()
    assert 5 <= len(active) < 30


def test_more_confidence_stops_fewer():
    right = correctness(np.random.default_rng(1), 40, 1500, 0.3)
    evaluations = [race(right, Racing(confidence), 10).sum() for confidence in (0.5, 0.9, 0.999)]
    assert evaluations[0] < evaluations[1] < evaluations[2]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 7), each=st.integers(1, 30), data=st.data())
def test_every_beginning_of_the_order_has_the_classes_in_proportion(seed, classes, each, data):
    targets = np.repeat(np.arange(classes), each)
    order = balanced_order(targets, seed)
    assert sorted(order.tolist()) == list(range(len(targets)))
    assert order.tolist() == balanced_order(targets, seed).tolist()
    beginning = targets[order[: data.draw(st.integers(1, len(targets)))]]
    counts = np.bincount(beginning, minlength=classes)
    assert counts.max() - counts.min() <= 2


def test_looks_are_ascending_and_end_with_all():
    for images in (1, 2, 12, 240, 10_000):
        looks = Racing().looks(images)
        assert looks == sorted(set(looks)) and looks[0] >= 1 and looks[-1] == images


@pytest.mark.parametrize("confidence", [0.0, 0.49, 1.0, float("nan")])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(ConfigError, match=r"--racing-confidence is .*at least 0.5, and below 1"):
        Racing(confidence)

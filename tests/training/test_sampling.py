"""Which subnets a step trains."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_autoformer import SearchSpace
from nni_autoformer.complexity import params
from nni_autoformer.costs import COSTS
from nni_autoformer.randomness import generator
from nni_autoformer.training.recipe import SAMPLING
from nni_autoformer.training.sampling import Balanced, Sandwich, Uniform, sampling_rule

SPACES = ("tiny", "cifar", "digits")


@pytest.fixture(scope="module")
def rules():
    spaces = [SearchSpace.load(name) for name in SPACES]
    plain = [sampling_rule(name, space, 3) for space in spaces for name in SAMPLING]
    return [*plain, *(sampling_rule(name, spaces[-1], 3, widen_steps=10**9 // 2) for name in SAMPLING)]


@settings(max_examples=50, deadline=None)
@given(step=st.integers(0, 10**9))
def test_a_draw_is_a_function_of_seed_and_step_and_in_the_space(rules, step):
    for rule in rules:
        drawn = rule.architectures(step)
        assert drawn == rule.architectures(step)
        assert all(architecture in rule.space for architecture in drawn)


def test_uniform_is_the_published_draw():
    space = SearchSpace.load("tiny")
    assert Uniform(space, 5).architectures(7) == (space.sample(generator(5, "subnet", 7)),)


def test_a_sandwich_has_the_largest_first_and_the_smallest_last():
    space = SearchSpace.load("cifar")
    for count in (0, 2, 3):
        first, *between, last = Sandwich(space, 0, count).architectures(11)
        assert (first, last, len(between)) == (space.largest, space.smallest, count)
    drawn = {Sandwich(space, 0, 1).architectures(step)[1] for step in range(20)}
    assert len(drawn) == 20


def tenths(rule, draws):
    low, high = COSTS["params"].range(rule.space)
    sizes = [params(rule.architectures(step)[0], rule.space.model) for step in range(draws)]
    counts = Counter(min(int(10 * (size - low) / (high - low)), 9) for size in sizes)
    return [counts[i] / draws for i in range(10)]


@pytest.mark.parametrize("name", SPACES)
def test_balanced_draws_all_sizes_as_often(name):
    """The uniform rule all but never draws the largest tenth of the range of sizes."""
    space = SearchSpace.load(name)
    assert tenths(Uniform(space), 1000)[-1] < 0.01
    shares = tenths(Balanced(space), 1000)
    assert min(shares) > 0.05 and max(shares) < 0.16


def test_balanced_still_varies_at_one_size():
    space = SearchSpace.load("tiny")
    rule = Balanced(space)
    drawn = [rule.architectures(step)[0] for step in range(300)]
    assert len(set(drawn)) > 250
    assert {architecture.depth for architecture in drawn} == set(space.depth)
    assert {architecture.embed_dim for architecture in drawn} == set(space.embed_dim)


def test_a_space_of_one_subnet_can_be_drawn_from():
    space = SearchSpace("one", (16,), (2,), (1,), (2.0,))
    for name in SAMPLING:  # a sandwich would train it four times
        assert sampling_rule(name, space).architectures(0) == (space.smallest,)


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("steps", [1, 12])
def test_a_space_is_widened_from_its_largest_subnet(name, steps):
    space = SearchSpace.load("tiny")
    assert space.largest not in space.architectures.values()  # those do not stand in the way
    rule, plain = sampling_rule(name, space, 5, widen_steps=steps), sampling_rule(name, space, 5)
    assert all(rule.architectures(step) == (space.largest,) for step in range(steps // 2))
    second = [entry for step in range(steps // 2, steps) for entry in rule.architectures(step)]
    assert {(entry.embed_dim, entry.depth) for entry in second} == {(space.embed_dim[-1], space.max_depth)}
    if steps > 1:
        assert {count for entry in second for count in entry.num_heads} == set(space.num_heads)
        assert {ratio for entry in second for ratio in entry.mlp_ratio} == set(space.mlp_ratio)
    assert all(
        rule.architectures(step) == plain.architectures(step) for step in (steps, steps + 1, 10 * steps)
    )

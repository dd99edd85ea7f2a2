"""Derived randomness is a function of its arguments alone."""

import random

from hypothesis import given
from hypothesis import strategies as st

from nni_autoformer.randomness import derive, generator

POSITIONS = st.lists(st.integers(0, 2**40), max_size=3)


@given(st.integers(-10, 2**63), st.text("abc", min_size=1), POSITIONS, st.integers())
def test_a_function_of_its_arguments(seed, purpose, position, noise):
    random.seed(noise)
    first = derive(seed, purpose, *position)
    random.random()
    assert first == derive(seed, purpose, *position)
    assert 0 <= first < 2**64
    assert generator(seed, purpose, *position).random() == generator(seed, purpose, *position).random()


@given(st.integers(0, 1000), POSITIONS, POSITIONS)
def test_every_argument_matters(seed, one, other):
    assert derive(seed, "a", *one) != derive(seed + 1, "a", *one)
    assert derive(seed, "a", *one) != derive(seed, "b", *one)
    assert (derive(seed, "a", *one) == derive(seed, "a", *other)) == (one == other)


def test_known_values_so_that_a_seed_means_the_same_in_the_next_version():
    assert derive(0, "weights") == 7344282353231169617
    assert derive(7, "subnet", 3) == 14285929867604094266

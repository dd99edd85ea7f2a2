"""The published numbers; `test_model_complexity.py` compares with built networks."""

import pytest

from nni_autoformer import SearchSpace
from nni_autoformer.complexity import macs, macs_range, params, params_range, relative_position_macs


@pytest.mark.parametrize(
    ("name", "count", "billions", "with_position"),
    [
        ("tiny", 5_867_944, 1.283, 1.482),
        ("small", 22_891_432, 4.774, 5.161),
        ("base", 53_691_688, 11.045, 11.691),
    ],
)
def test_the_published_subnets(name, count, billions, with_position):
    space = SearchSpace.load(name)
    architecture = space.architectures["published"]
    assert params(architecture) == count
    assert round(macs(architecture) / 1e9, 3) == billions
    assert round((macs(architecture) + relative_position_macs(architecture)) / 1e9, 3) == with_position


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("tiny", 4_922_536, 10_517_272),
        ("small", 13_057_320, 34_790_440),
        ("base", 39_792_856, 76_882_264),
        ("tiny-released", 5_366_056, 10_517_272),
        ("base-released", 41_687_896, 76_882_264),
    ],
)
def test_the_published_ranges(name, smallest, largest):
    space = SearchSpace.load(name)
    assert params_range(space) == (smallest, largest)


def test_the_ranges_hold_for_every_subnet_of_a_space():
    space = SearchSpace.load("digits")
    counts = []
    operations = []
    for i, architecture in enumerate(space):
        if i % 97 == 0:
            counts.append(params(architecture, space.model))
            operations.append(macs(architecture, space.model))
    low, high = params_range(space)
    assert low == counts[0] <= min(counts) <= max(counts) <= high
    low, high = macs_range(space)
    assert low == operations[0] <= min(operations) <= max(operations) <= high

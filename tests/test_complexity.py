"""The published numbers; `test_model_complexity.py` compares with built networks."""

import json
from pathlib import Path

import pytest

from nni_autoformer import Architecture, ModelConfig, SearchSpace
from nni_autoformer.complexity import macs, official, params, relative_position_macs
from nni_autoformer.costs import COSTS

DATA = Path(__file__).parent / "golden"
GOLDEN = {name: json.loads((DATA / f"{name}.json").read_text()) for name in ("mini", "published")}


def from_golden(config):
    return Architecture(config["embed_dim"][0], config["num_heads"], config["mlp_ratio"])


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


@pytest.mark.parametrize(("name", "billions"), [("tiny", 1.344), ("small", 4.892), ("base", 11.237)])
def test_the_official_number_of_the_published_tables(name, billions):
    space = SearchSpace.load(name)
    assert round(official(space.architectures["published"]) / 1e9, 3) == billions


def test_the_official_number_equals_the_published_code():
    for models in GOLDEN["published"]["models"].values():
        for entry in models.values():
            assert official(from_golden(entry["config"])) == entry["reference_complexity_at_196"]
    for variant in GOLDEN["mini"]["variants"].values():
        options = variant["options"]
        model = ModelConfig(
            (32, 32),
            8,
            num_classes=10,
            relative_position=options["relative_position"],
            max_relative_position=options["max_relative_position"],
        )
        for entry in variant["configs"].values():
            if options["abs_pos"]:  # the published code raises without absolute position
                assert official(from_golden(entry["config"]), model) == entry["reference_complexity_at_16"]


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
    assert COSTS["params"].range(space) == (smallest, largest)


def test_the_ranges_hold_for_every_subnet_of_a_space():
    space = SearchSpace.load("digits")
    counts = []
    operations = []
    for i, architecture in enumerate(space):
        if i % 97 == 0:
            counts.append(params(architecture, space.model))
            operations.append(macs(architecture, space.model))
    low, high = COSTS["params"].range(space)
    assert low == counts[0] <= min(counts) <= max(counts) <= high
    low, high = COSTS["macs"].range(space)
    assert low == operations[0] <= min(operations) <= max(operations) <= high

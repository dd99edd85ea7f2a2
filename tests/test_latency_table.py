"""What a latency table predicts, and that its file is believed only when it is whole."""

import math
import random
import re
from dataclasses import replace

import pytest
import yaml

from nni_autoformer import Architecture, SearchSpace
from nni_autoformer.errors import ConfigError
from nni_autoformer.latency_table import Conditions, LatencyTable
from tests.latency_tables import invented

DIGITS = SearchSpace.load("digits")


@pytest.fixture
def file(tmp_path):
    invented(DIGITS, threads=2).save(tmp_path / "latency.yaml")
    return tmp_path / "latency.yaml"


def test_a_file_gives_the_table_back(file):
    assert LatencyTable.load(file) == invented(DIGITS, threads=2)


def test_a_prediction_is_the_corrected_sum_of_the_parts():
    subnet = Architecture(64, (1, 3, 2), (2.0, 4.0, 3.0))
    parts = 64 / 1024 + 0.1 + 64 * (3 + 7 + 5) / 512
    assert invented(DIGITS).predicted(subnet) == pytest.approx(0.25 + 1.0625 * parts)


def test_bounds_hold_for_every_subnet_and_are_reached():
    space = SearchSpace("few", (48, 64), (1, 2), (1, 2), (2.0, 3.0), DIGITS.model)
    table = invented(space)
    # the fastest block is not the smallest one
    blocks = {**table.parts.blocks, (64, 2, 3.0): table.parts.blocks[48, 1, 2.0]}
    blocks[48, 1, 3.0] = table.parts.blocks[64, 2, 2.0]
    object.__setattr__(table.parts, "blocks", blocks)
    found = [table.predicted(subnet) for subnet in space]
    assert table.cost.range(space) == (min(found), max(found))


def test_the_cost_is_in_milliseconds():
    table = invented(DIGITS)
    subnet = DIGITS.sample(random.Random(0))
    assert table.cost.name == "latency"
    assert table.cost.value(subnet, DIGITS.model) == table.predicted(subnet)
    assert table.cost.short(12.3456) == "12.35 ms latency"


def test_another_space_is_refused():
    table = invented(DIGITS)
    table.require(DIGITS)
    with pytest.raises(ConfigError, match=r"another space: model\.num_classes is 10 here and 7 there"):
        table.require(DIGITS.with_model(num_classes=7))


def test_a_table_by_which_a_subnet_takes_less_than_no_time_is_refused(tmp_path):
    replace(invented(DIGITS), offset=-10.0).save(tmp_path / "negative.yaml")
    with pytest.raises(ConfigError, match=r"negative\.yaml: offset is -10; by it a subnet takes less"):
        LatencyTable.load(tmp_path / "negative.yaml")


def changed(file, change):
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def put(*keys):
    *path, last, value = keys

    def change(content):
        for key in path:
            content = content[key]
        if value is None:
            del content[last]
        else:
            content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put("offset", math.nan), "offset is nan; it should be a number at least"),
        (put("factor", 0), "factor is 0; it should be a number at least 0.001"),
        (
            put("parts", "stem", 0, "ms", math.nan),
            r"parts.stem\[0\].ms is nan; it should be a number above 0",
        ),
        (put("parts", "blocks", 3, "ms", -1), r"parts.blocks\[3\].ms is -1; it should be a number above 0"),
        (put("parts", "blocks", 3, "ms", "fast"), r"parts.blocks\[3\].ms is 'fast'"),
        (put("parts", "blocks", 3, "ms", 90), r"parts.blocks\[3\].ms is 90.0; it should be from low to high"),
        (put("parts", "blocks", 3, None), "parts.blocks has no entry for embed_dim 48, num_heads 2, mlp_rat"),
        (
            put("parts", "blocks", 3, "num_heads", 1),
            r"parts.blocks\[3\]: embed_dim 48, num_heads 1, .* twice",
        ),
        (put("parts", "blocks", 3, "num_heads", 9), "num_heads 9, mlp_ratio 2 is no part of the table's sp"),
        (put("parts", "blocks", 3, "num_heads", "x"), r"parts.blocks\[3\].num_heads is 'x'"),
        (put("parts", "head", 5), "parts.head is 5; it should be a list"),
        (put("parts", "head", None), "the key 'parts.head' is missing"),
        (put("conditions", "runtime", "tflite"), "conditions.runtime is 'tflite'; it should be one of torch"),
        (put("conditions", "threads", 0), "conditions.threads is 0; it should be from 1 to"),
        (put("conditions", "threads", None), "the key 'conditions.threads' is missing"),
        (
            put("error", "kendall_tau", 2),
            "error.kendall_tau is 2; it should be a number at least -1, up to 1",
        ),
        (put("space", "choices", "depth", []), r"space: choices.depth is \[\]"),
        (put("subnets", 0, "architecture", "embed_dim", 50), "embed_dim 50 is not among"),
        (put("subnets", 0, "architecture", 3), "an architecture needs the keys"),
        (put("machine", "cores", "two"), "machine.cores is 'two'"),
        (put("colour", "red"), "unknown key 'colour'"),
        (put("checksum", None), "the key 'checksum' is missing"),
        (put("format", "nni-autoformer latency 9"), "format is 'nni-autoformer latency 9'; a latency table"),
        (put("parts", "stem", 0, "ms", 0.0465), "checksum does not fit the content"),
        (put("date", "yesterday"), "checksum does not fit the content"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(file, change, sentence):
    changed(file, change)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(file))}.*{sentence}"):
        LatencyTable.load(file)


def test_a_foreign_or_damaged_file_is_a_sentence(file):
    whole = file.read_text()
    for text in ("", "a: 1", "- 3", whole[: len(whole) // 2], whole[:-30], "\0\1", whole * 2, "&a [*a]"):
        file.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(str(file))):
            LatencyTable.load(file)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"runtime": "tvm"}, "--runtime is tvm; it should be one of torch, compile, onnxruntime, openvino"),
        ({"threads": 0}, "--threads is 0; it should be from 1 to 4,096"),
        ({"batch_size": -1}, "--batch-size is -1"),
        ({"precision": "int8"}, "--precision is int8"),
    ],
)
def test_impossible_conditions_are_refused(values, sentence):
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        Conditions(**values)

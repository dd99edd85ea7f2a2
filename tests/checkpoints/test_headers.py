"""A malformed header is one sentence with the file's name, wherever in the header the fault is."""

import copy
import json
import struct

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from nni_autoformer import Checkpoint, ConfigError, save_supernet
from nni_autoformer.checkpoints import own_header
from nni_autoformer.checkpoints.header import HEADER_KEY
from nni_autoformer.checkpoints.run_facts import INTERPOLATIONS

RUN = {
    "classes": ["a", "b", "c", "d", "e"],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "recipe": {"seed": 7},
    "selection": {"file": "selection.txt", "digest": "0" * 64, "images": 12},
    "epoch": 3,
    "metrics": {"train_loss": float("nan")},
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory, small_space):
    """Header and tensors of a sound file."""
    from nni_autoformer import build_supernet

    path = tmp_path_factory.mktemp("sound") / "x.safetensors"
    save_supernet(path, build_supernet(small_space), RUN)
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()[HEADER_KEY]), tensors


def written(path, parts, text):
    save_file(parts[1], path, {HEADER_KEY: text})
    return path


def changed(header, place, value):
    header = copy.deepcopy(header)
    *keys, last = place.split("/")
    target = header
    for key in keys:
        target = target[key]
    if value is KeyError:
        del target[last]
    else:
        target[last] = value
    return header


def test_a_sound_header_is_read_and_may_hold_a_loss_that_was_no_number(tmp_path, parts):
    header = own_header(written(tmp_path / "x.safetensors", parts, json.dumps(parts[0])))
    assert header.run.metrics["train_loss"] != header.run.metrics["train_loss"]
    assert Checkpoint(tmp_path / "x.safetensors").header.run.epoch == 3


FAULTS = [
    ("format", 2, "format 2; this version reads format 1"),
    ("format", None, "format None"),
    ("format", KeyError, "the key 'format' is missing"),
    ("kind", "supernets", "kind is 'supernets'; it should be one of supernet"),
    ("kind", ["supernet"], r"kind is \['supernet'\]"),
    ("kind", "subnet", "space.architectures lacks 'subnet'"),
    ("space", [], "space is"),
    ("space", None, "space is None"),
    ("space/choices", 3, "choices should hold keys"),
    ("space/choices/depth", "12", "choices.depth is '12'"),
    ("space/choices/depth", [float("nan")], "choices.depth holds nan"),
    ("space/choices/depth", [10**12], "choices.depth holds 1000000000000; .*up to 1,000"),
    ("space/choices/embed_dim", [float("inf")], "embed_dim|damaged"),
    ("space/choices/embed_dim", [10**400], "embed_dim|damaged"),
    ("space/choices/mlp_ratio", [float("inf")], "choices.mlp_ratio holds inf"),
    ("space/model/img_size", [10**7, 10**7], r"space.model.num_patches is .*at most 131,072"),
    ("space/model/num_classes", 10**12, "space.model.num_classes"),
    ("space/model/global_pool", "max", "global_pool is 'max'"),
    ("space/model/patch_size", 0, "patch_size"),
    ("run", [], "run is"),
    ("run", None, "run is None"),
    ("run/mean", 0.5, "run.mean is 0.5; it should be a list of numbers, one per channel"),
    ("run/mean", [float("nan")] * 3, r"run.mean is \[nan"),
    ("run/mean", ["a", "b", "c"], "run.mean is"),
    ("run/mean", [0.5, 0.5], "run.mean has 2 numbers, and images have 3 channels"),
    ("run/std", [0, 1, 1], "run.std is .*numbers above 0"),
    ("run/crop_pct", 0, "run.crop_pct is 0; it should be a number above 0, up to 1"),
    ("run/crop_pct", "big", "run.crop_pct is 'big'"),
    ("run/interpolation", "cubic", "run.interpolation is 'cubic'; it should be one of bicubic"),
    ("run/interpolation", ["bicubic"], "run.interpolation is"),
    ("run/classes", "abcde", "run.classes is 'abcde'; it should be a list of names"),
    ("run/classes", [1, 2, 3, 4, 5], "run.classes is"),
    ("run/recipe", "paper", "run.recipe is 'paper'"),
    ("run/recipe", {"seed": "x"}, "run.recipe is"),
    ("run/epoch", "3", "run.epoch is '3'"),
    ("run/epoch", -1, "run.epoch is -1"),
    ("run/supernet_depth", 0, "run.supernet_depth is 0"),
    ("run/metrics", [1], "run.metrics is"),
    ("run/inherited", "x", "run.inherited is 'x'"),
    ("run/selection", "selection.txt", "run.selection is 'selection.txt'"),
    ("run/selection", {"file": "selection.txt"}, "run.selection.digest is None"),
    ("run/selection/images", "many", "run.selection.images is 'many'"),
    ("versions", None, "versions is None"),
]


@pytest.mark.parametrize(("place", "value", "words"), FAULTS)
def test_a_fault_in_the_header_names_file_and_key(tmp_path, parts, place, value, words):
    path = written(tmp_path / "x.safetensors", parts, json.dumps(changed(parts[0], place, value)))
    for opens in (own_header, Checkpoint):
        with pytest.raises(ConfigError, match=rf"x\.safetensors: .*{words}") as raised:
            opens(path)
        assert len(str(raised.value)) < 500 + len(str(path)) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../selection.txt", "a/b", "a\\b", "..", ".", "", "x\0", ["selection.txt"], 3, None],
)
def test_a_selection_list_lies_beside_the_checkpoint_and_nowhere_else(tmp_path, parts, name):
    header = changed(parts[0], "run/selection/file", name)
    with pytest.raises(
        ConfigError, match=r"run\.selection\.file is .*the name of a file beside the checkpoint"
    ):
        own_header(written(tmp_path / "x.safetensors", parts, json.dumps(header)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"supernet"',
        "{",
        "[" * 5000,
        "[" * 5000 + "]" * 5000,
        '{"format": ' + "9" * 5000 + "}",
        '{"a": ' * 5000,
        "\ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
        "x" * 1_000_000,
    ],
)
def test_a_header_that_is_no_json_of_ours(tmp_path, parts, text):
    path = written(tmp_path / "x.safetensors", parts, text)
    with pytest.raises(ConfigError, match=r"x\.safetensors: the header is damaged") as raised:
        own_header(path)
    assert len(str(raised.value)) < 300 + len(str(path))


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 5000,
        b"[" * 5000 + b"]" * 5000,
        b'{"__metadata__": ' * 3000,
        b'{"__metadata__": []}',
        b'{"__metadata__": {"nni_autoformer": []}}',
        b'{"__metadata__": {"nni_autoformer": "{}"}, "a": {"data_offsets": [0, "8"]}}',
        b'{"__metadata__": {"nni_autoformer": "{}"}, "a": 3}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1000000]}}',
        b"\xff\xfe" * 100,
    ],
)
def test_a_damaged_header_of_safetensors(tmp_path, text):
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ConfigError, match=r"x\.safetensors: .*damaged"):
        Checkpoint(tmp_path / "x.safetensors")


def test_the_ways_to_resize_are_those_of_the_data_room():
    from nni_autoformer.data import transforms

    assert set(INTERPOLATIONS) == set(transforms.INTERPOLATIONS)

"""Strict YAML and outputs by rename."""

import os
import time

import pytest

from nni_autoformer.errors import ConfigError
from nni_autoformer.files import digest, read_json, read_yaml, replacing, write_json, write_text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: .*duplicate key 'a'"),
        ("outer:\n  x: 1\n  x: 2\n", "line 3: .*duplicate key 'x'"),
        ("a: [1, 2\n", "not valid YAML"),
        ("- 1\n- 2\n", "holds a list"),
        ("", "holds nothing"),
        ("? [1, 2]\n: 3\n", "a key must be a plain word"),
        ("a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("a: !!timestamp x\n", "not valid YAML"),
        ("a: !!bool x\n", "not valid YAML"),
        ("a: !!binary x\n", "not valid YAML"),
        ("a: !!int []\n", "not valid YAML"),
    ],
)
def test_bad_yaml_names_the_file_and_the_place(tmp_path, text, words):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as error:
        read_yaml(path)
    assert str(path) in str(error.value)


def test_a_missing_or_binary_file_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        read_yaml(tmp_path / "bin.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        read_json(tmp_path / "bad.json")


def test_merge_keys_and_nesting_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("base: &b {x: 1}\nmore:\n  <<: *b\n  y: [1, 2.5]\n")
    assert read_yaml(tmp_path / "a.yaml") == {"base": {"x": 1}, "more": {"x": 1, "y": [1, 2.5]}}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "result.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["result.txt"]
    write_json(path, {"a": [1]})
    assert read_json(path) == {"a": [1]}


def test_the_digest_depends_on_every_line_and_their_order():
    assert digest(["a", "b"]) != digest(["b", "a"]) != digest(["ab"])
    # sha256 of "a\n"
    assert digest(["a"]) == "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7"


def test_others_may_read_what_was_written_as_the_user_s_mask_allows(tmp_path):
    import torch
    from safetensors.torch import save_file

    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "weights.safetensors") as temporary:
        save_file({"weight": torch.zeros(2)}, temporary)
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "stands for more than 100,000 values"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 50 deep"),
        ("a: " + "[" * 5000, "nested more than 50 deep"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: 0x" + "f" * 5000, "a number is far too large"),
        ("a: " + ":".join(["59"] * 9000), "a number is far too large"),
        ("a: x\n" * 300_000, "more than 262,144 characters"),
    ],
    ids=["aliases", "nested", "brackets", "digits", "hexadecimal", "sexagesimal", "long"],
)
def test_a_file_that_would_take_for_ever_is_refused_at_once(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=words):
        read_yaml(tmp_path / "a.yaml")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_what_is_no_regular_file_is_never_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", "/dev/zero"):
        with pytest.raises(ConfigError, match=f"{path}: .*is no regular file"):
            read(path)

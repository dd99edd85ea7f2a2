"""The held-out selection set."""

from pathlib import Path

import numpy as np
import pytest

from nni_autoformer import ConfigError
from nni_autoformer.data import (
    default_per_class,
    draw_selection,
    open_data,
    parse_selection,
    read_selection,
    split_selection,
    write_selection,
)
from nni_autoformer.files import digest


@pytest.fixture(scope="module")
def digits():
    return open_data("digits", None, in_chans=1).train


def test_the_draw_is_stratified_held_out_and_derived(digits):
    chosen = draw_selection(digits, 7, seed=1)
    training, selection = split_selection(digits, chosen)
    assert np.bincount(selection.targets).tolist() == [7] * 10
    assert len(training) + len(selection) == len(digits)
    assert not set(training.identifiers) & set(selection.identifiers)
    np.random.seed(0)
    assert draw_selection(digits, 7, seed=1) == chosen
    assert draw_selection(digits, 7, seed=2) != chosen


def test_the_default_is_a_hundred_or_a_fifth_of_the_smallest_class():
    assert default_per_class(np.repeat([0, 1], [5000, 700])) == 100
    assert default_per_class(np.repeat([0, 1], [5000, 60])) == 12
    assert default_per_class(np.repeat([0, 1], [3, 3])) == 1


def test_the_flag(tmp_path):
    assert parse_selection("none").none
    assert parse_selection("20-per-class").per_class == 20
    (tmp_path / "list.txt").write_text("train/00001\n")
    assert parse_selection(str(tmp_path / "list.txt")).file == tmp_path / "list.txt"
    for text, words in (
        ("0-per-class", "at least one image per class"),
        ("-3-per-class", "at least one image per class"),
        ("many", "neither 'none', nor as in '100-per-class', nor a file"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_selection(text)


def test_a_class_must_keep_images_to_train_on(digits):
    with pytest.raises(ConfigError, match=r"leaves nothing to train on: class '0' has 119"):
        draw_selection(digits, 119)
    with pytest.raises(ConfigError, match=r"none is left to train on"):
        split_selection(digits, list(range(len(digits))))


def test_the_list_on_disk(tmp_path, digits):
    chosen = draw_selection(digits, 3)
    names = [digits.identifiers[i] for i in chosen]
    path = tmp_path / "selection.txt"
    assert write_selection(path, names) == digest(names)
    assert read_selection(path, digits) == chosen
    path.write_text("\n".join(reversed(names)) + "\n\n")
    assert read_selection(path, digits) == chosen


def test_a_list_that_lacks_a_class_is_refused(tmp_path, digits):
    chosen = [index for index in draw_selection(digits, 3) if digits.targets[index] not in (4, 7)]
    write_selection(tmp_path / "selection.txt", [digits.identifiers[i] for i in chosen])
    with pytest.raises(ConfigError, match=r"has no image of 2 of the 10 classes: 4, 7\. Subnets would"):
        read_selection(tmp_path / "selection.txt", digits)
    assert read_selection(tmp_path / "selection.txt", digits, every_class=False) == chosen


def test_lists_from_other_systems_are_read(tmp_path, digits):
    chosen = draw_selection(digits, 1)
    names = [digits.identifiers[i] for i in chosen]
    (tmp_path / "selection.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(names).encode())
    assert read_selection(tmp_path / "selection.txt", digits) == chosen


def test_a_list_that_is_no_file_is_a_sentence(tmp_path, digits):
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / ("n" * 300)):
        with pytest.raises(ConfigError, match="the selection list cannot be read"):
            read_selection(path, digits)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no image"),
        ("train/00001\ntrain/00001\n", "names an image twice"),
        ("train/00001\nval/cat.png\n", "1 of 2 listed images are not among .* 'val/cat.png'"),
    ],
)
def test_a_bad_list_is_a_sentence(tmp_path, digits, text, words):
    (tmp_path / "selection.txt").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_selection(tmp_path / "selection.txt", digits)


def test_a_missing_list_is_a_sentence(digits):
    with pytest.raises(ConfigError, match=r"nowhere.txt: the selection list cannot be read"):
        read_selection(Path("nowhere.txt"), digits)

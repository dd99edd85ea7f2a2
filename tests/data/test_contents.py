"""What a set of images holds is recognised by its contents, not by its name."""

import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from nni_autoformer import ConfigError
from nni_autoformer.data import Contents, contents, in_order_of, open_data
from nni_autoformer.data.source import array_source

DAY = 86_400 * 10**9


@pytest.fixture
def large(monkeypatch):
    """Sets count as large here, so that sizes and times stand for the content."""
    monkeypatch.setattr(contents, "SMALL", -1)


def opened(root):
    return open_data("folder", root).train


def age(root, seconds=1000):
    """Let all files be older, as those of a data set are."""
    then = time.time() - seconds
    for path in root.rglob("*.png"):
        os.utime(path, (then, then))


def other_pixels(path):
    """Replace an image by another one of the same size in bytes."""
    size = path.stat().st_size
    for value in range(256):
        with Image.open(path) as image:
            array = np.asarray(image).copy()
        array[0, 0] = value
        copy = path.with_name("copy.png")
        Image.fromarray(array).save(copy)
        same_pixels = copy.read_bytes() == path.read_bytes()
        if copy.stat().st_size == size and not same_pixels:
            content = copy.read_bytes()
            copy.unlink()
            path.write_bytes(content)
            return
    raise AssertionError("no other image has this size")


CHANGES = {
    "an image more": (
        lambda root: shutil.copy(root / "train/one/00.png", root / "train/one/xx.png"),
        ["the number of images", "which images there are, or their order", "the classes of images"],
    ),
    "an image less": (
        lambda root: (root / "train/two/03.png").unlink(),
        ["the number of images", "which images there are, or their order", "the classes of images"],
    ),
    "another name": (
        lambda root: (root / "train/two/03.png").rename(root / "train/two/xx.png"),
        ["which images there are, or their order"],
    ),
    "another class": (
        lambda root: (root / "train/two/03.png").rename(root / "train/six/xx.png"),
        ["which images there are, or their order", "the classes of images"],
    ),
    "a class renamed": (
        lambda root: [(root / split / "two").rename(root / split / "ten") for split in ("train", "val")],
        ["the list of classes", "which images there are, or their order"],
    ),
    "other pixels": (lambda root: other_pixels(root / "train/two/03.png"), ["the content of images"]),
    "a damaged file": (lambda root: (root / "train/two/03.png").write_bytes(b""), ["the content of images"]),
    "two images swapped": (
        lambda root: [
            (root / "train/one/00.png").rename(root / "swap"),
            (root / "train/one/01.png").rename(root / "train/one/00.png"),
            (root / "swap").rename(root / "train/one/01.png"),
        ],
        ["the content of images"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_named(image_folder, change):
    make, words = CHANGES[change]
    before = Contents.of(opened(image_folder))
    assert before.changes(opened(image_folder)) == []
    make(image_folder)
    found = before.changes(opened(image_folder))
    assert [word for word in found if word != "the content of images" or word in words] == words


def test_a_copy_is_the_same_set_and_so_is_one_whose_times_have_changed(image_folder, tmp_path):
    before = Contents.of(opened(image_folder))
    shutil.copytree(image_folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert before.changes(opened(tmp_path / "copy")) == []
    age(image_folder)
    assert before.changes(opened(image_folder), strict=True) == []


def test_other_pixels_are_found_behind_the_same_size_and_time(image_folder):
    path = image_folder / "train/two/03.png"
    age(image_folder)
    before, entry = Contents.of(opened(image_folder)), path.stat()
    other_pixels(path)
    os.utime(path, ns=(entry.st_atime_ns, entry.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (entry.st_size, entry.st_mtime_ns)
    assert before.changes(opened(image_folder)) == ["the content of images"]


def test_large_sets_go_by_size_and_time(image_folder, large):
    path = image_folder / "train/two/03.png"
    age(image_folder)
    before, strict = Contents.of(opened(image_folder)), Contents.of(opened(image_folder), strict=True)
    assert before.changes(opened(image_folder)) == strict.changes(opened(image_folder), strict=True) == []
    entry = path.stat()
    other_pixels(path)
    assert before.changes(opened(image_folder)) == ["the content of images"]
    os.utime(path, ns=(entry.st_atime_ns, entry.st_mtime_ns))
    assert before.changes(opened(image_folder)) == []  # the time says that nothing has happened
    assert strict.changes(opened(image_folder), strict=True) == ["the content of images"]


@pytest.mark.parametrize("when", ["just now", "in the future", "1970", "1980"])
def test_where_a_time_cannot_tell_the_content_does(image_folder, large, when):
    now = time.time_ns()
    moment = {"just now": now, "in the future": now + DAY, "1970": 10**9, "1980": 315_532_800 * 10**9}[when]
    path = image_folder / "train/two/03.png"
    os.utime(path, ns=(moment, moment))
    before = Contents.of(opened(image_folder))
    assert before.changes(opened(image_folder)) == []
    other_pixels(path)
    os.utime(path, ns=(moment, moment))
    assert before.changes(opened(image_folder)) == ["the content of images"]


def test_what_was_young_is_still_recognised_later(image_folder, large, monkeypatch):
    before = Contents.of(opened(image_folder))
    later = time.time_ns() + DAY
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert before.changes(opened(image_folder)) == []
    assert Contents.of(opened(image_folder)).pixels != before.pixels


def test_arrays_have_contents_too():
    pixels, targets = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8), np.array([0, 1, 0, 1, 0, 1])
    source = array_source("train", pixels, targets, ["a", "b"], "L")
    before = Contents.of(source.subset([0, 3]))
    assert before.changes(array_source("train", pixels.copy(), targets, ["a", "b"], "L").subset([0, 3])) == []
    other = pixels.copy()
    other[1] += 1
    assert before.changes(array_source("train", other, targets, ["a", "b"], "L").subset([0, 3])) == []
    other[3] += 1
    changed = array_source("train", other, 1 - targets, ["a", "c"], "L").subset([0, 3])
    assert before.changes(changed) == [
        "the list of classes",
        "the classes of images",
        "the content of images",
    ]


def test_they_travel_as_json(image_folder):
    before = Contents.of(opened(image_folder))
    assert Contents.from_dict(before.to_dict(), "run.json: data") == before
    for content in (None, [], {}, {**before.to_dict(), "images": "36"}, {**before.to_dict(), "more": 1}):
        with pytest.raises(ConfigError, match=r"run\.json: data"):
            Contents.from_dict(content, "run.json: data")
    with pytest.raises(ConfigError, match=r"pixels is \['x{46}"):
        Contents.from_dict({**before.to_dict(), "pixels": ["x" * 10**6]}, "run.json: data")


def numbered_folder(image_folder, names):
    for split in ("train", "val"):
        images = sorted((image_folder / split).glob("*/*.png"))
        for path, name in zip(images, names):
            (image_folder / split / name).mkdir(exist_ok=True)
            path.rename(image_folder / split / name / path.name)
        for name in ("one", "two", "six"):
            shutil.rmtree(image_folder / split / name)
    return open_data("folder", image_folder).train


@pytest.mark.parametrize(
    "names",
    [[str(number) for number in range(12)], [f"{number:03d}" for number in range(12)], ["2", "0", "01"]],
)
def test_numbers_are_classes_in_their_order_for_a_network_without_names(image_folder, names):
    source = numbered_folder(image_folder, names)
    found = in_order_of(source, None)
    assert [int(name) for name in found.classes] == list(range(len(names)))
    for identifier, target in zip(found.identifiers, found.targets):
        assert int(identifier.split("/")[1]) == target
    assert found.identifiers == source.identifiers
    assert in_order_of(source, sorted(names)) is source  # trained here, in the order of the text
    assert in_order_of(source, found.classes).targets.tolist() == found.targets.tolist()


def test_classes_are_matched_by_name(image_folder):
    source = opened(image_folder)
    found = in_order_of(source, ["two", "one", "six"])
    assert found.classes == ["two", "one", "six"]
    assert all(
        found.classes[number] == name.split("/")[1] for number, name in zip(found.targets, found.identifiers)
    )
    for other in (["one", "six", "ten"], ["one", "six"], ["one", "one", "six", "two"]):
        assert in_order_of(source, other) is source


@pytest.mark.parametrize("names", [["1", "2", "10"], ["0", "1", "3"], ["0", "1", "b"], ["1", "01", "0"]])
def test_other_numbers_stay_in_the_order_of_the_text(image_folder, names, capsys, log_to_stderr):
    source = numbered_folder(image_folder, names)
    assert in_order_of(source, None) is source
    assert ("though not 0 to 2" in capsys.readouterr().err) is ("b" not in names)

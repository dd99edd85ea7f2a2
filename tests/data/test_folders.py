"""Folders as people have them: what is left out is counted, and nothing keeps anyone waiting."""

import itertools
import os
import pickle
import socket

import numpy as np
import pytest
from PIL import Image

from nni_autoformer import ConfigError
from nni_autoformer.data import BadImages, decode, describe, eval_transform, open_data, readable, survey_of
from nni_autoformer.data.formats import FORMATS, image_suffixes, readable_formats
from nni_autoformer.space import ModelConfig

SUFFIXES = [suffix for _, *suffixes in FORMATS.values() for suffix in suffixes]


@pytest.fixture
def six(image_folder):
    """The folder of one class, in a folder of images."""
    return image_folder / "train" / "six"


def source(image_folder):
    return open_data("folder", image_folder).train


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".JPG", ".Png", ".JFIF"])
def test_every_documented_suffix_is_an_image(image_folder, six, suffix):
    if not {suffix.lower()} & set(image_suffixes()):
        pytest.skip("this Pillow cannot read the format")
    form = next(name for name, (_, *suffixes) in FORMATS.items() if suffix.lower() in suffixes)
    with Image.open(six / "00.png") as image:
        image.save(six / f"new{suffix}", form)
    found = source(image_folder)
    assert len(found) == 37
    assert found.load(found.identifiers.index(f"train/six/new{suffix}")).size == (8, 8)
    assert not found.left_out


def test_pillow_reads_all_the_formats_here():
    assert readable_formats() == tuple(FORMATS)


def test_what_is_no_image_is_counted_by_kind(image_folder, six):
    for name in (
        "a.heic",
        "b.heic",
        "c.HEIC",
        "labels.csv",
        "README",
        "cut.png.part",
        "x.svg",
        "odd.",
        "y.tga",
    ):
        (six / name).write_bytes(b"something")
    (six / "deeper").mkdir()
    (six / "deeper" / "d.heic").write_bytes(b"")
    (image_folder / "train" / "list.txt").write_text("")
    (image_folder / "train" / "stray.png").write_bytes((six / "00.png").read_bytes())
    found = source(image_folder)
    assert len(found) == 36
    assert found.left_out == {
        ".heic": 4,
        ".csv": 1,
        "without a suffix": 2,
        ".part": 1,
        ".svg": 1,
        ".tga": 1,
        "outside of the class folders": 2,
    }
    told = describe(open_data("folder", image_folder))
    assert "left out: 4 .heic, 2 outside of the class folders, 2 without a suffix, 1 .csv" in told
    assert ", 1 of 1 other kinds" in told


LEFT_BY_SYSTEMS = [
    ".git",
    ".ipynb_checkpoints",
    "__MACOSX",
    ".Trash-1000",
    "@eaDir",
    "$RECYCLE.BIN",
    "lost+found",
]


def test_what_systems_leave_behind_is_neither_a_class_nor_an_image(image_folder, six):
    for split in ("train", "val"):
        for name in LEFT_BY_SYSTEMS:
            (image_folder / split / name).mkdir()
            (image_folder / split / name / "copy.png").write_bytes((six / "00.png").read_bytes())
    for name in ("._00.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.jpg", "Icon\r"):
        (six / name).write_bytes(b"\0\5\x16\7")
    (six / ".ipynb_checkpoints").mkdir()
    (six / ".ipynb_checkpoints" / "00-checkpoint.png").write_bytes((six / "00.png").read_bytes())
    data = open_data("folder", image_folder)
    assert data.train.classes == ["one", "six", "two"]
    assert len(data.train) == 36 and len(data.test) == 15
    assert data.train.left_out == {"hidden or system": 14}
    assert data.test.left_out == {"hidden or system": 7}
    assert "left out: 21 hidden or system;" in describe(data)


def test_links_that_lead_back_are_not_followed(image_folder, six, tmp_path):
    (six / "again").symlink_to(six)
    (six / "deeper").mkdir()
    (six / "deeper" / "up").symlink_to("..")
    (six / "deeper" / "top").symlink_to(image_folder)
    (image_folder / "train" / "all").symlink_to(".")
    other = tmp_path / "other"
    other.mkdir()
    (other / "back").symlink_to(six)
    (six / "round").symlink_to(other)
    (six / "00.png").rename(other / "00.png")
    (six / "itself.png").symlink_to("itself.png")
    (six / "itself").symlink_to("itself")
    found = source(image_folder)
    assert found.left_out == {"links that lead back": 5, "without a suffix": 1}
    assert found.classes == ["one", "six", "two"]
    assert "train/six/round/00.png" in found.identifiers
    # a broken link is an image that cannot be read, and the one bad image here
    bad = BadImages()
    readable(found, bad)
    assert bad.names == ["train/six/itself.png"]


def test_links_to_endlessly_many_folders_are_refused(image_folder, six, tmp_path):
    places = [tmp_path / f"level{number}" for number in range(40)]
    for place in places:
        place.mkdir()
    for place, below in itertools.pairwise(places):
        (place / "one").symlink_to(below)
        (place / "two").symlink_to(below)
    (six / "many").symlink_to(places[0])
    with pytest.raises(ConfigError, match=r"train/six: links lead to more than 10,000 folders"):
        source(image_folder)


def special_files(folder):
    os.mkfifo(folder / "pipe.png")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder)  # a socket's path has to be short
    try:
        server.bind("socket.png")
    finally:
        os.chdir(here)
    server.close()
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "link.png").symlink_to("pipe.png")


def test_pipes_sockets_and_devices_do_not_keep_anyone_waiting(image_folder, six):
    special_files(six)
    found = source(image_folder)
    assert len(found) == 36 and found.left_out == {"that are no regular files": 4}
    assert survey_of(found).bad == 0


def test_a_file_that_has_become_a_pipe_is_a_bad_image(image_folder, six):
    found = source(image_folder)
    (six / "00.png").unlink()
    os.mkfifo(six / "00.png")
    with pytest.raises(ConfigError, match=r"train/six/00.png: .* is no regular file"):
        found.load(found.identifiers.index("train/six/00.png"))


def test_an_empty_class_says_what_it_holds_instead(image_folder, six):
    for number, path in enumerate(sorted(six.iterdir())):
        path.rename(six / f"{number}.heic")
    (image_folder / "train" / "one" / "Thumbs.db").write_text("")
    with pytest.raises(ConfigError, match=r"train/ has classes without an image: six \(it holds 12 \.heic\)"):
        source(image_folder)


def test_a_folder_that_cannot_be_listed_is_a_sentence(image_folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("deeper"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    (image_folder / "train" / "six" / "deeper").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match=r"six/deeper cannot be listed \(Permission denied\)"):
        source(image_folder)
    with pytest.raises(ConfigError, match=r"cannot be read \(File name too long"):
        open_data("folder", image_folder / ("n" * 300))


def test_used_and_unused_splits_are_told(tmp_path, make_image_folder):
    root = make_image_folder(tmp_path / "both", splits=("train", "val", "test"))
    (root / "extra").mkdir()
    (root / ".cache").mkdir()
    data = open_data("folder", root)
    assert (data.names, list(data.unused)) == (("train/", "val/"), ["extra/", "test/"])
    told = describe(data)
    assert told.startswith("Images: 36 training images in train/; 15 test images in val/; 3 classes;")
    assert "not used: extra/, test/;" in told
    only = open_data("folder", root, test_only=True)
    assert describe(only).startswith(
        "Images: 15 test images in val/; 3 classes; not used: extra/, test/, train/;"
    )
    digits = describe(open_data("digits", None))
    assert digits.startswith("Images: 1,198 training images in train; 599 test images in test; 10 classes;")
    assert "left out: nothing; modes of 200 looked at: L 200; orientation tags of 200 looked at: 0." in digits


def odd_images(six):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(six / "00.png") as image:
        image.save(six / "turned.jpg", exif=exif)
        image.save(six / "misnamed.jpg", "PNG")
        image.resize((40, 20)).convert("L").save(six / "grey.webp", "PNG")
        image.convert("RGBA").save(six / "alpha.png")
        image.save(six / "moving.gif", save_all=True, append_images=[image.rotate(90)])
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(six / "deep.png")
    Image.fromarray(np.ones((2, 3), np.float32)).save(six / "float.tif")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_survey_says_what_the_images_are(image_folder, six, workers):
    odd_images(six)
    (six / "cut.png").write_bytes((six / "00.png").read_bytes()[:60])
    bad = BadImages()
    found = survey_of(source(image_folder), bad, workers)
    assert bad.names == ["train/six/cut.png", "train/six/float.tif"]
    assert (found.images, found.bad) == (44, 2)
    assert found.modes == {"RGB": 39, "L": 1, "RGBA": 1, "P": 1, "I;16": 1, "F": 1}
    assert found.formats == {"PNG": 41, "JPEG": 1, "GIF": 1, "TIFF": 1}
    assert (found.turned, found.several, found.misnamed) == (1, 1, 2)
    assert (found.smallest, found.largest) == ((3, 2), (40, 20))
    assert dict(found.rows())["orientation tags"] == "1, shown upright"


def test_the_line_of_a_run_tells_modes_and_orientation_tags(image_folder, six):
    odd_images(six)
    told = describe(open_data("folder", image_folder))
    assert "modes: RGB 53, F 1, I;16 1, L 1, P 1, RGBA 1; orientation tags: 1" in told


def test_sources_travel_to_other_processes_small(image_folder):
    found = source(image_folder)
    packed = pickle.dumps(found)
    copy = pickle.loads(packed)
    assert copy.load(3).tobytes() == found.load(3).tobytes()
    assert packed.count(b"00.png") <= 3  # each name once
    model = ModelConfig(img_size=(8, 8), patch_size=4)
    assert decode(copy, eval_transform(model), workers=2).images.equal(
        decode(found, eval_transform(model)).images
    )

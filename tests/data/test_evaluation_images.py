"""The images that subnets are evaluated on are those of the data set as it is now, on every path to them."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image, ImageOps

from nni_autoformer import ConfigError
from nni_autoformer.checkpoints import own_header
from nni_autoformer.checkpoints.run_facts import RunFacts
from nni_autoformer.search.images import EvaluationImages


@pytest.fixture
def place(toy, tmp_path):
    """A copy of the toy's images and of its supernet."""
    shutil.copytree(toy / "images", tmp_path / "images")
    shutil.copytree(toy / "run", tmp_path / "run")
    return tmp_path


def of(place, **more):
    checkpoint = str(place / "run" / "supernet.safetensors")
    return EvaluationImages(checkpoint, "folder", str(place / "images"), store=str(place / "store"), **more)


def header_of(place):
    return own_header(place / "run" / "supernet.safetensors")


def listed(place):
    return [place / "images" / name for name in (place / "run" / "selection.txt").read_text().split()]


def invert(path, keep_time=False):
    entry = path.stat()
    with Image.open(path) as image:
        ImageOps.invert(image).save(path)
    if keep_time:
        os.utime(path, ns=(entry.st_atime_ns, entry.st_mtime_ns))


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_trial_sees_images_that_were_replaced(place, keep_time):
    before = of(place).decoded(header_of(place)).images.clone()
    assert of(place).decoded(header_of(place)).images.equal(before)
    invert(listed(place)[0], keep_time)
    after = of(place).decoded(header_of(place)).images
    assert (after != before).flatten(1).any(1).tolist() == [True] + [False] * 11
    assert abs(after[0].int() - (255 - before[0].int())).max() <= 1


def test_a_replaced_image_that_is_not_selected_changes_nothing(place, monkeypatch):
    before = of(place).decoded(header_of(place)).images.clone()
    chosen = set(listed(place))
    invert(next(path for path in (place / "images").glob("train/*/*.png") if path not in chosen))
    monkeypatch.setattr(EvaluationImages, "source", None)  # the data set is not opened
    assert of(place).decoded(header_of(place)).images.equal(before)


def test_a_trial_sees_that_a_class_has_come(place):
    of(place).decoded(header_of(place))
    for split in ("train", "val"):
        shutil.copytree(place / "images" / split / "one", place / "images" / split / "seven")
    with pytest.raises(ConfigError, match="trained on 3 classes; the data has 4"):
        of(place).decoded(header_of(place))


def test_a_trial_sees_that_a_selected_image_has_gone(place):
    of(place).decoded(header_of(place))
    listed(place)[3].unlink()
    with pytest.raises(ConfigError, match="1 of 12 listed images are not among the training images"):
        of(place).decoded(header_of(place))


def test_without_the_data_set_a_trial_has_what_was_decoded(place):
    before = of(place).decoded(header_of(place)).images.clone()
    (place / "images").rename(place / "elsewhere")
    assert of(place).decoded(header_of(place)).images.equal(before)


def test_a_damaged_pixel_is_decoded_again(place, capsys, log_to_stderr):
    before = of(place).decoded(header_of(place)).images.clone()
    pixels = next((place / "store").glob("*/images.npy"))
    content = bytearray(pixels.read_bytes())
    content[-5] ^= 128
    pixels.write_bytes(content)
    assert of(place).decoded(header_of(place)).images.equal(before)
    assert f"{pixels} is not as it was written" in capsys.readouterr().err


def test_an_unchanged_trial_needs_no_library_of_images(place):
    """What imports take is most of a trial's time."""
    of(place).decoded(header_of(place))
    script = """
import sys
from nni_autoformer.checkpoints import own_header
from nni_autoformer.checkpoints.run_facts import RunFacts
from nni_autoformer.search.images import EvaluationImages
checkpoint, data, store = sys.argv[1:]
assert len(EvaluationImages(checkpoint, "folder", data, store=store).decoded(own_header(checkpoint))) == 12
print(sorted({name.split(".")[0] for name in sys.modules} & {"PIL", "timm", "torchvision", "sklearn", "nni"}))
"""
    words = [str(place / "run" / "supernet.safetensors"), str(place / "images"), str(place / "store")]
    found = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (
            {"file": "/etc/passwd", "digest": "x"},
            "names the file '/etc/passwd'; it should be the name of a file",
        ),
        ({"file": "../images/notes.txt", "digest": "x"}, r"names the file '\.\./images/notes\.txt'"),
        ({"file": "..", "digest": "x"}, "the selection list cannot be read"),
        ({"file": "pipe", "digest": "x"}, "pipe is no regular file"),
        ({"file": ["selection.txt"], "digest": "x"}, "should give a file and a digest"),
        ({"file": "selection.txt", "digest": 3}, "should give a file and a digest"),
    ],
)
def test_a_header_names_no_other_file_of_the_machine(place, selection, words):
    os.mkfifo(place / "run" / "pipe")
    (place / "images" / "notes.txt").write_text("a secret\n")
    header = header_of(place)
    header = replace(header, run=RunFacts.from_dict({**header.run, "selection": selection}))
    with pytest.raises(ConfigError, match=words) as error:
        of(place).decoded(header)
    assert "root:" not in str(error.value) and "secret" not in str(error.value)


def test_numbered_folders_are_the_outputs_of_a_network_without_names(place):
    for split in ("train", "val"):
        for number in range(12):
            folder = place / "images" / split / str(number)
            folder.mkdir()
            source = sorted((place / "images" / split).glob("[ost]*/*.png"))[0]
            source.rename(folder / "image.png")
        for name in ("one", "two", "six"):
            shutil.rmtree(place / "images" / split / name)
    header = header_of(place)
    space = header.space.with_model(num_classes=12)
    names = sorted(map(str, range(12)))
    nameless = replace(header, space=space, run=replace(header.run, classes=None))
    trained_here = replace(header, space=space, run=replace(header.run, classes=tuple(names)))
    for store in (str(place / "store"), "none"):
        images = replace(of(place, split="test"), store=store)
        for _ in range(2):  # one after the other has the other order of the same files
            found = images.decoded(nameless)
            assert found.targets.tolist() == [int(name.split("/")[1]) for name in found.identifiers]
            assert images.decoded(trained_here).targets.tolist() == list(range(12))

"""What many tests need: a home of their own, small real images, a small trained supernet."""

import os

import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the numbers here are those of the CPU


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory):
    """NNI writes to the user's home, whatever the experiment's folder."""
    home = tmp_path_factory.mktemp("home")
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(home)
    yield
    if before is not None:
        os.environ["HOME"] = before


def write_image_folder(root, per_class=None, classes=("one", "two", "six"), side=8, splits=("train", "val")):
    """Scanned digits as PNG files: root/SPLIT/CLASS/NN.png."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    numbers = {"one": 1, "two": 2, "six": 6, "four": 4}
    start = 0
    for split in splits:
        count = (per_class or {"train": 12, "val": 5, "test": 5})[split]
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            members = (digits.target == numbers[name]).nonzero()[0][start : start + count]
            for i, member in enumerate(members):
                pixels = (digits.images[member] * 15).astype("uint8")
                image = Image.fromarray(pixels).resize((side, side)).convert("RGB")
                image.save(folder / f"{i:02d}.png")
        start += count
    return root


@pytest.fixture
def image_folder(tmp_path):
    """A folder of 12 training and 5 validation images in each of three classes."""
    return write_image_folder(tmp_path / "images")


@pytest.fixture(scope="session")
def make_image_folder():
    """The function that writes such a folder."""
    return write_image_folder

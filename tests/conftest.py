"""What many tests need: a home of their own, small real images, a small trained supernet."""

import os
import sys

import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the numbers here are those of the CPU
os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads only wait for each other on such small networks


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Of several workers (`pytest -n 2`) one has all tests of a file, for the sake of the file's fixtures."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory):
    """NNI writes to the user's home, whatever the experiment's folder."""
    home = tmp_path_factory.mktemp("home")
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(home)
    yield
    if before is not None:
        os.environ["HOME"] = before


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order():
    """Random inputs are a test's own, whichever tests ran before it."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    if (processes := sys.modules.get("tests.processes")) is not None:
        processes.end_all()


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


TOY_SPACE = """
name: toy
choices:
  embed_dim: [16, 32]
  depth: [1, 2]
  num_heads: [1, 2]
  mlp_ratio: [1, 2]
model:
  img_size: 8
  patch_size: 4
  max_relative_position: 1
"""


@pytest.fixture(scope="session")
def toy(tmp_path_factory, make_image_folder):
    """A folder with `space.yaml` and `images/`, and in `run/` a supernet trained on them for three epochs."""
    from nni_autoformer.cli import main

    root = tmp_path_factory.mktemp("toy")
    (root / "space.yaml").write_text(TOY_SPACE)
    make_image_folder(root / "images", per_class={"train": 20, "val": 8})
    assert main(toy_train(root, root / "run")) == 0
    return root


def toy_train(root, output, *more):
    """The command line of the toy's training."""
    flags = f"train --space {root}/space.yaml --data {root}/images --output {output} --device cpu"
    recipe = "--epochs 3 --batch-size 8 --warmup-epochs 1 --selection 4-per-class --drop-path 0.2"
    return [*flags.split(), *recipe.split(), *more]


@pytest.fixture(scope="session")
def toy_command():
    """The function that gives the command line of the toy's training."""
    return toy_train

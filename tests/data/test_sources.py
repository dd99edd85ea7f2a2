"""Where images come from, and the sentence for each thing that can be wrong."""

import os
import pickle

import numpy as np
import pytest
import torch

from nni_autoformer import ConfigError
from nni_autoformer.data import open_data


def test_a_folder(image_folder):
    data = open_data("folder", image_folder)
    assert (len(data.train), len(data.test)) == (36, 15)
    assert data.train.classes == data.test.classes == ["one", "six", "two"]
    assert data.train.identifiers[0] == "train/one/00.png"
    assert data.test.identifiers[-1] == "val/two/04.png"
    assert np.bincount(data.train.targets).tolist() == [12, 12, 12]
    assert data.train.load(0).mode == "RGB"
    assert open_data("folder", str(image_folder), in_chans=1).train.load(0).mode == "L"
    assert len(data.mean) == 3
    assert len(open_data("folder", image_folder, in_chans=1).mean) == 1


def test_a_subset_keeps_images_with_their_names_and_classes(image_folder):
    train = open_data("folder", image_folder).train
    part = train.subset([30, 2, 17]).subset([2, 0])
    assert part.identifiers == [train.identifiers[17], train.identifiers[30]]
    assert part.targets.tolist() == [train.targets[17], train.targets[30]]
    assert np.array_equal(np.asarray(part.load(0)), np.asarray(train.load(17)))


def test_val_comes_before_test(tmp_path, make_image_folder):
    root = make_image_folder(tmp_path / "both", splits=("train", "val", "test"))
    assert open_data("folder", root).test.identifiers[0].startswith("val/")
    only_test = make_image_folder(tmp_path / "test", splits=("train", "test"))
    assert open_data("folder", only_test).test.identifiers[0].startswith("test/")


def remove(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: remove(root), "there is no such folder"),
        (lambda root: remove(root / "train"), "the folder train/ with a folder per class is missing"),
        (lambda root: remove(root / "val"), "a folder val/ or test/ with a folder per class is missing"),
        (
            lambda root: [remove(root / "train" / n) for n in ("one", "two", "six")],
            "train/ holds no class folders",
        ),
        (
            lambda root: (root / "val" / "six").rename(root / "val" / "nine"),
            "only in train/: six; only in val/: nine",
        ),
        (lambda root: (root / "val" / "extra").mkdir(), "val/ has classes without an image: extra"),
    ],
)
def test_a_wrong_folder_is_a_sentence(image_folder, spoil, words):
    spoil(image_folder)
    with pytest.raises(ConfigError, match=words) as error:
        open_data("folder", image_folder)
    assert str(image_folder) in str(error.value)


def test_a_corrupt_image_is_named_when_it_is_first_read(image_folder):
    (image_folder / "train" / "six" / "03.png").write_bytes(b"no image")
    data = open_data("folder", image_folder)
    index = data.train.identifiers.index("train/six/03.png")
    with pytest.raises(ConfigError, match=r"train/six/03.png: the file cannot be read as an image"):
        data.train.load(index)
    whole = image_folder / "train" / "six" / "04.png"
    whole.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(ConfigError, match=r"train/six/04.png"):
        data.train.load(index + 1)


def test_missing_or_unknown_data():
    with pytest.raises(ConfigError, match=r"--data is missing: --dataset folder"):
        open_data("folder", None)
    with pytest.raises(ConfigError, match=r"--dataset imagenet: there is no such data set"):
        open_data("imagenet", "somewhere")
    with pytest.raises(ConfigError, match=r"in_chans is 2"):
        open_data("digits", None, in_chans=2)


def test_the_digits_are_split_by_thirds_alike_and_always_the_same():
    np.random.seed(3)
    torch.manual_seed(3)
    first = open_data("digits", None, in_chans=1)
    second = open_data("digits", None, in_chans=1)
    assert (len(first.train), len(first.test)) == (1198, 599)
    assert first.train.targets.tolist() == second.train.targets.tolist()
    for split in (first.train, first.test):
        shares = np.bincount(split.targets) / len(split)
        assert (
            np.abs(shares - np.bincount(np.r_[first.train.targets, first.test.targets]) / 1797).max() < 0.002
        )
    image = first.train.load(0)
    assert image.size == (8, 8)
    assert np.asarray(image).max() == 255
    pixels = {np.asarray(first.train.load(i)).tobytes() for i in range(len(first.train))}
    assert not pixels & {np.asarray(first.test.load(i)).tobytes() for i in range(len(first.test))}


def test_the_digits_statistics_are_those_of_the_training_images():
    data = open_data("digits", None, in_chans=1)
    pixels = np.stack([np.asarray(data.train.load(i)) for i in range(len(data.train))]) / 255
    assert pixels.mean() == pytest.approx(data.mean[0], abs=5e-4)
    assert pixels.std() == pytest.approx(data.std[0], abs=5e-4)


def test_cifar10_says_where_it_looked(tmp_path):
    with pytest.raises(ConfigError, match=r"cifar-10-batches-py and is not there.*--download fetches it"):
        open_data("cifar10", tmp_path)


def test_cifar10_in_torchvisions_format(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name in names:
        content = {"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [0, 1, 2, 3]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(
        "torchvision.datasets.cifar.check_integrity", lambda *_: True
    )  # md5 of the real files
    data = open_data("cifar10", tmp_path)
    assert (len(data.train), len(data.test)) == (20, 4)
    expected = CIFAR10(str(tmp_path), train=True)
    assert np.array_equal(np.asarray(data.train.load(7)), np.asarray(expected[7][0]))
    assert data.train.identifiers[7] == "train/00007"


ODD_NAMES = [
    "a/b/c/nested.png",
    "with space/im age.PNG",
    "ünï/图像.jpeg",
    "quote'\"/semi;colon#.png",
    "a-b/sorted before a.png",
    "A/UPPER.JPEG",
    os.fsdecode(b"bytes/\xff\xfe.png"),
]


@pytest.fixture
def odd_folder(image_folder, tmp_path):
    """Nested folders, odd names, and links to files and to folders, as `ImageFolder` reads them."""
    for split in ("train", "val"):
        pixels = next((image_folder / split / "one").iterdir()).read_bytes()
        for name in ODD_NAMES:
            path = image_folder / split / "two" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(pixels)
        (image_folder / split / "two" / "notes.txt").write_text("no image")
        elsewhere = tmp_path / f"elsewhere-{split}"
        (image_folder / split / "six").rename(elsewhere)
        (image_folder / split / "six").symlink_to(elsewhere)
        (image_folder / split / "one" / "link.png").symlink_to(elsewhere / "00.png")
    return image_folder


def test_a_folder_is_read_as_torchvision_reads_it(odd_folder):
    from torchvision.datasets import ImageFolder

    for ours, split in zip(
        (open_data("folder", odd_folder).train, open_data("folder", odd_folder).test), ("train", "val")
    ):
        theirs = ImageFolder(str(odd_folder / split))
        assert ours.classes == theirs.classes
        assert [str(odd_folder / name) for name in ours.identifiers] == [path for path, _ in theirs.samples]
        assert ours.targets.tolist() == theirs.targets
        assert all(np.array_equal(ours.load(i), theirs[i][0]) for i in range(len(ours)))
        assert list(ours.used_files()) == [path for path, _ in theirs.samples]


def test_odd_names_stand_in_a_selection_list(odd_folder, tmp_path):
    from nni_autoformer.data import read_selection, write_selection

    source = open_data("folder", odd_folder).train
    write_selection(tmp_path / "list.txt", source.identifiers)
    assert read_selection(tmp_path / "list.txt", source) == list(range(len(source)))
    (odd_folder / "train" / "two" / "line\nbreak.png").symlink_to(odd_folder / "train" / "two" / "00.png")
    with pytest.raises(ConfigError, match=r"line\\nbreak.png': the name has a line break in it"):
        write_selection(tmp_path / "list.txt", open_data("folder", odd_folder).train.identifiers)

"""Named data sets through torchvision, on small real images in the formats that its classes read."""

import struct

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from nni_autoformer import ConfigError
from nni_autoformer.data import open_data
from nni_autoformer.data.catalogue import TORCHVISION


@pytest.fixture(autouse=True)
def any_digest(monkeypatch):
    """The files' MD5 are those of the real sets."""
    import os

    exists = lambda path, md5=None: os.path.exists(path)  # noqa: E731
    for module in ("flowers102", "cifar", "mnist"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", exists)


def photograph(number, side=40):
    china = load_sample_images().images[0]
    top, left = 13 * number % 300, 29 * number % 500
    return Image.fromarray(china[top : top + side, left : left + side])


def save(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph(number).save(path)


def flowers(root):
    from scipy.io import savemat

    base = root / "flowers-102"
    for number in range(1, 13):
        save(base / "jpg" / f"image_{number:05d}.jpg", number)
    savemat(base / "imagelabels.mat", {"labels": np.arange(1, 13)})
    savemat(base / "setid.mat", {"trnid": [3, 1], "valid": [4, 2], "tstid": list(range(5, 13))})


def pets(root):
    base = root / "oxford-iiit-pet"
    lists = {"trainval": [], "test": []}
    for number in range(6):
        name = f"{('Abyssinian', 'american_bulldog')[number % 2]}_{number}"
        save(base / "images" / f"{name}.jpg", number)
        lists["test" if number > 3 else "trainval"].append(f"{name} {number % 2 + 1} 1 1")
    (base / "annotations").mkdir()
    for split, lines in lists.items():
        (base / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")


def cars(root):
    from scipy.io import savemat

    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array(["Acura", "BMW"], dtype=object)})
    for split, place in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        entries = np.zeros(3, dtype=[("class", object), ("fname", object)])
        for number in range(3):
            name = f"{number + 1:05d}.jpg"
            save(base / f"cars_{split}" / name, number)
            entries[number] = (number % 2 + 1, name)
        savemat(base / place, {"annotations": entries})


def inaturalist(version):
    def write(root):
        for folder, count in ((version, 3), ("2021_valid", 2)):
            for number, name in enumerate(("Animalia_a_b_c_d_e_f", "Plantae_a_b_c_d_e_g")):
                for image in reversed(range(count)):
                    save(root / folder / f"{number:05d}_{name}" / f"{image}.jpg", image)

    return write


def fashion(root):
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 6), ("t10k", 4)):
        images = np.stack([np.asarray(photograph(i, 28).convert("L")) for i in range(count)])
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(
            struct.pack(">4I", 0x0803, count, 28, 28) + images.tobytes()
        )
        labels = struct.pack(">2I", 0x0801, count) + bytes(range(count))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)


def cifar100(root):
    import pickle

    folder = root / "cifar-100-python"
    folder.mkdir()
    for split, count in (("train", 6), ("test", 4)):
        pixels = [np.asarray(photograph(i, 32)).transpose(2, 0, 1).reshape(-1) for i in range(count)]
        content = {"data": np.stack(pixels), "fine_labels": list(range(count))}
        (folder / split).write_bytes(pickle.dumps(content))
    names = {"fine_label_names": [f"c{i:02d}" for i in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(names))


SETS = {
    # writer, training images, test images, classes, the first training image's name and class
    "flowers102": (flowers, 4, 8, 102, "flowers-102/jpg/image_00001.jpg", 0),
    "pets": (pets, 4, 2, 2, "oxford-iiit-pet/images/Abyssinian_0.jpg", 0),
    "cars": (cars, 3, 3, 2, "stanford_cars/cars_train/00001.jpg", 0),
    "inaturalist": (inaturalist("2021_train"), 6, 4, 2, "2021_train/00000_Animalia_a_b_c_d_e_f/0.jpg", 0),
    "inaturalist-mini": (
        inaturalist("2021_train_mini"),
        6,
        4,
        2,
        "2021_train_mini/00000_Animalia_a_b_c_d_e_f/0.jpg",
        0,
    ),
    "fashion-mnist": (fashion, 6, 4, 10, "train/00000", 0),
    "cifar100": (cifar100, 6, 4, 100, "train/00000", 0),
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_in_torchvisions_format(tmp_path, name):
    write, training, test, classes, first, target = SETS[name]
    write(tmp_path)
    data = open_data(name, tmp_path)
    assert (len(data.train), len(data.test), len(data.train.classes)) == (training, test, classes)
    assert (data.train.identifiers[0], data.train.targets[0]) == (first, target)
    assert data.train.classes == data.test.classes
    assert len(set(data.train.identifiers)) == training
    side = {"fashion-mnist": 28, "cifar100": 32}.get(name, 40)
    for in_chans, mode in ((3, "RGB"), (1, "L")):
        data = open_data(name, tmp_path, in_chans)
        image = data.test.load(1)
        assert (image.mode, image.size) == (mode, (side, side))
        assert len(data.mean) == len(data.std) == in_chans


def test_the_images_are_torchvisions_own(tmp_path):
    from torchvision.datasets import FashionMNIST, StanfordCars

    fashion(tmp_path), cars(tmp_path)
    grey = open_data("fashion-mnist", tmp_path, in_chans=1).train
    for ours, theirs in (
        (grey, FashionMNIST(str(tmp_path), train=True)),
        (open_data("cars", tmp_path).train, StanfordCars(str(tmp_path))),
    ):
        for number, target in enumerate(ours.targets):
            image, label = theirs[number]
            assert label == target
            assert np.array_equal(np.asarray(ours.load(number)), np.asarray(image))


def test_flowers_are_trained_on_both_small_splits(tmp_path):
    flowers(tmp_path)
    names = open_data("flowers102", tmp_path).train.identifiers
    assert [name[-5] for name in names] == list("1234")


def test_fashion_mnist_has_statistics_of_its_own(tmp_path):
    fashion(tmp_path)
    assert open_data("fashion-mnist", tmp_path, in_chans=1).mean == (0.286,)
    assert open_data("fashion-mnist", tmp_path, in_chans=3).std == (0.353,) * 3


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_missing_set_says_where_it_was_looked_for(tmp_path, name):
    entry = TORCHVISION[name]
    with pytest.raises(ConfigError, match=f"looked for in {tmp_path / entry.folder} and is not there"):
        open_data(name, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"there is no such folder"):
        open_data(name, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_what_cannot_be_fetched_is_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(
        ConfigError, match="--download: Stanford Cars cannot be fetched any more; put it into"
    ):
        open_data("cars", tmp_path, download=True)

    def refuse(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    with pytest.raises(ConfigError, match=r"--download: CIFAR-100 could not be fetched into .* \(no route\)"):
        open_data("cifar100", tmp_path, download=True)


def test_splits_of_other_classes_are_a_sentence(tmp_path):
    pets(tmp_path)
    listing = tmp_path / "oxford-iiit-pet" / "annotations" / "test.txt"
    listing.write_text(listing.read_text().replace("american_bulldog_5", "pug_5"))
    with pytest.raises(
        ConfigError, match="different classes for training and testing: American Bulldog, Pug"
    ):
        open_data("pets", tmp_path)

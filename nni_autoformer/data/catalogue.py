"""The data sets that have a name, as a table; it loads nothing, for the command line's help."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Samples = Iterable[tuple[Any, int]]
"""Files and their classes."""


@dataclass(frozen=True)
class TorchvisionSet:
    """One of torchvision's data sets.

    Attributes:
        title: name for people.
        class_name: name of the class in `torchvision.datasets`.
        folder: folder that the class looks in, below the root.
        train, test: the class's arguments for each split; several in `train` are put together, as the
            published transfer results have it.
        samples: the files and classes of an instance; None for a class that holds its images as an array.
        mean, std: per channel of images scaled to 0..1, where they are not ImageNet's.
        download: whether the class can still fetch it.
        labels: patterns, below the root, of the files that decide about classes; a folder stands for the
            names in it.
    """

    title: str
    class_name: str
    folder: str
    train: tuple[dict[str, Any], ...]
    test: dict[str, Any]
    samples: Callable[[Any], Samples] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    download: bool = True
    labels: tuple[str, ...] = ()


def _inaturalist(title: str, version: str) -> TorchvisionSet:
    return TorchvisionSet(
        title,
        "INaturalist",
        version,
        ({"version": version},),
        {"version": "2021_valid"},
        lambda data: ((f"{data.root}/{data.all_categories[n]}/{name}", n) for n, name in data.index),
        labels=(version, "2021_valid"),
    )


_HALVES: dict[str, Any] = {"train": ({"train": True},), "test": {"train": False}}

TORCHVISION = {
    "cifar10": TorchvisionSet(
        "CIFAR-10", "CIFAR10", "cifar-10-batches-py", **_HALVES, labels=("cifar-10-batches-py/*",)
    ),
    "cifar100": TorchvisionSet(
        "CIFAR-100", "CIFAR100", "cifar-100-python", **_HALVES, labels=("cifar-100-python/*",)
    ),
    "fashion-mnist": TorchvisionSet(
        "Fashion-MNIST",
        "FashionMNIST",
        "FashionMNIST/raw",
        **_HALVES,
        mean=(0.286,),
        std=(0.353,),
        labels=("FashionMNIST/raw/*",),
    ),
    "flowers102": TorchvisionSet(
        "Flowers-102",
        "Flowers102",
        "flowers-102",
        ({"split": "train"}, {"split": "val"}),
        {"split": "test"},
        lambda data: zip(data._image_files, data._labels),
        labels=("flowers-102/*.mat",),
    ),
    "pets": TorchvisionSet(
        "Oxford-IIIT Pet",
        "OxfordIIITPet",
        "oxford-iiit-pet",
        ({"split": "trainval"},),
        {"split": "test"},
        lambda data: zip(data._images, data._labels),
        labels=("oxford-iiit-pet/annotations/*.txt",),
    ),
    "cars": TorchvisionSet(
        "Stanford Cars",
        "StanfordCars",
        "stanford_cars",
        ({"split": "train"},),
        {"split": "test"},
        lambda data: data._samples,
        download=False,
        labels=("stanford_cars/*.mat", "stanford_cars/devkit/*.mat"),
    ),
    "inaturalist": _inaturalist("iNaturalist 2021", "2021_train"),
    "inaturalist-mini": _inaturalist("iNaturalist 2021, the small training set,", "2021_train_mini"),
}

PREFIXES = ("hfds/", "wds/")
"""Of the sources that timm's dataset factory opens and that can be read in any order."""

STREAMS = ("hfids/", "tfds/")
"""Of those that it can only stream."""

NAMES = ("folder", *TORCHVISION, "digits")


def needs_root(dataset: str) -> bool:
    """Whether a data set needs the folder of its images; Hugging Face's have a cache of their own."""
    return dataset != "digits" and not dataset.lower().startswith("hfds/")

"""Where images come from: a folder, CIFAR-10 through torchvision, scikit-learn's digits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..files import digest

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DIGITS_MEAN, DIGITS_STD = (0.305,), (0.376,)
"""Of the digits' training images, scaled to 0..1."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for a number of channels."""


@dataclass(frozen=True)
class ImageSource:
    """One split of a data set: images by number, decoded when they are asked for.

    Attributes:
        identifiers: a stable name of each image, which selection lists use: for a folder the path below the
            data's root with forward slashes, else the split and the number, as in 'train/00017'.
        targets: class of each image, (images,) int64.
        classes: names of the classes, in the order of their numbers.
        opener: opens one image by its identifier's position in the whole split; may raise what Pillow raises.
        indices: positions in the whole split.
        mode: Pillow's mode of the images that `load` gives.
        files: of the whole split, if each image is a file.
    """

    identifiers: list[str]
    targets: np.ndarray
    classes: list[str]
    opener: Callable[[int], Image.Image]
    indices: np.ndarray
    mode: str
    files: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.identifiers)

    def load(self, index: int) -> Image.Image:
        """Decode an image.

        Raises:
            ConfigError: the file cannot be read as an image; the sentence names it.
        """
        try:
            return self.opener(int(self.indices[index])).convert(self.mode)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ConfigError(
                f"{self.identifiers[index]}: the file cannot be read as an image ({type(error).__name__}: "
                f"{error})."
            ) from None

    def stamp(self) -> str:
        """A digest of the files' sizes and times of change; empty for images without files of their own."""
        if not self.files:
            return ""
        entries = (os.stat(self.files[int(i)]) for i in self.indices)
        return digest([f"{entry.st_size} {entry.st_mtime_ns}" for entry in entries])

    def subset(self, indices: Sequence[int]) -> ImageSource:
        """The images at these positions, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            identifiers=[self.identifiers[i] for i in chosen],
            targets=self.targets[chosen],
            indices=self.indices[chosen],
        )


@dataclass(frozen=True)
class DataSplits:
    """A data set: images to train and select on, and images to test on.

    Attributes:
        train, test: the splits; same classes.
        mean, std: per channel, of images scaled to 0..1.
    """

    train: ImageSource
    test: ImageSource
    mean: tuple[float, ...]
    std: tuple[float, ...]


def open_data(
    dataset: str,
    root: str | Path | None,
    in_chans: int = 3,
    download: bool = False,
    test_only: bool = False,
) -> DataSplits:
    """Open a data set by name; no image is decoded yet.

    Args:
        dataset: 'folder' (`root/train/CLASS/…` and `root/val/CLASS/…` or `root/test/CLASS/…`), 'cifar10' or
            'digits'.
        root: folder of the images; 'digits' needs none.
        in_chans: channels that the network wants: 1 or 3.
        download: let torchvision download CIFAR-10 into `root`.
        test_only: for a folder, look at the test images alone: `train` is then the same as `test`. A listing
            of ImageNet's training folder takes minutes.

    Raises:
        ConfigError: the data is not there or not as it should be.
    """
    if in_chans not in MODES:
        raise ConfigError(f"the space's in_chans is {in_chans}; images can be read with 1 or 3 channels.")
    if dataset == "digits":
        return _digits(MODES[in_chans])
    if root is None:
        raise ConfigError(f"--data is missing: --dataset {dataset} needs the folder of the images.")
    root = Path(root)
    if dataset == "cifar10":
        return _cifar10(root, MODES[in_chans], download)
    if dataset == "folder":
        return _folder(root, MODES[in_chans], test_only)
    raise ConfigError(
        f"--dataset {dataset}: there is no such data set; known are folder, cifar10 and digits."
    )


def statistics(mode: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """ImageNet's mean and standard deviation per channel, of images scaled to 0..1, in a Pillow mode."""
    if mode == "RGB":
        return IMAGENET_MEAN, IMAGENET_STD
    return (round(sum(IMAGENET_MEAN) / 3, 4),), (round(sum(IMAGENET_STD) / 3, 4),)


# A folder of images


def _folder(root: Path, mode: str, test_only: bool) -> DataSplits:
    if not root.is_dir():
        raise ConfigError(f"--data {root}: there is no such folder.")
    if not test_only and not (root / "train").is_dir():
        raise ConfigError(f"--data {root}: the folder train/ with a folder per class is missing.")
    held = [name for name in ("val", "test") if (root / name).is_dir()]
    if not held:
        raise ConfigError(f"--data {root}: a folder val/ or test/ with a folder per class is missing.")
    train, test = (_folder_split(root, name, mode) for name in (held[0] if test_only else "train", held[0]))
    if train.classes != test.classes:
        here, there = set(train.classes) - set(test.classes), set(test.classes) - set(train.classes)
        parts = [
            f"only in {name}/: {', '.join(sorted(only)[:3])}{' …' if len(only) > 3 else ''}"
            for name, only in (("train", here), (held[0], there))
            if only
        ]
        raise ConfigError(
            f"--data {root}: train/ and {held[0]}/ hold different classes ({'; '.join(parts)})."
        )
    return DataSplits(train, test, *statistics(mode))


def _folder_split(root: Path, name: str, mode: str) -> ImageSource:
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    try:
        classes, numbers = find_classes(str(root / name))
        samples = make_dataset(str(root / name), numbers, extensions=IMG_EXTENSIONS)
    except FileNotFoundError as error:
        if not any(entry.is_dir() for entry in (root / name).iterdir()):
            raise ConfigError(f"--data {root}: {name}/ holds no class folders.") from None
        empty = [label for label in classes if not _has_image(root / name / label, IMG_EXTENSIONS)]
        raise ConfigError(
            f"--data {root}: {name}/ has classes without an image: {', '.join(empty[:3])} "
            f"({error.args[0][:60]}…)."
        ) from None
    files = [path for path, _ in samples]
    return ImageSource(
        identifiers=[Path(path).relative_to(root).as_posix() for path in files],
        targets=np.array([target for _, target in samples], dtype=np.int64),
        classes=classes,
        opener=partial(_open_file, files),
        indices=np.arange(len(files)),
        mode=mode,
        files=files,
    )


def _has_image(folder: Path, extensions: tuple[str, ...]) -> bool:
    return any(path.name.lower().endswith(extensions) for path in folder.rglob("*"))


def _open_file(files: list[str], index: int) -> Image.Image:
    with Image.open(files[index]) as image:
        image.load()
        return image


# Data sets that are arrays


def _array_source(
    split: str, images: np.ndarray, targets: np.ndarray, classes: list[str], mode: str
) -> ImageSource:
    return ImageSource(
        identifiers=[f"{split}/{i:05d}" for i in range(len(images))],
        targets=np.asarray(targets, dtype=np.int64),
        classes=classes,
        opener=partial(_open_array, images),
        indices=np.arange(len(images)),
        mode=mode,
    )


def _open_array(images: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(images[index])


def _cifar10(root: Path, mode: str, download: bool) -> DataSplits:
    from torchvision.datasets import CIFAR10

    place = root / CIFAR10.base_folder
    sources = []
    for split in ("train", "test"):
        try:
            data = CIFAR10(str(root), train=split == "train", download=download)
        except RuntimeError as error:
            if download:
                raise ConfigError(f"--download: {place} is still incomplete ({error}).") from None
            raise ConfigError(
                f"CIFAR-10 was looked for in {place} and is not there, or is damaged; --download fetches it."
            ) from None
        except OSError as error:
            raise ConfigError(f"--download: CIFAR-10 could not be fetched into {root} ({error}).") from None
        sources.append(_array_source(split, data.data, np.array(data.targets), list(data.classes), mode))
    train, test = sources
    return DataSplits(train, test, *statistics(mode))


def _digits(mode: str) -> DataSplits:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)
    parts = train_test_split(images, data.target, test_size=1 / 3, stratify=data.target, random_state=0)
    classes = [str(name) for name in data.target_names]
    train = _array_source("train", parts[0], parts[2], classes, mode)
    test = _array_source("test", parts[1], parts[3], classes, mode)
    channels = 1 if mode == "L" else 3
    return DataSplits(train, test, DIGITS_MEAN * channels, DIGITS_STD * channels)

"""What an image source is: images by number, decoded when they are asked for; and a data set made of two."""

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
from .catalogue import Samples

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

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


def statistics(mode: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """ImageNet's mean and standard deviation per channel, of images scaled to 0..1, in a Pillow mode."""
    if mode == "RGB":
        return IMAGENET_MEAN, IMAGENET_STD
    return (round(sum(IMAGENET_MEAN) / 3, 4),), (round(sum(IMAGENET_STD) / 3, 4),)


def array_source(
    split: str, images: np.ndarray, targets: np.ndarray, classes: list[str], mode: str
) -> ImageSource:
    """The images of an array (images, height, width) or (images, height, width, 3)."""
    return ImageSource(
        identifiers=numbered(split, len(images)),
        targets=np.asarray(targets, dtype=np.int64),
        classes=classes,
        opener=partial(_open_array, images),
        indices=np.arange(len(images)),
        mode=mode,
    )


def numbered(split: str, count: int) -> list[str]:
    """Identifiers of images that have no names of their own."""
    return [f"{split}/{i:05d}" for i in range(count)]


def _open_array(images: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(images[index])


def file_source(root: Path, samples: Samples, classes: list[str], mode: str) -> ImageSource:
    """Images that are files of their own, in the order that is given.

    Args:
        root: of the data set; the images are named by their paths below it.
        samples: the files and their classes.
        classes: names of the classes.
        mode: Pillow's.
    """
    pairs = [(str(path), target) for path, target in samples]
    files = [path for path, _ in pairs]
    return ImageSource(
        identifiers=[Path(path).relative_to(root).as_posix() for path in files],
        targets=np.array([target for _, target in pairs], dtype=np.int64),
        classes=classes,
        opener=partial(_open_file, files),
        indices=np.arange(len(files)),
        mode=mode,
        files=files,
    )


def _open_file(files: list[str], index: int) -> Image.Image:
    with Image.open(files[index]) as image:
        image.load()
        return image

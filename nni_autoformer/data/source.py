"""What an image source is: images by number, decoded when they are asked for; and a data set made of two."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..files import open_regular
from .catalogue import Samples
from .opening import open_image, to_mode

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
        opener: opens one image by its identifier's position in the whole split, in a `with` statement; may
            raise what Pillow raises.
        indices: positions in the whole split.
        mode: Pillow's mode of the images that `load` gives.
        files: file that each image of the whole split is or lies in, if there is one.
        array: images of the whole split, if its images are held as one array.
        watched: further files that decide about images or labels, and the folder of the class folders.
        left_out: how many files of the whole split are no images, by kind, see `disk`.
    """

    identifiers: list[str]
    targets: np.ndarray
    classes: list[str]
    opener: Callable[[int], AbstractContextManager[Image.Image]]
    indices: np.ndarray
    mode: str
    files: Sequence[str] = ()
    array: np.ndarray | None = None
    watched: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.identifiers)

    @contextmanager
    def open(self, index: int) -> Iterator[Image.Image]:
        """Open an image as it is, undecoded, in a `with` statement.

        Raises:
            ConfigError: also for what the statement's body does: the file cannot be read as an image; the
                sentence names it.
        """
        try:
            with self.opener(int(self.indices[index])) as image:
                yield image
        except ConfigError:
            raise
        except Exception as error:  # whatever damaged files make Pillow say
            why = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"{self.identifiers[index]}: the file cannot be read as an image ({why})."
            ) from None

    def load(self, index: int) -> Image.Image:
        """Decode an image and convert it to the source's mode, see `opening.to_mode`.

        Raises:
            ConfigError: the file cannot be read as an image; the sentence names it.
        """
        with self.open(index) as image:
            return to_mode(image, self.mode)

    def used_files(self) -> Sequence[str]:
        """The files that these images are or lie in, each once, in the images' order."""
        if isinstance(self.files, FilesBelow):
            return FilesBelow(self.files.root, self.identifiers)
        return list(dict.fromkeys(self.files[int(i)] for i in self.indices)) if len(self.files) else []

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
        train, test: the splits; same classes. They are one object where only the test images were asked for.
        mean, std: per channel, of images scaled to 0..1.
        names: names of the two splits where they lie.
        unused: names of what lies beside them and is not looked at.
    """

    train: ImageSource
    test: ImageSource
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, str] = ("train", "test")
    unused: Sequence[str] = ()


def statistics(mode: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """ImageNet's mean and standard deviation per channel, of images scaled to 0..1, in a Pillow mode."""
    if mode == "RGB":
        return IMAGENET_MEAN, IMAGENET_STD
    return (round(sum(IMAGENET_MEAN) / 3, 4),), (round(sum(IMAGENET_STD) / 3, 4),)


def array_source(
    split: str,
    images: np.ndarray,
    targets: np.ndarray,
    classes: list[str],
    mode: str,
    watched: Sequence[str] = (),
) -> ImageSource:
    """The images of an array (images, height, width) or (images, height, width, 3), 8 bits.

    Args:
        split: name that the identifiers start with.
        images, targets: pixels and classes.
        classes: names of the classes.
        mode: Pillow's mode of the images that are given.
        watched: files that the array comes from.
    """
    return ImageSource(
        identifiers=numbered(split, len(images)),
        targets=np.asarray(targets, dtype=np.int64),
        classes=classes,
        opener=partial(_open_array, images),
        indices=np.arange(len(images)),
        mode=mode,
        array=images,
        watched=watched,
    )


def numbered(split: str, count: int) -> list[str]:
    """Identifiers of images that have no names of their own."""
    return [f"{split}/{i:05d}" for i in range(count)]


def _open_array(images: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(images[index])


def file_source(
    root: Path, samples: Samples, classes: list[str], mode: str, watched: Sequence[str] = ()
) -> ImageSource:
    """Images that are files of their own, in the order that is given.

    Args:
        root: folder of the data set; the images are named by their paths below it.
        samples: the files and their classes.
        classes: names of the classes.
        mode: Pillow's mode of the images that are given.
        watched: files and folders that tell of changes, see `ImageSource`.
    """
    pairs = [(Path(path).relative_to(root).as_posix(), target) for path, target in samples]
    targets = np.array([target for _, target in pairs], dtype=np.int64)
    return named_source(root, [name for name, _ in pairs], targets, classes, mode, watched=watched)


def named_source(
    root: Path, names: list[str], targets: np.ndarray, classes: list[str], mode: str, **more: Any
) -> ImageSource:
    """Images that are files of their own, by their names.

    Args:
        root: folder of the data set.
        names: paths below it, with forward slashes.
        targets: (images,) int64.
        classes: names of the classes.
        mode: Pillow's mode of the images that are given.
        more: what else an `ImageSource` may say.
    """
    files = FilesBelow(str(root), names)
    numbers = np.arange(len(names))
    return ImageSource(names, targets, classes, partial(_open_file, files), numbers, mode, files, **more)


class FilesBelow(Sequence[str]):
    """The files of a folder by their names below it, without a second list of a million paths."""

    def __init__(self, root: str, names: list[str]) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        return os.path.join(self.root, self.names[index])


@contextmanager
def _open_file(files: Sequence[str], index: int) -> Iterator[Image.Image]:
    with open_regular(files[index]) as file, open_image(file) as image:
        yield image

"""Images that cannot be read: named, counted, and left out when the user wants that."""

from __future__ import annotations

import logging

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..bars import Bar
from ..errors import ConfigError
from ..randomness import generator
from .source import ImageSource

_logger = logging.getLogger("nni_autoformer")

ATTEMPTS = 100
"""How many images in a row may be bad before it is the data as a whole that is wrong."""


class BadImages:
    """A count of bad images, which the processes that load write to and the one that trains reads.

    Whoever is given one leaves bad images out; each is named by a warning when it is first met.
    """

    def __init__(self) -> None:
        self._flags: list[tuple[list[str], Tensor]] = []

    @property
    def names(self) -> list[str]:
        """The bad images that were met so far."""
        met = (names[i] for names, flags in self._flags for i in flags.nonzero().flatten().tolist())
        return sorted(set(met))

    def watch(self, source: ImageSource) -> Tensor:
        """A flag for each image of a source, in memory that other processes share."""
        flags = torch.zeros(len(source), dtype=torch.bool).share_memory_()
        self._flags.append((source.identifiers, flags))
        return flags

    def report(self) -> str:
        """A sentence about what was left out; empty if nothing was."""
        names = self.names
        if not names:
            return ""
        noun = "image was" if len(names) == 1 else "images were"
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        return f"{len(names):,} bad {noun} left out: {', '.join(names[:3])}{more}."


def tell(flags: Tensor, index: int, error: ConfigError) -> None:
    """Note a bad image, and name it the first time."""
    if not flags[index]:
        flags[index] = True
        _logger.warning(f"{error} It is left out.")


def load_or_replace(
    source: ImageSource, key: tuple[int, ...], seed: int, flags: Tensor
) -> tuple[Image.Image, int]:
    """The image of a training item, or another in its place if it is bad; and its position in the source.

    Args:
        source: the images.
        key: key of the item, (epoch, index, …); which image takes a bad one's place depends on it and on the
            seed alone, so not on who loads.
        seed: random seed of the run.
        flags: a flag for each image, see `BadImages.watch`.

    Raises:
        ConfigError: `ATTEMPTS` images in a row are bad.
    """
    index, draw = key[1], generator(seed, "replacement", *key)
    for _ in range(ATTEMPTS):
        try:
            return source.load(index), index
        except ConfigError as error:
            tell(flags, index, error)
            last = error
        index = draw.randrange(len(source))
    raise ConfigError(f"{ATTEMPTS} images in a row cannot be read. {last}")


class _Errors(Dataset):
    """For each image of a source what is wrong with it; empty for nothing."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> str:
        try:
            self.source.load(index)
        except ConfigError as error:
            return str(error)
        return ""


def readable(
    source: ImageSource, bad: BadImages, workers: int = 0, progress: str | None = None
) -> ImageSource:
    """The images of a source that can be read; every one is decoded to find out.

    Args:
        source: the images.
        bad: notes the others.
        workers: processes that decode.
        progress: name of a progress bar; None for no bar.

    Raises:
        ConfigError: none can be read.
    """
    flags = bad.watch(source)
    loader = DataLoader(
        _Errors(source), batch_size=64, num_workers=workers, collate_fn=list, generator=torch.Generator()
    )
    done = 0
    with Bar(len(source), progress or "", shown=progress is not None) as bar:
        for errors in loader:
            for index, error in enumerate(errors, done):
                if error:
                    tell(flags, index, ConfigError(error))
            done += len(errors)
            bar.update(len(errors))
    keep = (~flags).nonzero().flatten().tolist()
    if not keep:
        raise ConfigError(
            f"none of the {len(source):,} images can be read, the first is {source.identifiers[0]}."
        )
    if len(keep) == len(source):
        return source
    left = source.subset(keep)
    lost = set(np.unique(source.targets).tolist()) - set(np.unique(left.targets).tolist())
    if lost:
        names = ", ".join(source.classes[number] for number in sorted(lost)[:3])
        _logger.warning(f"No image that can be read is left of {len(lost):,} classes: {names}.")
    return left

"""The selection set: images by which the search compares subnets, held out of the supernet's training.

The published way selects on images that the supernet was trained on, which flatters large subnets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..files import digest, open_regular, replacing
from ..randomness import generator
from .source import ImageSource

DEFAULT_PER_CLASS = 100
"""The published number of selection images per class."""


@dataclass(frozen=True)
class Selection:
    """What `--selection` asks for: nothing, a number of images per class, or a file that lists them."""

    per_class: int = 0
    file: Path | None = None

    @property
    def none(self) -> bool:
        """Whether no image is to be held out."""
        return self.file is None and self.per_class == 0


def parse_selection(text: str) -> Selection:
    """Read the flag: 'none', 'N-per-class', or a file.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "none":
        return Selection()
    if match := re.fullmatch(r"(-?\d+)-per-class", text):
        if int(match[1]) < 1:
            raise ConfigError(f"--selection {text}: at least one image per class is needed, or 'none'.")
        return Selection(per_class=int(match[1]))
    if not Path(text).is_file():
        raise ConfigError(
            f"--selection {text}: this is neither 'none', nor as in '100-per-class', nor a file."
        )
    return Selection(file=Path(text))


def default_per_class(targets: np.ndarray) -> int:
    """How many images per class to hold out: 100, but at most a fifth of the smallest class, and at least
    one.
    """
    return max(1, min(DEFAULT_PER_CLASS, int(np.bincount(targets).min()) // 5))


def draw_selection(source: ImageSource, per_class: int, seed: int = 0) -> list[int]:
    """Draw the same number of images from every class.

    Args:
        source: the training images.
        per_class: how many of each class.
        seed: the draw is a function of it and of each class's images alone.

    Returns:
        Positions in the source, ascending.

    Raises:
        ConfigError: a class has too few images to leave one for training.
    """
    chosen: list[int] = []
    for number, name in enumerate(source.classes):
        members = np.flatnonzero(source.targets == number).tolist()
        if len(members) <= per_class:
            raise ConfigError(
                f"--selection {per_class}-per-class leaves nothing to train on: class '{name}' has "
                f"{len(members)} "
                "training images."
            )
        chosen += generator(seed, "selection", number).sample(members, per_class)
    return sorted(chosen)


def write_selection(path: str | Path, identifiers: list[str]) -> str:
    """Write the list, an identifier per line atomically; its digest.

    Raises:
        ConfigError: a name has a line break in it.
    """
    for name in identifiers:
        if "\n" in name or "\r" in name:
            raise ConfigError(
                f"{name!r}: the name has a line break in it, which a list cannot hold; rename it."
            )
    with replacing(path) as temporary:  # a file's name may be bytes that are no text
        temporary.write_text("".join(f"{name}\n" for name in identifiers), "utf-8", "surrogateescape")
    return digest(identifiers)


def read_selection(path: str | Path, source: ImageSource, every_class: bool = True) -> list[int]:
    """The positions in a source of the images that a file lists, ascending.

    Args:
        path: the file.
        source: images among which they are.
        every_class: refuse a list that has no image of a class.

    Raises:
        ConfigError: the file is missing or empty, lists an image twice, or one that the source has not, or
            lacks a class.
    """
    try:
        with open_regular(path) as file:
            text = file.read().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ConfigError(f"{path}: the selection list cannot be read ({error}).") from None
    # not splitlines: a file's name may hold what else is a line's end in Unicode
    names = [name.strip() for name in text.replace("\r", "\n").split("\n") if name.strip()]
    if not names:
        raise ConfigError(f"{path}: the selection list names no image.")
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: the selection list names an image twice.")
    positions = {name: i for i, name in enumerate(source.identifiers)}
    if unknown := [name for name in names if name not in positions]:
        raise ConfigError(
            f"{path}: {len(unknown)} of {len(names)} listed images are not among the training images, the "
            f"first is '{unknown[0][:200]}'."
        )
    found = sorted(positions[name] for name in names)
    counts = np.bincount(source.targets[found], minlength=len(source.classes))
    if every_class and (lacking := [source.classes[number] for number in np.flatnonzero(counts == 0)]):
        more = f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else ""
        raise ConfigError(
            f"{path}: the selection list has no image of {len(lacking):,} of the {len(counts):,} classes: "
            f"{', '.join(lacking[:3])}{more}. Subnets would be compared without them; list images of every "
            "class."
        )
    return found


def split_selection(source: ImageSource, indices: list[int]) -> tuple[ImageSource, ImageSource]:
    """The images that stay for training, and the held-out ones at these positions.

    Raises:
        ConfigError: nothing would stay for training.
    """
    keep = np.ones(len(source), dtype=bool)
    keep[indices] = False
    if not keep.any():
        raise ConfigError("the selection holds every training image, so none is left to train on.")
    return source.subset(np.flatnonzero(keep).tolist()), source.subset(indices)

"""What a data set consists of, in words: at a glance for the start of a run, image by image for a check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ..bars import Bar
from ..errors import ConfigError
from .bad_images import BadImages, tell
from .formats import suffix_fits, suffix_of
from .opening import orientation_of, to_mode
from .source import DataSplits, ImageSource

GLANCES = 100
"""How many images of a split `describe` opens, evenly spread; a millisecond each at most."""


class ImageFacts(NamedTuple):
    """What one image is.

    Attributes:
        mode: Pillow's name of how its pixels are stored.
        format: Pillow's name of the format; empty for images without files.
        size: width and height in pixels, as stored.
        turned: it carries an orientation tag that has it turned or mirrored.
        several: it has several frames or pages, of which the first is used.
        misnamed: whether its suffix is that of another format.
        error: what is wrong with it, as a sentence; empty for nothing.
    """

    mode: str = ""
    format: str = ""
    size: tuple[int, int] = (0, 0)
    turned: bool = False
    several: bool = False
    misnamed: bool = False
    error: str = ""


def look_into(source: ImageSource, index: int, whole: bool = True) -> ImageFacts:
    """What an image is; an image that cannot be read is no exception here.

    Args:
        source: the images.
        index: position of the image.
        whole: decode it and count its frames; else only its header is read.
    """
    facts = ImageFacts()
    try:
        with source.open(index) as image:
            name, found = source.identifiers[index], image.format or ""
            facts = ImageFacts(image.mode, found, image.size, orientation_of(image) != 1)
            facts = facts._replace(misnamed=bool(found) and _misnamed(name, found))
            if whole:
                several = _has_several(image)
                to_mode(image, source.mode)
                # a PNG file may have its tag behind the pixels
                facts = facts._replace(several=several, turned=facts.turned or orientation_of(image) != 1)
    except ConfigError as error:
        return facts._replace(error=str(error))
    return facts


def _has_several(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # damage behind the first frame, which alone counts
        return False


def _misnamed(name: str, found: str) -> bool:
    suffix = suffix_of(name)
    return bool(suffix) and not suffix_fits(suffix, found)


@dataclass
class Survey:
    """What the images of a split are.

    Attributes:
        images: how many were looked into.
        modes, formats: how many of each.
        turned, several, misnamed: how many are so, see `ImageFacts`.
        smallest, largest: width and height in pixels of the images with the fewest and the most pixels.
        bad: how many cannot be read.
    """

    images: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    turned: int = 0
    several: int = 0
    misnamed: int = 0
    smallest: tuple[int, int] = (0, 0)
    largest: tuple[int, int] = (0, 0)
    bad: int = 0

    def add(self, facts: ImageFacts) -> None:
        """Count an image."""
        self.images += 1
        self.bad += bool(facts.error)
        if not facts.mode:
            return
        self.modes[facts.mode] += 1
        self.formats[facts.format] += bool(facts.format)
        self.turned += facts.turned
        self.several += facts.several
        self.misnamed += facts.misnamed
        area = _pixels(facts.size)
        if not self.largest[0] or area > _pixels(self.largest):
            self.largest = facts.size
        if not self.smallest[0] or area < _pixels(self.smallest):
            self.smallest = facts.size

    def rows(self) -> list[tuple[str, str]]:
        """A table of what was found: each row a name and a text."""
        (width, height), (wide, high) = self.smallest, self.largest
        return [
            ("modes", _counts(self.modes)),
            ("formats", _counts(+self.formats) or "none: the images are an array"),
            ("sizes", f"{width} x {height} to {wide} x {high} pixels"),
            ("orientation tags", f"{self.turned:,}, shown upright"),
            ("several frames", f"{self.several:,}, the first is used"),
            ("suffix of another format", f"{self.misnamed:,}, the content counts"),
        ]


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _counts(found: Mapping[str, int]) -> str:
    pairs = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {count:,}" for name, count in pairs)


class _Facts(Dataset):
    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ImageFacts:
        return look_into(self.source, index)


def survey_of(
    source: ImageSource, bad: BadImages | None = None, workers: int = 0, progress: str | None = None
) -> Survey:
    """Decode every image of a split and say what they are.

    Args:
        source: the images.
        bad: notes those that cannot be read, each of which a warning names.
        workers: processes that decode.
        progress: name of a progress bar; None for no bar.
    """
    found, flags = Survey(), (BadImages() if bad is None else bad).watch(source)
    loader = DataLoader(
        _Facts(source), batch_size=64, num_workers=workers, collate_fn=list, generator=torch.Generator()
    )
    with Bar(len(source), progress or "", shown=progress is not None) as bar:
        for batch in loader:
            for facts in batch:
                if facts.error:
                    tell(flags, found.images, ConfigError(facts.error))
                found.add(facts)
            bar.update(len(batch))
    return found


def describe(splits: DataSplits) -> str:
    """A line about a data set: splits used and not used, images, classes, files left out by kind, and from
    some of the images their modes and orientation tags. It takes some hundredths of a second.
    """
    train, test = splits.train, splits.test
    used = [] if train is test else [(train, "training", splits.names[0])]
    used.append((test, "test", splits.names[1]))
    parts = [f"{len(source):,} {word} images in {name}" for source, word, name in used]
    parts.append(f"{len(test.classes):,} classes")
    if splits.unused:
        more = f" and {len(splits.unused) - 5:,} more" if len(splits.unused) > 5 else ""
        parts.append(f"not used: {', '.join(splits.unused[:5])}{more}")
    left_out = Counter[str]()
    for source, _, _ in used:
        left_out.update(source.left_out)
    glance, total = Survey(), 0
    for source, _, _ in used:
        total += len(source)
        for index in np.unique(np.linspace(0, len(source) - 1, min(GLANCES, len(source)), dtype=int)):
            glance.add(look_into(source, int(index), whole=False))
    among = "" if glance.images == total else f" of {glance.images:,} looked at"
    parts.append(f"left out: {left_out_in_words(left_out)}")
    parts.append(f"modes{among}: {_counts(glance.modes) or 'unknown'}")
    parts.append(f"orientation tags{among}: {glance.turned:,}")
    return f"Images: {'; '.join(parts)}."


def left_out_in_words(left_out: Mapping[str, int]) -> str:
    """How many files of each kind are left out, the most frequent ones first; 'nothing' for none."""
    pairs = sorted((+Counter(left_out)).items(), key=lambda pair: (-pair[1], pair[0]))
    if not pairs:
        return "nothing"
    words = [f"{count:,} {kind}" for kind, count in pairs[:6]]
    if len(pairs) > 6:
        words.append(f"{sum(count for _, count in pairs[6:]):,} of {len(pairs) - 6:,} other kinds")
    return ", ".join(words)

"""Images decoded once into one 8-bit array, for everything that looks at them more than once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..bars import Bar
from ..errors import ConfigError

if TYPE_CHECKING:
    from .source import ImageSource

Transform = Callable[[Any], Tensor]
"""From a Pillow image to 8-bit pixels (channels, height, width)."""


@dataclass(frozen=True)
class DecodedImages:
    """Decoded images and their classes.

    Attributes:
        images: 8-bit pixels (images, channels, height, width).
        targets: (images,) int64.
        identifiers: the images' names in their source.
        sums: checksums of both arrays by name, where they are known already, see `stored_facts.checksums`.
    """

    images: Tensor
    targets: Tensor
    identifiers: list[str] = field(default_factory=list)
    sums: Mapping[str, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)

    def checksum(self) -> int:
        """Of all pixels and classes, 48 bits: a number that JSON and JavaScript keep."""
        from .stored_facts import checksums

        arrays = {"images": self.images, "targets": self.targets}
        sums = [self.sums.get(name) or checksums(array.numpy()) for name, array in arrays.items()]
        return int(hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:12], 16)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Views of consecutive images and their classes; the last may be smaller."""
        yield from zip(self.images.split(batch_size), self.targets.split(batch_size))


class _Pixels(Dataset):
    def __init__(self, source: ImageSource, transform: Transform) -> None:
        self.source, self.transform = source, transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.source.load(index))


def _in_memory(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=torch.uint8)


def decode(
    source: ImageSource,
    transform: Transform,
    progress: str | None = None,
    workers: int = 0,
    allocate: Callable[[tuple[int, ...]], Tensor] = _in_memory,
) -> DecodedImages:
    """Decode every image of a source, once.

    Args:
        source: the images.
        transform: gives the same size for all of them.
        progress: name of a progress bar; None for no bar.
        workers: processes that decode; 0 decodes in this one.
        allocate: gives the 8-bit array of that shape which is filled.

    Raises:
        ConfigError: there is no image, or a file cannot be read as one.
    """
    if not len(source):
        raise ConfigError("there is no image to decode.")
    # a generator of its own: the loader would otherwise draw a number from torch's global stream
    loader = DataLoader(
        _Pixels(source, transform), batch_size=64, num_workers=workers, generator=torch.Generator()
    )
    images = torch.empty(0, dtype=torch.uint8)
    done = 0
    with Bar(len(source), progress or "", shown=progress is not None) as bar:
        for batch in loader:
            if not done:
                images = allocate((len(source), *batch.shape[1:]))
            images[done : done + len(batch)] = batch
            done += len(batch)
            bar.update(len(batch))
    return DecodedImages(images, torch.from_numpy(source.targets.copy()), list(source.identifiers))

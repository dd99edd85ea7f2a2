"""Images decoded once into one 8-bit array, for everything that looks at them more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from .sources import ImageSource

Transform = Callable[[Image.Image], np.ndarray]


@dataclass(frozen=True)
class DecodedImages:
    """Decoded images and their classes.

    Attributes:
        images: 8-bit pixels (images, channels, height, width).
        targets: (images,) int64.
    """

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Views of consecutive images and their classes; the last may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.images[start : start + batch_size], self.targets[start : start + batch_size]


class _Pixels(Dataset):
    def __init__(self, source: ImageSource, transform: Transform) -> None:
        self.source, self.transform = source, transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.transform(self.source.load(index)))


def decode(
    source: ImageSource, transform: Transform, progress: str | None = None, workers: int = 0
) -> DecodedImages:
    """Decode every image of a source, once.

    Args:
        source: the images.
        transform: from a Pillow image to 8-bit pixels (channels, height, width), the same size for all.
        progress: the description of a progress bar; None for no bar.
        workers: processes that decode; 0 decodes in this one.

    Raises:
        ConfigError: a file cannot be read as an image.
    """
    loader = DataLoader(_Pixels(source, transform), batch_size=64, num_workers=workers)
    images: Tensor | None = None
    done = 0
    with tqdm(total=len(source), desc=progress, unit="image", disable=progress is None) as bar:
        for batch in loader:
            if images is None:
                images = torch.empty((len(source), *batch.shape[1:]), dtype=torch.uint8)
            images[done : done + len(batch)] = batch
            done += len(batch)
            bar.update(len(batch))
    assert images is not None
    return DecodedImages(images, torch.from_numpy(source.targets.copy()))

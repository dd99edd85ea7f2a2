"""Loading for training: order and augmentation are functions of (seed, epoch, image), not of who loads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from ..randomness import derive
from .cache import Transform
from .sources import ImageSource


class TrainImages(Dataset):
    """Randomly transformed images; the item (epoch, index) is always the same.

    The transforms of torchvision and timm draw from the global streams of Python, NumPy and torch, so these
    are seeded for each image; outside of a worker process they are put back afterwards.

    Args:
        source: the images.
        transform: from a Pillow image to 8-bit pixels (channels, height, width).
        seed: of the run.
    """

    def __init__(self, source: ImageSource, transform: Transform, seed: int = 0) -> None:
        self.source, self.transform, self.seed = source, transform, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        image = self.source.load(index)
        with _seeded(derive(self.seed, "augmentation", epoch, index)):
            pixels = self.transform(image)
        return torch.from_numpy(np.ascontiguousarray(pixels)), int(self.source.targets[index])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    keep = get_worker_info() is None
    before = (random.getstate(), np.random.get_state(), torch.get_rng_state()) if keep else None
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        if before is not None:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])


class EpochSampler(Sampler[tuple[int, int]]):
    """The order of an epoch's images as (epoch, index) pairs, so that an item says which epoch it is for.

    Every global batch holds the same images for any number of ranks; each rank takes its part of it. What
    does not fill a global batch is left for another epoch, unless there is no full batch at all.

    Args:
        length: how many images there are.
        batch_size: images per rank and step.
        seed: of the run.
        rank, world_size: which part of each global batch to take.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.length, self.seed = length, seed
        self.rank, self.world_size = rank, world_size
        self.batch_size = min(batch_size, max(1, length // world_size))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // (self.batch_size * self.world_size) * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
        permutation = torch.randperm(self.length, generator=order)
        used = permutation[: len(self) * self.world_size].view(-1, self.world_size, self.batch_size)
        for index in used[:, self.rank].flatten().tolist():
            yield self.epoch, index


def train_loader(
    source: ImageSource,
    transform: Transform,
    batch_size: int,
    seed: int = 0,
    workers: int = 0,
    *,
    rank: int = 0,
    world_size: int = 1,
    loader_class: Any = DataLoader,
) -> DataLoader:
    """A loader of training batches: 8-bit images (batch, channels, height, width) and their classes.

    Args:
        source: the images.
        transform: from a Pillow image to 8-bit pixels.
        batch_size: images per rank and step.
        seed: of the run.
        workers: processes that load; the batches don't depend on it.
        rank, world_size: which part of each global batch to load.
        loader_class: torch's `DataLoader`, or NNI's traced one.
    """
    sampler = EpochSampler(len(source), batch_size, seed, rank, world_size)
    return loader_class(
        TrainImages(source, transform, seed),
        batch_size=sampler.batch_size,
        sampler=sampler,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
    )

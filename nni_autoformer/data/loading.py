"""Loading for training: order and augmentation are functions of (seed, epoch, image), not of who loads."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from ..errors import ConfigError
from ..randomness import derive
from .bad_images import BadImages, load_or_replace
from .cache import Transform
from .source import ImageSource


class TrainImages(Dataset):
    """Randomly transformed images; the item (epoch, index), or (epoch, index, repeat) where an epoch shows an
    image several times, is always the same.

    The transforms of torchvision and timm draw from the global streams of Python, NumPy and torch, so these
    are seeded for each image; outside of a worker process they are put back afterwards.

    Args:
        source: the images.
        transform: function from a Pillow image to 8-bit pixels (channels, height, width).
        seed: random seed of the run.
        bad_images: notes images that cannot be read, and lets others take their places, see
            `load_or_replace`; None makes the first of them an error.
    """

    def __init__(
        self,
        source: ImageSource,
        transform: Transform,
        seed: int = 0,
        bad_images: BadImages | None = None,
    ) -> None:
        self.source, self.transform, self.seed = source, transform, seed
        self._bad = None if bad_images is None else bad_images.watch(source)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, ...]) -> tuple[Tensor, int]:
        if self._bad is None:
            image, index = self.source.load(key[1]), key[1]
        else:
            image, index = load_or_replace(self.source, key, self.seed, self._bad)
        with _seeded(derive(self.seed, "augmentation", *key)):
            return self.transform(image), int(self.source.targets[index])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global streams; in the main process, where others draw from them too, put them back at the
    end.
    """
    shared = get_worker_info() is None
    before = (random.getstate(), np.random.get_state(), torch.get_rng_state()) if shared else None
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


class EpochSampler(Sampler[tuple[int, ...]]):
    """The order of an epoch's images as (epoch, index) pairs, so that an item says which epoch it is for;
    with repeats as (epoch, index, repeat).

    A global batch holds the same images for any number of ranks; rank r takes every `world_size`-th of it
    from the r-th on, as torch's and the published samplers do.

    With repeats an epoch is as long as without, so it shows one image in `num_repeats`, each that often in a
    row: its copies are in one global batch, on different ranks. The published sampler
    (`timm.data.distributed_sampler.RepeatAugSampler`, of DeiT) gives each rank the same images of an order,
    but draws that order from the epoch alone, and cuts it at a multiple of 256 images where this one cuts it
    at whole global batches.

    Args:
        length: how many images there are.
        batch_size: images per rank and step.
        seed: random seed of the run.
        rank, world_size: which share of each global batch to take.
        drop_last: leave the images that do not fill a global batch for another epoch, unless they are all
            there are; else they make a smaller batch, with the same number for each rank.
        num_repeats: how often an image is shown in a row; 0 is 1, as for timm.

    Attributes:
        start: images of this rank that the next pass leaves out, because a resumed run has had them.

    Raises:
        ConfigError: there are fewer images than ranks, or the repeats are below 0.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
        num_repeats: int = 1,
    ) -> None:
        if length < world_size:
            raise ConfigError(f"{length} training images cannot be shared by {world_size} processes.")
        if num_repeats < 0:
            raise ConfigError(f"--aug-repeats is {num_repeats}; it should be 0 or more.")
        self.length, self.seed = length, seed
        self.rank, self.world_size = rank, world_size
        self.num_repeats = max(1, num_repeats)
        self.global_batch = batch_size * world_size
        unit = self.global_batch if drop_last and length >= self.global_batch else world_size
        self.used = length - length % unit
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.used // self.world_size

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        epoch, repeats = self.epoch, self.num_repeats
        start, self.start = self.start, 0
        stream = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        order = torch.randperm(self.length, generator=stream).numpy()
        for place in range(self.rank + start * self.world_size, self.used, self.world_size):
            index = int(order[place // repeats])
            yield (epoch, index) if repeats == 1 else (epoch, index, place % repeats)


FEW_IMAGES = 2000
"""Below this number of images processes that load take longer to start than they save."""

MOST_WORKERS = 8


def default_workers(images: int) -> int:
    """How many processes should load a number of images: none for few of them or on one core, else one per
    core of this machine's share for each rank (torchrun's `LOCAL_WORLD_SIZE`), and at most 8.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores //= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return 0 if images < FEW_IMAGES or cores < 2 else min(MOST_WORKERS, cores)


def train_loader(
    source: ImageSource,
    transform: Transform,
    batch_size: int,
    seed: int = 0,
    workers: int = 0,
    *,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = True,
    epoch: int = 0,
    start: int = 0,
    grad_accum_steps: int = 1,
    num_repeats: int = 1,
    pin_memory: bool | None = None,
    persistent_workers: bool = True,
    bad_images: BadImages | None = None,
    loader_class: Any = DataLoader,
) -> DataLoader:
    """A loader of training batches: 8-bit images (batch, channels, height, width) and their classes.

    Its `sampler` is an `EpochSampler`: call `sampler.set_epoch` before each pass, as Lightning does.

    Args:
        source: the images.
        transform: function from a Pillow image to 8-bit pixels (channels, height, width).
        batch_size: images per rank and micro-batch.
        seed: random seed of the run.
        workers: processes that load; the batches do not depend on it.
        rank, world_size: which share of each global batch to load.
        drop_last, num_repeats: which images an epoch has, see `EpochSampler`.
        epoch: number of the first pass. A resumed run has to give it: Lightning starts the workers before it
            sets the epoch.
        start: batches of that epoch which a resumed run has had.
        grad_accum_steps: micro-batches per step; a global batch is that of a step.
        pin_memory: load into memory that a GPU reads without a copy; None means if there is a GPU.
        persistent_workers: keep the workers from one epoch to the next.
        bad_images: note of images that cannot be read, see `TrainImages`.
        loader_class: torch's `DataLoader`, or NNI's traced one.

    Raises:
        ConfigError: there are fewer images than ranks, or the repeats are below 0.
    """
    step = batch_size * grad_accum_steps
    sampler = EpochSampler(len(source), step, seed, rank, world_size, drop_last, num_repeats)
    sampler.set_epoch(epoch)
    sampler.start = start * batch_size
    return loader_class(
        TrainImages(source, transform, seed, bad_images),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=persistent_workers and workers > 0,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        generator=torch.Generator(),  # the loader would otherwise draw a number from torch's global stream
    )

"""Measuring a network on decoded images; needs torch alone, so that a trial starts fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data.cache import DecodedImages
from ..data.pixels import normalise
from ..devices import AUTOCAST
from ..errors import ConfigError
from .batch_size import PLAIN, Batches

LOSS_DECIMALS = 6
"""Of a mean cross-entropy. Another batch size may change the last bits of logits, and with them about the
eighth decimal; below the sixth nothing is told of subnets.
"""


class NoAccuracy(ConfigError):
    """A network has logits that are not finite, so it names no class."""


@dataclass(frozen=True)
class Accuracy:
    """How many of the images a network names right.

    Attributes:
        top1, top5: percent of the images whose class is the first, or among the first five. With fewer than
            five classes, top5 counts as many as there are.
        images: how many were evaluated.
        loss: mean cross-entropy of the images, in nats; None if it is beyond all floating-point numbers.
    """

    top1: float
    top5: float
    images: int
    loss: float | None = None

    @classmethod
    def of(cls, first: int, five: int, images: int, losses: float) -> Accuracy:
        """The accuracy of counts.

        Args:
            first, five: images whose class is the first, or among the first five.
            images: how many were evaluated.
            losses: their cross-entropies, added up.
        """
        loss = round(losses / images, LOSS_DECIMALS) if math.isfinite(losses) else None
        return cls(100 * first / images, 100 * five / images, images, loss)


@dataclass(frozen=True)
class Counts:
    """Numbers of images, and what they add up to; those of several processes add up.

    Attributes:
        first, five: the class is the first, or among the first five.
        finite: the logits are finite numbers.
        images: how many were evaluated.
        losses: their cross-entropies, added up.
    """

    first: int = 0
    five: int = 0
    finite: int = 0
    images: int = 0
    losses: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.first + other.first,
            self.five + other.five,
            self.finite + other.finite,
            self.images + other.images,
            self.losses + other.losses,
        )

    def accuracy(self, precision: str) -> Accuracy:
        """The accuracy.

        Raises:
            NoAccuracy: the network's logits are not finite.
        """
        if self.finite < self.images:
            raise NoAccuracy(no_accuracy("the network's", precision))
        return Accuracy.of(self.first, self.five, self.images, self.losses)


def measure(
    network: Callable[[Tensor], Tensor],
    images: DecodedImages,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    precision: str = "fp32",
    **how: Any,
) -> Accuracy:
    """The accuracy of a network on all images.

    Args:
        network, images, mean, std, precision: as for `count`.
        how: its further arguments.

    Raises:
        ConfigError: as `count`; the network's logits are not finite, so it has no accuracy.
    """
    return count(network, images, mean, std, precision=precision, **how).accuracy(precision)


def count(
    network: Callable[[Tensor], Tensor],
    images: DecodedImages,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int | Batches = PLAIN,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    on_batch: Callable[[int, Callable[[], float]], Any] | None = None,
) -> Counts:
    """Evaluate a network on all images.

    Args:
        network: module from normalised images (batch, channels, height, width) to logits; on `device`, in
            evaluation mode.
        images: 8-bit images and their classes.
        mean, std: per channel, of images scaled to 0..1.
        batch_size: images per forward pass.
        device: device that the network is on.
        precision: 'fp32', or 'bf16' or 'fp16' for automatic mixed precision.
        on_batch: called after each batch with its number of images, and a function that gives how many images
            were right so far; calling that waits for the device.

    Raises:
        ConfigError: the memory is too small for the batch size.
    """
    device = torch.device(device)
    dtype = AUTOCAST[precision]
    # counted on the device: reading a number back for every batch would make it wait
    first, five, finite = found = torch.zeros(3, dtype=torch.int64, device=device)
    total = len(images)
    losses = torch.zeros(total, device=device)

    def step(start: int, end: int) -> None:
        batch = images.images[start:end].to(device, non_blocking=True)
        logits = network(normalise(batch, mean, std))
        targets = images.targets[start:end].to(device, non_blocking=True)
        right = named_right(logits, targets)
        losses[start:end] = cross_entropies(logits, targets)
        first.add_(right[:, 0].sum())
        five.add_(right.sum())
        finite.add_(are_finite(logits).sum())
        if on_batch is not None:
            on_batch(end - start, first.item)

    batches = batch_size if isinstance(batch_size, Batches) else Batches(batch_size)
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        batches.run(step, 0, total)
    right, among_five, told = found.tolist()
    return Counts(right, among_five, told, total, added(losses.cpu().numpy()))


def are_finite(logits: Tensor) -> Tensor:
    """Which images have logits that are all finite numbers: (batch, num_classes) to (batch,) bool."""
    return logits.isfinite().all(dim=-1)


def cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each image, in float32 whatever the logits are in.

    Args:
        logits: (batch, num_classes).
        targets: (batch,), on the same device.

    Returns:
        (batch,) in nats.
    """
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def added(losses: np.ndarray) -> float:
    """The sum of the (images,) float32 cross-entropies of a subnet, whatever their batches were."""
    return float(losses.sum(dtype=np.float64))


def no_accuracy(whose: str, precision: str) -> str:
    """The sentence about logits that name no class.

    Args:
        whose: network that they are of, in the genitive.
        precision: what was computed in.
    """
    advice = "; --precision bf16 or fp32 may help" if precision == "fp16" else ""
    return f"{whose} logits are NaN or infinite, so it has no accuracy{advice}."


def named_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether each of the five likeliest classes, the likeliest first, is the right one.

    Args:
        logits: (batch, num_classes).
        targets: (batch,), on the same device.

    Returns:
        (batch, up to 5) bool; at most one in a row is True.
    """
    best = logits.topk(min(5, logits.shape[-1]), dim=-1).indices
    return best == targets.unsqueeze(-1)

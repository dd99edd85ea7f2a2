"""Measuring a network on decoded images; needs torch alone, so that a trial starts fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.cache import DecodedImages
from ..data.pixels import normalise
from ..devices import AUTOCAST
from ..errors import ConfigError
from .batch_size import PLAIN, Batches


@dataclass(frozen=True)
class Accuracy:
    """How many of the images a network names right.

    Attributes:
        top1, top5: percent of the images whose class is the first, or among the first five. With fewer than
            five classes, top5 counts as many as there are.
        images: how many were evaluated.
    """

    top1: float
    top5: float
    images: int


class NotFinite(ConfigError):
    """A network has logits that are NaN or infinite, and so no accuracy: the largest of them would still name
    a class, and on ten classes that looks like 10 %.
    """


def measure(
    network: Callable[[Tensor], Tensor],
    images: DecodedImages,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int | Batches = PLAIN,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    on_batch: Callable[[int, Callable[[], float]], Any] | None = None,
) -> Accuracy:
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
        NotFinite: logits of an image are NaN or infinite.
    """
    device = torch.device(device)
    dtype = AUTOCAST[precision]
    # counted on the device: reading a number back for every batch would make it wait
    first = torch.zeros((), dtype=torch.int64, device=device)
    five = torch.zeros_like(first)
    broken = torch.zeros_like(first)

    def step(start: int, end: int) -> None:
        batch = images.images[start:end].to(device, non_blocking=True)
        logits = network(normalise(batch, mean, std))
        right = named_right(logits, images.targets[start:end])
        broken.add_(not_finite(logits).sum())
        first.add_(right[:, 0].sum())
        five.add_(right.sum())
        if on_batch is not None:
            on_batch(end - start, first.item)

    total = len(images)
    batches = batch_size if isinstance(batch_size, Batches) else Batches(batch_size)
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        batches.run(step, 0, total)
    if count := int(broken.item()):
        raise NotFinite(
            f"the network's logits are not finite (NaN or infinite) on {count:,} of {total:,} images, so it "
            "has no accuracy: its weights are damaged, or too large for the precision (try --precision fp32)."
        )
    return Accuracy(100 * first.item() / total, 100 * five.item() / total, total)


def not_finite(logits: Tensor) -> Tensor:
    """Whether any logit of each image is NaN or infinite.

    Args:
        logits: (batch, num_classes).

    Returns:
        (batch,) bool, on the logits' device.
    """
    return ~logits.isfinite().all(dim=-1)


def named_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether each of the five likeliest classes, the likeliest first, is the right one.

    Args:
        logits: (batch, num_classes).
        targets: (batch,), on any device.

    Returns:
        (batch, up to 5) bool; at most one in a row is True.
    """
    best = logits.topk(min(5, logits.shape[-1]), dim=-1).indices
    return best == targets.to(logits.device, non_blocking=True).unsqueeze(-1)

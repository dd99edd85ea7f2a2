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


def measure(
    network: Callable[[Tensor], Tensor],
    images: DecodedImages,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    on_batch: Callable[[int, Callable[[], float]], Any] | None = None,
) -> Accuracy:
    """Evaluate a network on all images.

    Args:
        network: from normalised images (batch, channels, height, width) to logits; on `device`, in evaluation
            mode.
        images: 8-bit images and their classes.
        mean, std: per channel, of images scaled to 0..1.
        batch_size: images per forward pass.
        device: where the network is.
        precision: 'fp32', or 'bf16' or 'fp16' for automatic mixed precision.
        on_batch: called after each batch with its number of images, and a function that gives how many images
            were right so far; calling that waits for the device.
    """
    device = torch.device(device)
    dtype = AUTOCAST[precision]
    # counted on the device: reading a number back for every batch would make it wait
    first = torch.zeros((), dtype=torch.int64, device=device)
    five = torch.zeros_like(first)
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        for batch, targets in images.batches(batch_size):
            logits = network(normalise(batch.to(device, non_blocking=True), mean, std))
            best = logits.topk(min(5, logits.shape[-1]), dim=-1).indices
            right = best == targets.to(device, non_blocking=True).unsqueeze(-1)
            first += right[:, 0].sum()
            five += right.sum()
            if on_batch is not None:
                on_batch(len(targets), first.item)
    total = len(images)
    return Accuracy(100 * first.item() / total, 100 * five.item() / total, total)

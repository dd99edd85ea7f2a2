"""From 8-bit pixels to what a network takes, on the device that the pixels are on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Scale 8-bit pixels to 0..1, then to the network's range: (images / 255 - mean) / std.

    Args:
        images: (batch, channels, height, width), 8 bits, on any device; left as it is.
        mean, std: per channel, of images scaled to 0..1.
        dtype: number format of the result.

    Returns:
        The same shape on the images' device.
    """
    factor, shift = _factor_and_shift(tuple(mean), tuple(std), dtype, images.device)
    # in place: half the time of three new tensors
    return images.to(dtype, copy=True).mul_(factor).add_(shift)


@lru_cache(maxsize=16)
def _factor_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    # kept: a copy of new numbers to a GPU waits for everything that the GPU still has to do
    with torch.inference_mode(False):  # so that training may use what an evaluation has made
        factor = torch.tensor([1 / (255 * s) for s in std], dtype=dtype, device=device)
        shift = torch.tensor([-m / s for m, s in zip(mean, std)], dtype=dtype, device=device)
    return factor.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)

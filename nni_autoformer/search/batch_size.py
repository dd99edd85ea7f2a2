"""How many images go through a network at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from ..architecture import HEAD_DIM, Architecture
from ..errors import ConfigError
from ..space import ModelConfig

BatchSize = int | Literal["auto"]

PLAIN = 256
"""For a network of which nothing is known."""

MOST = 1024
"""More images at a time make no device faster."""

MOST_ON_CPU = 256
CPU_BYTES = 64 << 20
"""About what a CPU's caches hold, a few times over: a larger batch waits for memory."""


def auto_batch_size(architecture: Architecture, model: ModelConfig, device: torch.device) -> int:
    """A power of two: on a GPU what half of its free memory holds, up to 1024; on a CPU, where more is no
    faster, what about 64 MiB hold, up to 256, so that it does not depend on what else runs.

    Args:
        architecture: the largest subnet that is evaluated.
        model: the network around it.
        device: device that the subnets run on.
    """
    if device.type == "cuda":
        budget, most = torch.cuda.mem_get_info(device)[0] // 2, MOST
    else:
        budget, most = CPU_BYTES, MOST_ON_CPU
    fitting = max(1, budget // _bytes_per_image(architecture, model))
    return min(most, 1 << (fitting.bit_length() - 1))


def _bytes_per_image(architecture: Architecture, model: ModelConfig) -> int:
    """Activations of the widest layer, and those that wait along the path to it, in float32."""
    tokens = model.num_patches + 1
    heads, hidden = max(architecture.num_heads), max(architecture.hidden_features)
    positions = sum(model.grid_size) + 8 if model.relative_position else 0
    attention = 6 * heads * (HEAD_DIM + positions) + heads * tokens
    waiting = 2 * (architecture.depth + 1) * architecture.embed_dim
    return 4 * tokens * (waiting + max(attention, 2 * hidden))


class Batches:
    """Runs a step on consecutive images; what does not fit into the memory is halved, if that was left open.

    Args:
        size: images per step.
        fixed: the user has chosen it.
    """

    def __init__(self, size: int, fixed: bool = True) -> None:
        self.size, self.fixed = size, fixed

    @classmethod
    def of(
        cls, size: BatchSize, architecture: Architecture, model: ModelConfig, device: torch.device
    ) -> Batches:
        """The user's size, or one that suits network and device."""
        if size == "auto":
            return cls(auto_batch_size(architecture, model, device), fixed=False)
        return cls(size)

    def run(self, step: Callable[[int, int], None], start: int, stop: int) -> None:
        """Call `step(first, past the last)` for the images from `start` to before `stop`, in order.

        Raises:
            ConfigError: the memory is too small for the size that the user has chosen, or for one image.
        """
        while start < stop:
            end = min(start + self.size, stop)
            try:
                step(start, end)
            except torch.OutOfMemoryError:
                if self.fixed or self.size == 1:
                    raise ConfigError(
                        f"--batch-size {self.size}: the device has too little memory; a smaller one may fit, "
                        "and 'auto' finds one."
                    ) from None
                self.size //= 2
                torch.cuda.empty_cache()
                continue
            start = end

"""What subnets of a supernet make of images, a part of the images at a time: in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..architecture import Architecture
from ..data.pixels import normalise
from ..devices import AUTOCAST
from ..model import AutoFormer
from .accuracy import are_finite, cross_entropies, named_right
from .batch_size import Batches
from .shared_forward import SharedForward, Slices

if TYPE_CHECKING:
    from .evaluator import SubnetEvaluator

OnBatch = Callable[[int], object]
"""Called with the number of image evaluations that a batch was."""


@dataclass(frozen=True)
class Marks:
    """What subnets make of images.

    Attributes:
        named: (3, subnets, images) bool: the class is the first, it is among the first five, the logits are
            finite.
        losses: (subnets, images) float32: the cross-entropies.
    """

    named: np.ndarray
    losses: np.ndarray

    @classmethod
    def none(cls, subnets: int, images: int) -> Marks:
        """Of subnets that have seen nothing."""
        return cls(np.zeros((3, subnets, images), dtype=bool), np.zeros((subnets, images), dtype=np.float32))


class PartEvaluator:
    """Evaluates subnets of a live supernet on parts of the evaluator's images.

    A batch of images is read and normalised once for all subnets, and what these have in common is computed
    once, see `SharedForward`.

    Args:
        supernet: a trained supernet; is moved to the evaluator's device and set to evaluation mode.
        evaluator: the images, and where and how to compute.
    """

    def __init__(self, supernet: AutoFormer, evaluator: SubnetEvaluator) -> None:
        self.evaluator = evaluator
        self._slices = Slices(supernet.to(evaluator.device).eval())
        space = supernet.space
        self._batches = Batches.of(
            evaluator.batch_size, space.architecture("largest"), space.model, evaluator.device
        )
        self._architectures: list[Architecture] = []
        self._subnets: SharedForward | None = None

    @property
    def batch_size(self) -> int:
        """Images per forward pass."""
        return self._batches.size

    def forget_unused(self) -> None:
        """Drop the slices that the last generation has not used."""
        self._slices.forget_unused()

    def marks(self, architectures: Sequence[Architecture], start: int, stop: int, on_batch: OnBatch) -> Marks:
        """What subnets make of the images from `start` to before `stop`.

        Raises:
            ConfigError: the device has too little memory, or an architecture is not in the space.
        """
        if not architectures:
            return Marks.none(0, stop - start)
        evaluator, images, subnets = self.evaluator, self.evaluator.images, self._together(architectures)
        device, dtype = evaluator.device, AUTOCAST[evaluator.precision]
        # marked on the device, and read back once: reading for every batch would make it wait
        marks = torch.zeros(3, len(architectures), stop - start, dtype=torch.bool, device=device)
        losses = torch.zeros(len(architectures), stop - start, device=device)

        def step(first: int, end: int) -> None:
            batch = images.images[first:end].to(device, non_blocking=True)
            targets = images.targets[first:end].to(device, non_blocking=True)
            for number, logits in subnets.logits(normalise(batch, evaluator.mean, evaluator.std)):
                named, at = named_right(logits, targets), slice(first - start, end - start)
                part = marks[:, number, at]
                part[0], part[1], part[2] = named[:, 0], named.any(dim=-1), are_finite(logits)
                losses[number, at] = cross_entropies(logits, targets)
            on_batch((end - first) * len(architectures))

        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            self._batches.run(step, start, stop)
        return Marks(marks.cpu().numpy(), losses.cpu().numpy())

    def _together(self, architectures: Sequence[Architecture]) -> SharedForward:
        if self._subnets is None or self._architectures != list(architectures):
            self._architectures = list(architectures)
            self._subnets = SharedForward(self._slices, architectures)
        return self._subnets

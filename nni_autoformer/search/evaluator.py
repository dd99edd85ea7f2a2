"""Accuracy of subnets with inherited weights: no copy per candidate, images decoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import nni
from nni.nas.evaluator import Evaluator
from nni.nas.space import ExecutableModelSpace, RawFormatModelSpace
from torch import nn

from ..architecture import Architecture
from ..data.cache import DecodedImages
from ..devices import pick_device
from ..model import AutoFormer
from .accuracy import Accuracy, measure


class SubnetEvaluator(Evaluator):
    """NNI's evaluator of subnets with inherited weights (paper section 3.4).

    Within a supernet's own experiment it chooses the subnet on the live supernet, where NNI would copy the
    supernet for every candidate. A trial reports top-1 as its metric, top-5 beside it; `evaluate` is for any
    network, outside of NNI too.

    Args:
        images: the selection set, decoded.
        mean, std: per channel, of images scaled to 0..1.
        batch_size: images per forward pass.
        device: 'auto', 'cpu', 'cuda', …
        precision: 'fp32', 'bf16' or 'fp16'.
    """

    def __init__(
        self,
        images: DecodedImages,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int = 256,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        self.images = images
        self.mean, self.std = tuple(mean), tuple(std)
        self.batch_size = batch_size
        self.device = pick_device(device)
        self.precision = precision

    def evaluate(
        self, model: nn.Module, on_batch: Callable[[int, Callable[[], float]], Any] | None = None
    ) -> Accuracy:
        """The accuracy of a network; it is moved to the device and set to evaluation mode."""
        network = model.to(self.device).eval()
        return measure(
            network,
            self.images,
            self.mean,
            self.std,
            batch_size=self.batch_size,
            device=self.device,
            precision=self.precision,
            on_batch=on_batch,
        )

    def _execute(self, model: ExecutableModelSpace) -> Accuracy:
        accuracy = self.evaluate(self._network(model))
        nni.report_final_result({"default": accuracy.top1, **asdict(accuracy)})
        return accuracy

    def _network(self, model: ExecutableModelSpace) -> nn.Module:
        space = model.model_space if isinstance(model, RawFormatModelSpace) else None
        if not isinstance(space, AutoFormer) or model.sample is None:
            return model.executable_model()
        space.set_architecture(Architecture.from_sample(model.sample))
        return space

    def extra_repr(self) -> str:
        """The number of images and the device, in NNI's logs."""
        return f"images={len(self.images)}, device={self.device}, precision={self.precision}"

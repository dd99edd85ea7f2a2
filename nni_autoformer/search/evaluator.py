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
from ..nn.entangled import Entangled
from ..nn.subnet import Subnet
from .accuracy import Accuracy, measure
from .batch_size import PLAIN, Batches, BatchSize


class SubnetEvaluator(Evaluator):
    """NNI's evaluator of subnets with inherited weights (paper section 3.4).

    Within a supernet's own experiment it chooses the subnet on the live supernet, where NNI would copy the
    supernet for every candidate. A trial reports top-1 as its metric, top-5 beside it; `evaluate` is for any
    network, outside of NNI too. `EvolutionStrategy` has a whole generation evaluated at once, see
    `GenerationEngine`.

    Args:
        images: the selection set, decoded.
        mean, std: per channel, of images scaled to 0..1.
        batch_size: images per forward pass; 'auto' chooses what suits network and device.
        device: 'auto', 'cpu', 'cuda', …
        precision: 'fp32', 'bf16' or 'fp16'.
    """

    def __init__(
        self,
        images: DecodedImages,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: BatchSize = "auto",
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
            batch_size=self._batches(network),
            device=self.device,
            precision=self.precision,
            on_batch=on_batch,
        )

    def _batches(self, network: nn.Module) -> Batches:
        if isinstance(network, AutoFormer):
            space = network.space
            return Batches.of(self.batch_size, space.architecture("largest"), space.model, self.device)
        if isinstance(network, Subnet):
            return Batches.of(self.batch_size, network.architecture, network.model, self.device)
        return Batches(PLAIN if self.batch_size == "auto" else self.batch_size)

    def _execute(self, model: ExecutableModelSpace) -> dict[str, Any]:
        supernet = supernet_of(model)
        if supernet is None:
            accuracy = self.evaluate(model.executable_model())
        else:
            supernet.set_architecture(Architecture.from_sample(model.sample))
            accuracy = self.evaluate(supernet)
        metric = {"default": accuracy.top1, **asdict(accuracy)}
        nni.report_final_result(metric)
        return metric

    def extra_repr(self) -> str:
        """The number of images and the device, in NNI's logs."""
        return f"images={len(self.images)}, device={self.device}, precision={self.precision}"


def supernet_of(model: ExecutableModelSpace) -> AutoFormer | None:
    """The live supernet that a model of NNI is a sample of, if it is one."""
    space = model.model_space if isinstance(model, RawFormatModelSpace) else None
    return space if isinstance(space, AutoFormer) and isinstance(space.head, Entangled) else None

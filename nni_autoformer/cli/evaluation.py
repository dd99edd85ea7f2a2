"""Evaluating subnets as their supernet was validated: same size, crop, interpolation and normalisation."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .options import workers_of

if TYPE_CHECKING:
    from ..checkpoints.header import Header
    from ..data import DecodedImages
    from ..search.batch_size import BatchSize
    from ..search.evaluator import SubnetEvaluator
    from ..search.images import EvaluationImages


@dataclass(frozen=True)
class Evaluation:
    """Where and how exactly to evaluate.

    Attributes:
        batch_size: images per forward pass, or 'auto'.
        device: 'auto', 'cpu', 'cuda', …
        precision: 'fp32', 'bf16' or 'fp16'.
    """

    batch_size: BatchSize = "auto"
    device: str = "auto"
    precision: str = "fp32"

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Evaluation:
        """What the flags say.

        Raises:
            ConfigError: a number is too small, or there is no such device.
        """
        from ..devices import pick_device

        if arguments.batch_size != "auto" and arguments.batch_size < 1:
            raise ConfigError(f"--batch-size is {arguments.batch_size}; it should be at least 1.")
        pick_device(arguments.device)
        return cls(arguments.batch_size, arguments.device, arguments.precision)

    def evaluator(self, header: Header, images: DecodedImages) -> SubnetEvaluator:
        """The evaluator of subnets on these images."""
        from ..search.evaluator import SubnetEvaluator

        run = header.run
        return SubnetEvaluator(images, run["mean"], run["std"], self.batch_size, self.device, self.precision)


def images_of(arguments: argparse.Namespace, split: str, store: str | None = None) -> EvaluationImages:
    """The images that the flags name.

    Args:
        arguments: the command's.
        split: 'selection' or 'test'.
        store: of decoded images when --cache was not given, see `EvaluationImages`.

    Raises:
        ConfigError: a number is too small.
    """
    from ..search.images import EvaluationImages

    return EvaluationImages(
        checkpoint=str(arguments.checkpoint.resolve()),
        dataset=arguments.dataset,
        data=None if arguments.data is None else str(arguments.data.resolve()),
        split=split,
        selection=arguments.selection,
        store=store if arguments.cache is None else arguments.cache,
        workers=workers_of(arguments),
        download=arguments.download,
    )

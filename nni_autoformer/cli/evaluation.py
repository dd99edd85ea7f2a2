"""Evaluating subnets as their supernet was validated: same size, crop, interpolation and normalisation."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..checkpoints import Header
    from ..data import ImageSource
    from ..search.evaluator import SubnetEvaluator


@dataclass(frozen=True)
class Evaluation:
    """Where and how exactly to evaluate.

    Attributes:
        workers: processes that decode images.
        batch_size: images per forward pass.
        device: 'auto', 'cpu', 'cuda', …
        precision: 'fp32', 'bf16' or 'fp16'.
    """

    workers: int = 0
    batch_size: int = 256
    device: str = "auto"
    precision: str = "fp32"

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Evaluation:
        """What the flags say.

        Raises:
            ConfigError: a number is too small, or there is no such device.
        """
        from ..devices import pick_device

        for flag, least in (("workers", 0), ("batch_size", 1)):
            value = getattr(arguments, flag)
            if value < least:
                raise ConfigError(f"--{flag.replace('_', '-')} is {value}; it should be at least {least}.")
        pick_device(arguments.device)
        return cls(arguments.workers, arguments.batch_size, arguments.device, arguments.precision)

    def evaluator(self, header: Header, source: ImageSource, progress: str) -> SubnetEvaluator:
        """Decode the images and give the evaluator of subnets on them.

        Args:
            header: of the supernet's checkpoint.
            source: the images.
            progress: the description of the progress bar.

        Raises:
            ConfigError: the header does not say how images are normalised, or an image cannot be read.
        """
        from ..data import decode, eval_transform
        from ..search.evaluator import SubnetEvaluator

        run = header.run
        if "mean" not in run or "std" not in run:
            raise ConfigError("the checkpoint's header does not say how images are normalised (mean, std).")
        transform = eval_transform(
            header.space.model,
            crop_pct=run.get("crop_pct"),
            interpolation=run.get("interpolation", "bicubic"),
        )
        images = decode(source, transform, progress, self.workers)
        return SubnetEvaluator(images, run["mean"], run["std"], self.batch_size, self.device, self.precision)

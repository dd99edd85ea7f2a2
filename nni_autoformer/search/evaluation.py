"""Evaluating subnets as their supernet was validated: where and how exactly, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..config import Check, one_of, require_ranges, setting

if TYPE_CHECKING:
    from ..checkpoints import Header
    from ..data import DecodedImages
    from ..training.ranks import Ranks
    from .batch_size import BatchSize
    from .evaluator import SubnetEvaluator


def _batch_size(text: str) -> BatchSize:
    try:
        return "auto" if text == "auto" else int(text)
    except ValueError:
        raise ValueError(f"'{text}' is neither a whole number nor 'auto'") from None


_WHOLE = Check(lambda size: size == "auto" or (type(size) is int and size >= 1), "at least 1, or 'auto'")


@dataclass(frozen=True)
class Evaluation:
    """Where, how exactly and in what portions images are evaluated.

    Raises:
        ConfigError: a value is out of its range.
    """

    device: str = setting(
        "auto", "auto (default: the GPU if there is one), cpu, cuda, cuda:1, …", metavar="DEVICE"
    )
    precision: str = setting(
        "fp32", "fp32 (default), or automatic mixed precision", one_of("fp32", "bf16", "fp16")
    )
    batch_size: int | str = setting(
        "auto",
        "images per forward pass (default auto: what suits network and device, and fits)",
        _WHOLE,
        metavar="N|auto",
        parse=_batch_size,
    )
    cache: str | None = setting(
        None,
        "where decoded images are kept for other processes and later runs (by default "
        "~/.cache/nni_autoformer; the test images of a single test: by default none, they stay in memory)",
        metavar="DIR|none",
    )

    def __post_init__(self) -> None:
        require_ranges(self)

    def require_device(self) -> None:
        """Check that the device is there.

        Raises:
            ConfigError: it is not.
        """
        from ..devices import pick_device

        pick_device(self.device)

    def of_rank(self, ranks: Ranks) -> Evaluation:
        """The same on the device of this process: of 'auto' and 'cuda' the machine's GPU with the process's
        number.
        """
        import torch

        if ranks.world_size == 1 or self.device not in ("auto", "cuda") or not torch.cuda.is_available():
            return self
        return replace(self, device=f"cuda:{ranks.local_rank % torch.cuda.device_count()}")

    def evaluator(self, header: Header, images: DecodedImages) -> SubnetEvaluator:
        """The evaluator of a checkpoint's subnets.

        Args:
            header: header of the checkpoint, which says how its images are normalised.
            images: decoded images that are evaluated.
        """
        from .evaluator import SubnetEvaluator

        run = header.run
        return SubnetEvaluator(
            images,
            run.mean or (),
            run.std or (),
            self.batch_size,  # type: ignore[arg-type]
            self.device,
            self.precision,
        )

"""What watches over a long training: losses that are no numbers, and the request to end."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, distributed

from ..errors import ConfigError, Terminated
from .upkeep import Upkeep


class Watch(Callback):
    """Before every optimizer step: look at loss and gradients, and whether this or another rank was asked to
    end (SIGTERM). All ranks get the same answer.

    Args:
        upkeep: what to do.
        state: the file that the last good checkpoint is in.
        describe_state: says which step the file is of.

    Attributes:
        ending: the run should save and end after this step.
        skipped: steps left out so far.
    """

    def __init__(self, upkeep: Upkeep, state: Path, describe_state: Callable[[], str]) -> None:
        self.upkeep, self.state, self._describe_state = upkeep, state, describe_state
        self.ending = False
        self.skipped = 0
        self._asked = False
        self._loss: Tensor | float = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take SIGTERM: Lightning's own answer to it is no saved state, and between ranks it can deadlock."""
        if trainer.received_sigterm:
            raise Terminated("asked to end before the first step; the same command with --resume goes on.")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, *_: Any) -> None:
        self._asked = True

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        """Add up the losses of a step's micro-batches and subnets."""
        self._loss = self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        """Judge the step, and leave it out or raise."""
        loss, self._loss = self._loss, 0.0
        bad = ~torch.isfinite(torch.as_tensor(loss))
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if not scaled:  # a loss scaler meets infinite gradients all the time, and skips them by itself
            bad = bad | ~torch.isfinite(_norm(module))
        flags = torch.stack([bad.float(), bad.new_tensor(self._asked).float()])
        if trainer.world_size > 1:
            distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        is_bad, self.ending = (bool(flag) for flag in flags.tolist())
        if is_bad:
            self._bad_step(trainer, module, float(loss), scaled)

    def _bad_step(self, trainer: pl.Trainer, module: Any, loss: float, scaled: bool) -> None:
        self.skipped += 1
        upkeep = self.upkeep
        if upkeep.on_nan == "skip" and self.skipped <= upkeep.max_nan_skips:
            if not scaled:
                for parameter in module.parameters():
                    parameter.grad = None  # so that the optimizer passes over it
            return
        what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradient is not finite"
        trained = " and ".join(str(entry) for entry in getattr(module, "trained", ()))
        where = f"step {trainer.global_step} (epoch {trainer.current_epoch})" + (
            f", subnet {trained}" if trained else ""
        )
        if upkeep.on_nan == "skip":
            raise ConfigError(
                f"{where}: {what}, and {upkeep.max_nan_skips} steps were skipped already (--max-nan-skips). "
                f"{self._describe_state()}"
            )
        raise ConfigError(
            f"{where}: {what}. {self._describe_state()} --resume with --on-nan skip leaves such steps out; a "
            "lower --lr, --clip-grad or --precision bf16 in place of fp16 may prevent them."
        )

    def state_dict(self) -> dict[str, Any]:
        """The count of skipped steps."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]


def _norm(module: pl.LightningModule) -> Tensor:
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)

"""What guards a long training: losses that are NaN, and the request to end."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, distributed

from ..errors import ConfigError, Terminated
from .upkeep import Upkeep


@dataclass(frozen=True)
class Step:
    """What is known of an optimizer step on the device.

    Attributes:
        flags: (2,), above 0 if loss or gradient is not finite, and if a rank was asked to end.
        loss: summed over micro-batches and subnets.
        name: name of the step in messages.
    """

    flags: Tensor
    loss: Tensor
    name: str


class Guard(Callback):
    """Before every optimizer step: look at loss and gradients, and whether this or another rank was asked to
    end (SIGTERM). All ranks get the same answer.

    On a GPU a step is judged when the next one is due, or before anything is saved: reading the answer at
    once would make the GPU wait for this process in every step. Only to skip a step it has to be known
    before.

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
        self._unjudged: Step | None = None

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
        """Judge the step, or on a GPU the one before; leave it out or raise."""
        loss, self._loss = torch.as_tensor(self._loss), 0.0
        bad = ~torch.isfinite(loss)
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if not scaled:  # a loss scaler meets infinite gradients all the time, and skips them by itself
            bad = bad | ~torch.isfinite(_norm(module))
        flags = torch.stack([bad.float(), torch.full_like(bad, self._asked, dtype=torch.float32)])
        if trainer.world_size > 1:
            distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        trained = " and ".join(str(entry) for entry in getattr(module, "trained", ()))
        name = f"step {trainer.global_step} (epoch {trainer.current_epoch})"
        step = Step(flags, loss, name + (f", subnet {trained}" if trained else ""))
        if self.upkeep.on_nan == "stop" and self._costly(flags):
            self.settle()
            self._unjudged = step
        elif self._judge(step) and not scaled:
            for parameter in module.parameters():
                parameter.grad = None  # so that the optimizer passes over it

    def _costly(self, flags: Tensor) -> bool:
        return flags.is_cuda

    def settle(self) -> None:
        """Judge the last step, if it is not yet judged."""
        step, self._unjudged = self._unjudged, None
        if step is not None:
            self._judge(step)

    def _judge(self, step: Step) -> bool:
        """Whether to leave the step out.

        Raises:
            ConfigError: it ends the run.
        """
        is_bad, self.ending = (bool(flag) for flag in step.flags.tolist())
        if not is_bad:
            return False
        self.skipped += 1
        upkeep, loss = self.upkeep, float(step.loss)
        if upkeep.on_nan == "skip" and self.skipped <= upkeep.max_nan_skips:
            return True
        what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradient is not finite"
        if upkeep.on_nan == "skip":
            raise ConfigError(
                f"{step.name}: {what}, and {upkeep.max_nan_skips} steps were skipped already "
                f"(--max-nan-skips). {self._describe_state()}"
            )
        raise ConfigError(
            f"{step.name}: {what}. {self._describe_state()} --resume with --on-nan skip leaves such steps "
            "out; a lower --lr, --clip-grad or --precision bf16 in place of fp16 may prevent them."
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

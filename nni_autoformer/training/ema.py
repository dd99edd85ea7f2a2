"""The exponential moving average of the weights, by timm."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from timm.utils import ModelEmaV3
from torch import nn

from .recipe import Recipe


class MovingAverage(Callback):
    """Average the weights after every step; the average is validated beside them, saved and resumed.

    Args:
        recipe: decay and warm-up.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._average: ModelEmaV3 | None = None
        self._step = -1

    @property
    def network(self) -> nn.Module:
        """The average, a copy of the trained network."""
        assert self._average is not None
        return self._average.module

    def setup(self, trainer: pl.Trainer, module: Any, stage: str) -> None:
        """Copy the initial weights."""
        recipe = self.recipe
        self._average = ModelEmaV3(
            module.model, decay=recipe.model_ema_decay, use_warmup=recipe.model_ema_warmup
        )
        self.network.requires_grad_(False)
        # past nn.Module's bookkeeping: no part of what is trained, saved with it or shared out over ranks
        module.__dict__["averaged"] = self.network

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Follow the network to its device."""
        self.network.to(module.device)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note where the run stands."""
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Average, once per step and not per micro-batch."""
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            assert self._average is not None
            self._average.update(module.model, step=self._step)

    def state_dict(self) -> dict[str, Any]:
        """The average's weights."""
        return {"weights": self.network.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from saved weights."""
        self.network.load_state_dict(state_dict["weights"])

"""Saving while training: the supernet for everyone, and the state that a resume needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from ..checkpoints import save_supernet
from ..files import replacing
from .module import SupernetModule


class SaveSupernet(Checkpoint):
    """After every epoch: first the training state, then the supernet, each by rename.

    A run that dies between the two resumes from the state, which is the newer one, and writes the supernet
    again.

    Args:
        supernet: where the supernet goes, a `.safetensors` file.
        state: where the training state goes.
        run: what the supernet's header says of the run; epoch and metrics are added.
    """

    def __init__(self, supernet: str | Path, state: str | Path, run: Mapping[str, Any]) -> None:
        self.supernet, self.state = Path(supernet), Path(state)
        self.run = dict(run)
        # NNI looks for this name when it stores the state of a one-shot experiment
        self.last_model_path = ""

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write both files."""
        assert isinstance(module, SupernetModule)
        with replacing(self.state) as temporary:
            trainer.save_checkpoint(temporary)
        self.last_model_path = str(self.state)
        if trainer.is_global_zero:
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            run = self.run | {"epoch": trainer.current_epoch + 1, "metrics": metrics}
            save_supernet(self.supernet, module.supernet, run)

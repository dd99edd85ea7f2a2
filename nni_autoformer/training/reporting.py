"""Supernet training as an NNI trial: the accuracy of the named subnets as the trial's curve."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from ..checkpoints import metrics
from ..experiment import Trial


class ReportToNni(Callback):
    """After every validation report each named subnet's accuracy in percent, and as 'default' their mean; the
    last report is the trial's result.

    The mean is what recipes are compared by: a supernet is good when its small and its large subnets are.

    Args:
        trial: this process.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._last: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Report a point of the curve."""
        accuracies = {
            name: float(value) for name, value in metrics.accuracies(trainer.callback_metrics).items()
        }
        if accuracies and trainer.is_global_zero:
            self._last = {"default": sum(accuracies.values()) / len(accuracies), **accuracies}
            self.trial.report_intermediate(self._last)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Report the result."""
        if self._last and trainer.is_global_zero:
            self.trial.report_final(self._last)

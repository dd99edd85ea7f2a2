"""Saving while training: the weights for everyone, and the state that a resume needs."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import nn

from ..checkpoints.metrics import AVERAGED, VALIDATED, accuracies, in_percent
from ..errors import ConfigError, Terminated
from ..files import replacing, told_when_full
from .ema import MovingAverage
from .guard import Guard
from .progress import EpochTable
from .upkeep import Upkeep

STATE_FILE = "training.ckpt"
BEST_FILE = "best.safetensors"
EPOCHS_FOLDER = "epochs"

Writer = Callable[[Path, Any, Mapping[str, Any]], None]
"""Writes a network and what its header says of the run to a path atomically."""


@dataclass(frozen=True)
class ResumePoint:
    """Where a training state stands.

    Attributes:
        epoch: that it is in, or that comes next.
        batches: number of that epoch's batches that are behind it, per rank.
        step: optimizer steps behind it.
    """

    epoch: int = 0
    batches: int = 0
    step: int = 0


def resume_point(state: Path) -> ResumePoint:
    """Where a state stands.

    Raises:
        ConfigError: the file is damaged, or holds code.
    """
    try:
        require_intact(state)
        content = torch.load(state, map_location="cpu", mmap=True, weights_only=True)
        loop = content["loops"]["fit_loop"]
        epochs = loop["epoch_progress"]["current"]
        within = epochs["processed"] < epochs["started"]
        batches = loop["epoch_loop.batch_progress"]["current"]["ready"] if within else 0
        return ResumePoint(epochs["processed"], batches, content["global_step"])
    except Exception as error:  # whatever a damaged archive makes torch say
        reason = str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        raise ConfigError(
            f"{state}: the training state cannot be read ({reason}); without it the run has to start anew, "
            "with --overwrite."
        ) from None


def require_intact(state: Path) -> None:
    """Compare the parts of a file that torch has saved with their checksums, which torch itself does not.

    Raises:
        zipfile.BadZipFile: a part is damaged.
    """
    with zipfile.ZipFile(state) as archive:
        if (part := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"its part '{part}' is damaged")


class Saving(Checkpoint):
    """After every epoch, in this order: its row of the table, the best weights if it is the best, the epoch's
    own weights if they are kept, the state, the last weights; each by rename, all by the main process.

    Whatever a kill leaves undone, the resumed run does again: an epoch whose state was not saved is trained
    again, and weights older than the state are written when the run ends. The best epoch is the one with the
    highest mean of the validated accuracies, those of the moving average if there is one.

    Args:
        folder: folder of the run.
        name: name of the files of weights: `{name}.safetensors`, and `{name}-ema.safetensors` with a moving
            average.
        write: writes a network.
        run: what the header of the weights says of the run; epoch and metrics are added.
        upkeep: what is kept and how often.
        average: the moving average, if there is one.
        selects: keep the best epoch's weights.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        write: Writer,
        run: Mapping[str, Any],
        upkeep: Upkeep = Upkeep(),
        average: MovingAverage | None = None,
        selects: bool = True,
    ) -> None:
        self.folder, self.name = folder, name
        self.state = folder / STATE_FILE
        self.write, self.run, self.upkeep, self.average = write, dict(run), upkeep, average
        self.selects = selects
        self.guard = Guard(upkeep, self.state, self._describe_state)
        self.table = EpochTable(folder)
        self.metrics: dict[str, float] = {}
        self.best: tuple[float, int] | None = None
        self._validated = False
        self._written = self._saved = -1
        # NNI looks for this name when it stores the state of a one-shot experiment
        self.last_model_path = ""

    def _describe_state(self) -> str:
        if self._saved < 0:
            return "No checkpoint has been saved yet."
        return f"The last good checkpoint is {self.state}, of step {self._saved}."

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Forget rows that the run writes again."""
        if trainer.is_global_zero:
            with told_when_full(self.table.path):
                self.table.keep_before(trainer.current_epoch)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note that the epoch has accuracies of its own."""
        self._validated = True

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Within an epoch: save the state if it is time, or the run was asked to end."""
        progress = trainer.fit_loop.epoch_loop
        if progress._should_accumulate() or progress.batch_progress.is_last_batch:
            return  # between steps, or just before the end of the epoch
        every = self.upkeep.checkpoint_every
        if self.guard.ending:
            self._save_state(trainer)
            self._end(trainer)
        if every is not None and trainer.global_step % every == 0:
            self._save_state(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save everything."""
        self.guard.settle()
        epoch = trainer.current_epoch + 1
        self.metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        main, validated, self._validated = trainer.is_global_zero, self._validated, False
        if main:
            with told_when_full(self.table.path):
                self.table.add(epoch, trainer.global_step, self.metrics)
        if validated and self.selects:
            values = list(accuracies(self.metrics, AVERAGED if self.average else VALIDATED).values())
            score = sum(values) / max(len(values), 1)
            if self.best is None or score > self.best[0]:
                self.best = (score, epoch)
                if main:
                    self._write(BEST_FILE, self._network(module), epoch)
        if main:
            self._keep(module, epoch)
        self._save_state(trainer)
        if main:
            self._write_last(trainer, module, epoch)
            self._drop_old()
        if self.guard.ending and epoch < (trainer.max_epochs or 0):
            self._end(trainer)

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the last weights where a kill came between the last state and them."""
        if trainer.is_global_zero and self._written < 0:
            self._write_last(trainer, module, trainer.current_epoch)

    def _end(self, trainer: pl.Trainer) -> None:
        raise Terminated(
            f"asked to end; step {trainer.global_step} is saved in {self.state}. The same command with "
            "--resume goes on from there."
        )

    def _network(self, module: Any) -> nn.Module:
        return module.model if self.average is None else self.average.network

    def _save_state(self, trainer: pl.Trainer) -> None:
        self.guard.settle()  # nothing of a bad step is saved
        if trainer.is_global_zero:
            with told_when_full(self.state), replacing(self.state) as temporary:
                trainer.save_checkpoint(temporary)
        else:
            trainer.save_checkpoint(self.state)  # takes part, and writes nothing
        self.last_model_path = str(self.state)
        self._saved = trainer.global_step

    def _write_last(self, trainer: pl.Trainer, module: Any, epoch: int) -> None:
        self._write(f"{self.name}.safetensors", module.model, epoch)
        if self.average is not None:
            self._write(f"{self.name}-ema.safetensors", self.average.network, epoch)
        self._written = trainer.global_step

    def _write(self, name: str, network: nn.Module, epoch: int) -> None:
        path = self.folder / name
        with told_when_full(path):
            self.write(path, network, self.run | {"epoch": epoch, "metrics": self.metrics})

    def _keep(self, module: Any, epoch: int) -> None:
        if not self.upkeep.keep:
            return
        self._write(f"{EPOCHS_FOLDER}/{epoch:04d}.safetensors", self._network(module), epoch)

    def _drop_old(self) -> None:
        if not self.upkeep.keep:
            return
        kept = sorted((self.folder / EPOCHS_FOLDER).glob("*.safetensors"))
        for old in kept[: -self.upkeep.keep]:
            old.unlink()

    def state_dict(self) -> dict[str, Any]:
        """The metrics so far and the best epoch."""
        return {"metrics": self.metrics, "best_percent": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from them."""
        self.metrics = in_percent(state_dict["metrics"])
        best, scale = state_dict.get("best_percent"), 1
        if "best" in state_dict:  # of an earlier version, which had shares from 0 to 1
            best, scale = state_dict["best"], 100
        self.best = None if best is None else (scale * best[0], best[1])

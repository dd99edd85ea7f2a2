"""What a running training shows: speed, memory and time left, and a table with a row per epoch."""

from __future__ import annotations

import csv
import io
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ProgressBar

from ..bars import TEN_MINUTES, Bar
from ..checkpoints.metrics import AVERAGED, accuracies, in_percent
from ..errors import ConfigError
from ..files import write_text

TABLE_FILE = "metrics.csv"


class EpochTable:
    """`metrics.csv`: a row per epoch; a resumed run goes on with it.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / TABLE_FILE

    def add(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """Add an epoch atomically."""
        self._write([*self._rows(), {"epoch": epoch, "step": step, **metrics}])

    def keep_before(self, epochs: int) -> None:
        """Drop the rows of later epochs, which the run does again."""
        rows = self._rows()
        kept = [row for row in rows if row["epoch"] <= epochs]
        if len(kept) < len(rows):
            self._write(kept)

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [in_percent(row) for row in csv.DictReader(file)]
            for row in rows:
                if None in row or None in row.values():
                    raise ValueError("a row has more or fewer values than the table has columns")
                row["epoch"] = int(row["epoch"])
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error):
            raise ConfigError(
                f"{self.path}: the table is damaged: each row should begin with the number of an epoch. "
                "Move it away, and the run goes on with a new one."
            ) from None
        return rows

    def _write(self, rows: list[dict[str, Any]]) -> None:
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())


class Progress(ProgressBar):
    """A bar for the epoch, with the time left for the whole run, images per second, the most memory used,
    loss and accuracy; the speed goes to the loggers too, and with a teacher its share of the time.

    Args:
        global_batch: images of a step over all ranks.
    """

    def __init__(self, global_batch: int) -> None:
        super().__init__()
        self._images = global_batch
        self._start = self._since = self._spent = 0.0
        self._first = self._last = 0
        self._speed: list[str] = []
        self._enabled = True
        self._bar: Bar | None = None

    def disable(self) -> None:
        """Show nothing, as on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, module)
        self._start = self._since = time.perf_counter()
        self._first = self._last = trainer.global_step
        self._bar = Bar(0, "", "", shown=self._enabled, interval=TEN_MINUTES)

    def on_train_epoch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        """Leave the validation out of the speed."""
        super().on_train_epoch_start(trainer, *rest)
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *rest: Any) -> None:
        """Measure, as often as is logged."""
        now = time.perf_counter()
        self._spent += now - self._since
        self._since = now
        steps = trainer.global_step - self._last
        if steps >= trainer.log_every_n_steps:
            self._measure(trainer, module, self._spent / steps)
            self._spent, self._last = 0.0, trainer.global_step
        super().on_train_batch_end(trainer, module, *rest)
        if self._bar is not None and self._bar.due():
            done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
            self._describe(trainer, "", done, trainer.num_training_batches)
            self._bar.show()

    def on_validation_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        """Show how far the validation is."""
        super().on_validation_batch_end(trainer, *rest)
        if self._bar is not None and self._bar.due():
            done = trainer.fit_loop.epoch_loop.val_loop.batch_progress.current.ready
            self._describe(trainer, " validation", done, int(sum(trainer.num_val_batches)))
            self._bar.show()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Show what the epoch has come to."""
        if self._bar is not None and self._bar.shown:
            self._describe(trainer, "", trainer.num_training_batches, trainer.num_training_batches)
            self._bar.milestone()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Leave the last epoch to be seen."""
        self.teardown(trainer, module, "fit")

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, error: BaseException) -> None:
        """Leave the line to what is said of it."""
        self.teardown(trainer, module, "fit")

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _measure(self, trainer: pl.Trainer, module: Any, seconds: float) -> None:
        numbers = {
            "images_per_second": self._images / seconds,
            "memory_gib": memory_gib(module.device),
            "hours_left": (self._seconds_left(trainer) or 0.0) / 3600,
        }
        teacher = getattr(getattr(module, "training_module", module), "teacher", None)
        if teacher is not None:
            passes = trainer.accumulate_grad_batches
            numbers["teacher_share_of_time"] = min(1.0, teacher.seconds * passes / seconds)
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=trainer.global_step)
        self._speed = [f"{numbers['images_per_second']:.0f} img/s", f"{numbers['memory_gib']:.1f} GiB"]

    def _seconds_left(self, trainer: pl.Trainer) -> float | None:
        """Time to the end of the run; None before the first step."""
        done = trainer.global_step - self._first
        left = int(trainer.estimated_stepping_batches) - trainer.global_step
        return (time.perf_counter() - self._start) / done * left if done else None

    def _describe(self, trainer: pl.Trainer, what: str, done: int, total: int | float) -> None:
        assert self._bar is not None
        bar = self._bar
        bar.name = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{what}"
        bar.left, bar.done, bar.total = self._seconds_left(trainer), done, int(total)
        metrics = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
        loss = [f"loss {metrics['train_loss']:.3g}"] if "train_loss" in metrics else []
        top1 = told_accuracies(metrics, bar.on_terminal)
        bar.note = (" " if bar.on_terminal else ", ").join([*self._speed, *loss, *top1])


def told_accuracies(metrics: Mapping[str, float], briefly: bool) -> list[str]:
    """The accuracies that training and validation have logged.

    Args:
        metrics: everything that was logged.
        briefly: their mean alone, with the moving averages' where there are any.
    """
    found = [(accuracies(metrics), ""), (accuracies(metrics, AVERAGED), " of the moving average")]
    if briefly:
        found = [(values, name) for values, name in found if values][-1:]
        return [f"top-1 {sum(values.values()) / len(values):.1f} %" for values, _ in found]
    return [
        f"top-1{name} {', '.join(f'{network} {value:.2f} %' for network, value in values.items())}"
        for values, name in found
        if values
    ]


def memory_gib(device: torch.device) -> float:
    """The most memory that this process has used: of the GPU if it computes there, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**30 if sys.platform == "darwin" else 2**20)

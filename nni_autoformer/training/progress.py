"""What a running training shows: speed, memory and time left, and a table with a row per epoch."""

from __future__ import annotations

import csv
import io
import resource
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks.progress import TQDMProgressBar

from ..errors import ConfigError
from ..files import write_text

TABLE_FILE = "metrics.csv"

REFRESH = 0.5
"""Seconds between two looks at the numbers behind the bar, which make a GPU wait."""


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
                rows: list[dict[str, Any]] = list(csv.DictReader(file))
            for row in rows:
                if None in row or None in row.values():
                    raise ValueError("a row has more or fewer values than the table has columns")
                row["epoch"] = int(row["epoch"])
        except (ValueError, KeyError, TypeError, csv.Error):
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


class Progress(TQDMProgressBar):
    """Lightning's bar with images per second, the time left for the whole run, and the most memory used; the
    numbers go to the loggers too, and with a teacher its share of the time.

    Args:
        global_batch: images of a step over all ranks.
    """

    def __init__(self, global_batch: int) -> None:
        super().__init__()
        self._images = global_batch
        self._start = self._since = self._spent = 0.0
        self._first = self._last = 0
        self._shown: dict[str, str] = {}
        self._refreshed = 0.0

    def _should_update(self, current: int, total: int | float | None) -> bool:
        now = time.perf_counter()
        if not self.is_enabled or (current != total and now < self._refreshed + REFRESH):
            return False
        self._refreshed = now
        return True

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, module)
        self._start = self._since = time.perf_counter()
        self._first = self._last = trainer.global_step

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
            seconds = self._spent / steps
            self._spent, self._last = 0.0, trainer.global_step
            left = int(trainer.estimated_stepping_batches) - trainer.global_step
            mean = (now - self._start) / (trainer.global_step - self._first)
            numbers = {
                "images_per_second": self._images / seconds,
                "memory_gib": memory_gib(module.device),
                "hours_left": mean * left / 3600,
            }
            teacher = getattr(getattr(module, "training_module", module), "teacher", None)
            if teacher is not None:
                passes = trainer.accumulate_grad_batches
                numbers["teacher_share_of_time"] = min(1.0, teacher.seconds * passes / seconds)
            for logger in trainer.loggers:
                logger.log_metrics(numbers, step=trainer.global_step)
            self._shown = {
                "img/s": f"{numbers['images_per_second']:.0f}",
                "GiB": f"{numbers['memory_gib']:.1f}",
                "left": str(timedelta(seconds=round(mean * left))),
            }
        super().on_train_batch_end(trainer, module, *rest)

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, module)
        metrics.pop("v_num", None)
        return {**metrics, **self._shown}


def memory_gib(device: torch.device) -> float:
    """The most memory that this process has used: of the GPU if it computes there, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**30 if sys.platform == "darwin" else 2**20)

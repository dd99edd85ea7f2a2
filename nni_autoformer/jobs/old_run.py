"""What becomes of the run that a folder holds when a new one takes its place: it waits aside until the new
one has a result, and comes back if that never has one. A kill at any moment loses neither.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

RUN_FILE = "run.json"
BEFORE = ".before"
"""Where an old run waits until the new one has a result."""

RETURNING = ".returning"
"""The same place while the old run is put back."""

GONE = ".gone"
"""The same place while it is deleted."""

WRITTEN = (
    RUN_FILE,
    *("recipe.yaml", "selection.txt", "metrics.csv", "training.ckpt", "ranks", "nni"),
    *("tensorboard", "csv", "wandb", "mlflow.db", "mlruns"),
    *("supernet.safetensors", "supernet-ema.safetensors", "subnet.safetensors", "subnet-ema.safetensors"),
    *("best.safetensors", "epochs", "checkpoints", "lightning_logs"),
    *("search.json", "candidates.jsonl", "outcomes.npz", "best.yaml", "candidates.png", "summary.txt"),
    *("space.yaml", "nni_experiment.json"),
    *("samples.jsonl", "samples.csv", "samples.png", "sizes.json", "sizes.csv", "pareto.json", "pareto.csv"),
    *("architectures", "samples.*.jsonl", ".*.tmp"),
)
"""What runs write, as patterns; nothing else in a folder is ever removed."""

RESULTS = ("training.ckpt", "search.json", "samples.*.jsonl", "samples.jsonl")
"""What shows that a run has got somewhere."""


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run, or one that was set aside."""
    return any((place / RUN_FILE).is_file() for place in (folder, folder / BEFORE, folder / RETURNING))


def set_aside(folder: Path) -> None:
    """Move what the old run has written out of the new one's way."""
    before = folder / BEFORE
    before.mkdir(exist_ok=True)
    for entry in _written(folder):
        if entry.name != RUN_FILE:
            os.replace(entry, before / entry.name)
    os.replace(folder / RUN_FILE, before / RUN_FILE)  # last: while it is there, the old run is whole


def settle(folder: Path) -> None:
    """Delete an old run that was set aside if the new one has a result, else put it back; a kill at any
    moment leaves what the next call goes on with.
    """
    before, returning = folder / BEFORE, folder / RETURNING
    shutil.rmtree(folder / GONE, ignore_errors=True)
    if before.is_dir():
        aside = (before / RUN_FILE).is_file()  # else it was not moved to the end
        if aside and any(any(folder.glob(pattern)) for pattern in RESULTS):
            os.replace(before, folder / GONE)
            return shutil.rmtree(folder / GONE)
        for entry in _written(folder) if aside else ():
            _remove(entry)
        os.replace(before, returning)
    if returning.is_dir():
        for entry in returning.iterdir():
            os.replace(entry, folder / entry.name)
        returning.rmdir()


def _written(folder: Path) -> list[Path]:
    found = {entry for pattern in WRITTEN for entry in folder.glob(pattern)}
    return sorted(found)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)

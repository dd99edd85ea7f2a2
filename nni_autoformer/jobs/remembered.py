"""The data set that a checkpoint was trained on, for the commands that come after, from the record of the run
that wrote it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import settings_of, shown
from ..data.catalogue import needs_root
from ..data.data_set import DataSet
from ..errors import ConfigError
from .old_run import RUN_FILE
from .run_folder import read_run

_logger = logging.getLogger("nni_autoformer")

TRAININGS = ("train", "retrain", "finetune")
"""The jobs that leave checkpoints, and name their data set in `run.json`."""

EPOCHS = "epochs"
"""Folder within a run's, of the weights of single epochs."""


def data_for(checkpoint: Path, data: DataSet | str | Path | None) -> DataSet:
    """The data set that a job is told of, or else the one that its checkpoint was trained on.

    That one is never taken from the checkpoint itself: a file may come from anywhere, and must not say which
    files of this machine are opened. The run's own record, in the run's folder, is the user's.

    Args:
        checkpoint: file of the weights.
        data: data set; None, or one without a name and a folder, for the checkpoint's.

    Raises:
        ConfigError: nothing beside the checkpoint names its data set, or what does is damaged.
    """
    given = DataSet() if data is None else DataSet.of(data)
    if given.data is not None or (given.dataset != DataSet.dataset and not needs_root(given.dataset)):
        return given
    found = _recorded(checkpoint)
    if found is None and given.dataset != DataSet.dataset:
        return given  # opening it says that the folder is missing
    if found is None:
        raise ConfigError(
            f"--data is missing: no {RUN_FILE} beside {checkpoint} says which images it was trained "
            "on; give the folder of the images with --data, or the name of a data set with --dataset."
        )
    where, recorded = found
    if given.dataset not in (DataSet.dataset, recorded.dataset):
        return given
    _logger.info(f"The images are those of the checkpoint's training ({where}): {_told(recorded)}.")
    return replace(given, dataset=recorded.dataset, data=recorded.data)


def _recorded(checkpoint: Path) -> tuple[Path, DataSet] | None:
    """The data set in the record of the run that wrote a checkpoint, and the record's place."""
    folder = checkpoint.resolve().parent
    place = (folder.parent if folder.name == EPOCHS else folder) / RUN_FILE
    if not place.is_file():
        return None
    content = read_run(place)
    if content["job"] == "demo":
        return place, DataSet("digits")
    if content["job"] not in TRAININGS:
        return None
    config = content["config"]
    values: dict[str, Any] = {name: config.get(name) for name in ("dataset", "data")}
    for name, value in values.items():
        if wanted := settings_of(DataSet)[name].problem(value):
            raise ConfigError(f"{place}: config.{name} is {shown(repr(value))}; it should be {wanted}.")
    return place, DataSet(**values)


def _told(data: DataSet) -> str:
    named = "" if data.dataset == DataSet.dataset else f"--dataset {data.dataset} "
    return (named + ("" if data.data is None else f"--data {data.data}")).strip()

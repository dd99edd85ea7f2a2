"""Where the curves of a training go: Lightning's own loggers, by name."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .recipe import Recipe

EXTRAS = ("wandb", "mlflow")
"""Loggers whose package of the same name comes with the extra of the same name."""

PROJECT = "nni-autoformer"
"""Name of the project of W&B, and of the experiment of MLflow."""


def require_loggers(names: str) -> None:
    """Check that the packages of the loggers are installed.

    Args:
        names: as in `Upkeep.logger`.

    Raises:
        ConfigError: one is missing; the sentence says how to install it.
    """
    for name in names.split(","):
        if name in EXTRAS and find_spec(name) is None:
            raise ConfigError(
                f'--logger {name} needs the package {name}: pip install "nni-autoformer[{name}]".'
            )


def open_loggers(
    names: str, output: Path, recipe: Recipe, tensorboard: Path, purge_step: int | None = None
) -> list[Any]:
    """Lightning's loggers.

    Args:
        names: as in `Upkeep.logger`.
        output: folder of the run, whose name the run has at W&B and MLflow.
        recipe: how the network is trained, which they keep beside the curves.
        tensorboard: folder of TensorBoard's files.
        purge_step: step from which a resumed run writes TensorBoard's events again; None for a new run.
    """
    return [
        _open(name, output, recipe, tensorboard, purge_step) for name in names.split(",") if name != "none"
    ]


def _open(name: str, output: Path, recipe: Recipe, tensorboard: Path, purge_step: int | None) -> Any:
    from pytorch_lightning import loggers

    if name == "tensorboard":
        # the events that a resumed run writes again take the place of the earlier ones
        return loggers.TensorBoardLogger(
            tensorboard.parent, name=tensorboard.name, version="", purge_step=purge_step
        )
    if (
        name == "csv"
    ):  # a table of its own for each session: Lightning's would begin anew in the old one's place
        opened: Any = loggers.CSVLogger(output, name="csv")
    elif name == "wandb":
        opened = loggers.WandbLogger(name=output.resolve().name, save_dir=output, project=PROJECT)
    else:
        opened = loggers.MLFlowLogger(PROJECT, run_name=output.resolve().name, **_mlflow_places(output))
    opened.log_hyperparams(recipe.to_dict())
    return opened


def _mlflow_places(output: Path) -> dict[str, str]:
    """Where MLflow writes: the server that its variable names, or a data base in the run's folder; its plain
    folder of files is refused by today's versions.
    """
    if server := os.environ.get("MLFLOW_TRACKING_URI"):
        return {"tracking_uri": server}
    folder = output.resolve()
    return {
        "tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
        "artifact_location": (folder / "mlruns").as_uri(),
    }

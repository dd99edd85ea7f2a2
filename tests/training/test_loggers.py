"""`--logger`: the curves go where the user wants them."""

import csv
import json
import sqlite3
import sys
from importlib.util import find_spec

import pytest

from nni_autoformer import ConfigError
from nni_autoformer.cli import main
from nni_autoformer.jobs import Upkeep


def train(toy, output, *more):
    space, data = f"{toy}/space.yaml", f"{toy}/images"
    command = f"train --space {space} --data {data} --output {output} --device cpu --epochs 1 --batch-size 4"
    return main([*command.split(), *more])


def test_several_loggers_have_the_curves(toy, tmp_path):
    assert train(toy, tmp_path / "run", "--logger", "tensorboard,csv") == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    (table,) = (tmp_path / "run" / "csv").glob("*/metrics.csv")
    with open(table) as file:
        columns = next(csv.reader(file))
    assert {"val_acc_percent/largest", "images_per_second"} <= set(columns)
    assert "epochs: 1" in table.with_name("hparams.yaml").read_text()
    assert train(toy, tmp_path / "run", "--logger", "none", "--overwrite") == 0
    left = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert "metrics.csv" in left and not {"csv", "tensorboard", "lightning_logs"} & left


def test_a_logger_whose_package_is_missing_is_named_before_anything_is_written(
    toy, tmp_path, capsys, monkeypatch
):
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
        assert train(toy, tmp_path / "run", "--logger", f"csv,{name}") == 2
        told = f'--logger {name} needs the package {name}: pip install "nni-autoformer[{name}]".'
        assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("names", ["", "tensorbord", "csv,csv", "csv,none", "csv, wandb"])
def test_another_name_is_an_error(names):
    with pytest.raises(
        ConfigError, match=r"--logger is .*; it should be none, or one or several of tensorboard"
    ):
        Upkeep(logger=names)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is an extra")
def test_mlflow_has_the_curves(toy, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert train(toy, tmp_path / "run", "--logger", "mlflow") == 0
    data_base = sqlite3.connect(tmp_path / "run" / "mlflow.db")
    assert ("val_acc_percent/largest",) in data_base.execute("select key from metrics").fetchall()
    assert data_base.execute("select value from params where key = 'epochs'").fetchall() == [("1",)]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is an extra")
def test_wandb_has_the_curves(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert train(toy, tmp_path / "run", "--logger", "wandb") == 0
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"

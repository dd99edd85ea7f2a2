"""Accuracies are in percent, and files of earlier versions, with shares, are read."""

import csv

from nni_autoformer.checkpoints import save_supernet
from nni_autoformer.checkpoints.metrics import AVERAGED, VALIDATED, accuracies, in_percent
from nni_autoformer.cli import main
from nni_autoformer.jobs.train_supernet import TrainedSupernet
from nni_autoformer.training.progress import EpochTable
from nni_autoformer.training.saving import Saving

OLD = {"train_loss": 1.5, "val_acc/largest": 0.875, "val_acc_ema/largest": 0.5}


def test_shares_become_percent_once():
    new = in_percent(OLD)
    assert new == {"train_loss": 1.5, f"{VALIDATED}largest": 87.5, f"{AVERAGED}largest": 50.0}
    assert in_percent(new) == new
    assert accuracies(OLD) == accuracies(new) == {"largest": 87.5} and accuracies(None) == {}
    assert accuracies(OLD, AVERAGED) == {"largest": 50.0}
    assert in_percent({"val_acc/largest": ""}) == {f"{VALIDATED}largest": ""}  # an epoch without validation


def test_a_table_of_an_earlier_version_is_gone_on_with(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,val_acc/largest\n1,10,\n2,20,0.875\n")
    EpochTable(tmp_path).add(3, 30, {f"{VALIDATED}largest": 90.0})
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row[f"{VALIDATED}largest"] for row in rows] == ["", "87.5", "90.0"]
    assert set(rows[0]) == {"epoch", "step", f"{VALIDATED}largest"}


def test_the_best_epoch_of_an_earlier_version_stays_the_best(tmp_path):
    saving = Saving(tmp_path, "supernet", lambda *_: None, {})
    saving.load_state_dict({"metrics": dict(OLD), "best": (0.875, 2)})
    assert saving.best == (87.5, 2) and saving.metrics == in_percent(OLD)
    again = Saving(tmp_path, "supernet", lambda *_: None, {})
    again.load_state_dict(saving.state_dict())
    assert again.best == saving.best and again.metrics == saving.metrics
    again.load_state_dict({"metrics": {}, "best": None})
    assert again.best is None


def test_a_checkpoint_of_an_earlier_version_tells_its_accuracies(toy, tmp_path, capsys):
    from nni_autoformer.checkpoints import Checkpoint, save_subnet

    checkpoint = Checkpoint(toy / "run" / "supernet.safetensors")
    supernet, run = checkpoint.supernet(), {**checkpoint.header.run}
    save_supernet(tmp_path / "supernet.safetensors", supernet, run | {"metrics": OLD})
    assert TrainedSupernet(tmp_path, tmp_path / "supernet.safetensors").accuracies == {"largest": 87.5}
    subnet = supernet.extract(supernet.space.middle)
    save_subnet(tmp_path / "subnet.safetensors", subnet, run | {"metrics": {"val_acc/network": 0.625}})
    assert main(["info", f"{tmp_path}/subnet.safetensors"]) == 0
    assert "62.50 % on the validation images" in capsys.readouterr().out

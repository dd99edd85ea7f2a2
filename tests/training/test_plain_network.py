"""The recipe and everything around it for a single network, on which retraining and fine-tuning stand."""

import contextlib

import pytest
import torch

from nni_autoformer import SearchSpace, load_supernet
from nni_autoformer.checkpoints import load_subnet
from nni_autoformer.cli import main
from nni_autoformer.data import open_data
from nni_autoformer.jobs.preparation import TrainJob
from nni_autoformer.training.recipe import Recipe
from nni_autoformer.training.saving import Saving
from nni_autoformer.training.trainer import train_network


def train(toy, output):
    supernet, header = load_supernet(toy / "run" / "supernet.safetensors")
    subnet = supernet.extract(header.space.largest)
    splits = open_data("folder", toy / "images", 3)
    recipe = Recipe.for_space(
        header.space, epochs=2, batch_size=8, mixup=0.8, reprob=0.25, model_ema=True, warmup_epochs=0
    )
    space = SearchSpace.load(toy / "space.yaml")
    job = TrainJob.prepare(space, recipe, splits, "folder", None, torch.device("cpu"))
    output.mkdir(exist_ok=True)
    return train_network(subnet, job.open(output)), subnet


def test_a_subnet_is_trained_on_saved_and_evaluated(toy, tmp_path):
    start = load_supernet(toy / "run" / "supernet.safetensors")[0]
    before = start.extract(start.space.largest).state_dict()
    network, _ = train(toy, tmp_path / "run")
    assert any(not torch.equal(before[key], value) for key, value in network.state_dict().items())
    for name in ("subnet", "subnet-ema", "best"):
        loaded, header = load_subnet(tmp_path / "run" / f"{name}.safetensors")
        assert loaded.architecture == network.architecture
        assert {"val_acc_percent/network", "val_acc_ema_percent/network"} <= set(header.run["metrics"])
    loaded, _ = load_subnet(tmp_path / "run" / "subnet.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), network.state_dict().values()))


def test_it_goes_on_where_it_was(toy, tmp_path, monkeypatch):
    whole, _ = train(toy, tmp_path / "whole")
    save = Saving.on_train_epoch_end
    with monkeypatch.context() as patch:

        def save_and_fail(self, trainer, module):
            save(self, trainer, module)
            raise MemoryError

        patch.setattr(Saving, "on_train_epoch_end", save_and_fail)
        with contextlib.suppress(MemoryError):
            train(toy, tmp_path / "run")
    resumed, _ = train(toy, tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))


@pytest.mark.parametrize("step", [1, 4, 6])
def test_ctrl_c_ends_it_with_a_sentence_and_a_resume_goes_on(toy, tmp_path, monkeypatch, capsys, step):
    command = f"retrain --space {toy}/space.yaml --architecture smallest --data {toy}/images --device cpu"
    command += f" --epochs 2 --batch-size 16 --warmup-epochs 0 --output {tmp_path}/run"
    save = Saving.on_train_batch_end

    def interrupt(self, trainer, *rest):
        save(self, trainer, *rest)
        if trainer.global_step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Saving, "on_train_batch_end", interrupt)
        assert main(command.split()) == 130
    assert "stopped. The same command with --resume goes on" in capsys.readouterr().err
    assert main([*command.split(), "--resume"]) == 0
    assert load_subnet(tmp_path / "run" / "subnet.safetensors")[1].run.epoch == 2

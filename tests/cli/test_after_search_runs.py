"""Retraining and fine-tuning as long runs are: stopped and resumed, on two ranks, by the packaged recipes."""

import json
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from nni_autoformer import SearchSpace, build_supernet, save_supernet
from nni_autoformer.checkpoints import read_header
from nni_autoformer.cli import main
from tests.processes import finish, kill, start, torchrun, wait_for

from .after_search import finetune, same

pytestmark = pytest.mark.slow


MORE = "--img-size 16 --layer-decay 0.7 --model-ema --mixup 0.8 --epochs 12 --checkpoint-every 2"


@pytest.fixture(scope="module")
def whole(toy, others, tmp_path_factory):
    """A run that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(finetune(toy, folder, MORE, others)) == 0
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_goes_on_bit_for_bit(toy, others, whole, tmp_path, number):
    process = start(finetune(toy, tmp_path / "run", MORE, others))
    wait_for((tmp_path / "run" / "training.ckpt").exists, process)
    time.sleep(0.2)
    kill(process, number)
    assert process.exitcode == (143 if number == signal.SIGTERM else -9)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    assert main(finetune(toy, tmp_path / "run", f"{MORE} --resume", others)) == 0
    for name in ("subnet", "subnet-ema"):
        first, second = (load_file(run / f"{name}.safetensors") for run in (whole, tmp_path / "run"))
        assert same(first, second)


def test_two_processes_give_what_one_gives(toy, tmp_path):
    more = "--drop-path 0 --hflip 0 --crop-padding 0 --smoothing 0"
    one = [*finetune(toy, tmp_path / "one", more)]
    two = [*finetune(toy, tmp_path / "two", f"{more} --batch-size 4")]
    assert main(one) == 0
    (tmp_path / "script.py").write_text("import sys\nfrom nni_autoformer.cli import main\nsys.exit(main())\n")
    assert finish(torchrun(2, tmp_path / "script.py", two)) == 0
    first, second = (load_file(tmp_path / run / "subnet.safetensors") for run in ("one", "two"))
    for key, tensor in first.items():
        torch.testing.assert_close(tensor, second[key], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, make_image_folder):
    """A supernet of the packaged space T that nobody has trained, and a few images."""
    root = tmp_path_factory.mktemp("tiny")
    make_image_folder(root / "images", per_class={"train": 4, "val": 1}, side=96)
    space = SearchSpace.load("tiny").with_model(num_classes=3)
    run = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "classes": ["one", "six", "two"]}
    save_supernet(root / "supernet.safetensors", build_supernet(space), run)
    return root


@pytest.mark.parametrize(
    ("recipe", "command"),
    [
        ("retrain", "retrain --space tiny --architecture smallest"),
        ("finetune", "finetune --checkpoint {root}/supernet.safetensors --architecture published"),
        (
            "finetune-384",
            "finetune --checkpoint {root}/supernet.safetensors --architecture smallest --img-size 384",
        ),
    ],
)
def test_the_packaged_recipes_run(tiny, tmp_path, recipe, command):
    words = f"{command.format(root=tiny)} --recipe {recipe} --data {tiny}/images --output {tmp_path}/run"
    short = "--epochs 1 --warmup-epochs 0 --batch-size 4 --device cpu --workers 0"
    assert main(f"{words} {short}".split()) == 0
    side = 384 if "384" in recipe else 224
    header = read_header(tmp_path / "run" / "subnet.safetensors")
    assert header.space.model.img_size == (side, side)
    assert torch.isfinite(torch.tensor(header.run["metrics"]["train_loss"]))

"""Trainings that end before they should: kills at any moment, a full disk, a forbidden folder."""

import json
import os
import random
import signal
import subprocess
import tempfile
import time

import pytest
import torch
from nni.tools.nnictl.config_utils import Experiments
from safetensors.torch import load_file

from nni_autoformer.cli import main
from nni_autoformer.training.saving import resume_point
from tests.processes import finish, kill, start, wait_for

FLAGS = "--epochs 6 --model-ema --model-ema-decay 0.9 --mixup 0.8 --reprob 0.25 --grad-accum-steps 2"
FLAGS += " --batch-size 4 --checkpoint-every 2 --keep 1 --resume"
KILLS = 14


def same(first, second, name="supernet"):
    one, other = (load_file(folder / f"{name}.safetensors") for folder in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def readable(folder):
    """Whatever a kill has left can be read."""
    if (folder / "training.ckpt").exists():
        resume_point(folder / "training.ckpt")
    for path in folder.glob("*.safetensors"):
        load_file(path)
    if (folder / "run.json").exists():
        json.loads((folder / "run.json").read_text())


@pytest.mark.slow
def test_a_training_killed_at_any_moment_goes_on_as_if_nothing_had_been(toy, toy_command, tmp_path):
    """Fourteen times, about half of them while something is written."""

    def train(folder):
        return start(toy_command(toy, folder, *FLAGS.split()), threads=1)

    began = time.monotonic()
    assert finish(train(tmp_path / "whole")) == 0
    length = time.monotonic() - began
    draw, kills, torn, runs = random.Random(0), 0, 0, []
    while kills < KILLS:
        runs.append(tmp_path / f"killed{len(runs)}")
        code = None
        while code != 0:
            process, begun = train(runs[-1]), time.monotonic()
            aims_at_a_save, moment = draw.random() < 0.5, draw.uniform(0, 1.2 * length)
            while process.is_alive():
                late = time.monotonic() - begun > moment
                if kills < KILLS and (any(runs[-1].glob(".*.tmp")) if aims_at_a_save else late):
                    kill(process)
                time.sleep(0.002)
            code = process.exitcode
            assert code in (0, -signal.SIGKILL)
            if code:
                kills += 1
                torn += any(runs[-1].glob(".*.tmp"))
            readable(runs[-1])
    assert kills == KILLS and torn >= 3
    whole = tmp_path / "whole"
    for folder in runs:
        assert all(same(whole, folder, name) for name in ("supernet", "supernet-ema", "best"))
        assert (folder / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
        assert not list(folder.rglob(".*.tmp"))


@pytest.mark.slow
def test_with_two_threads_that_share_the_work_of_an_operation(tmp_path):
    """The other tests run on one; the networks and batches of this one are large enough for two."""
    words = "train --space digits --dataset digits --device cpu --epochs 2 --warmup-epochs 0 --batch-size 64"

    def train(folder, *more):
        return start([*words.split(), "--output", tmp_path / folder, *more], threads=2)

    assert finish(train("whole")) == 0
    process = train("killed")
    wait_for((tmp_path / "killed" / "training.ckpt").exists, process)
    kill(process)
    assert process.exitcode == -signal.SIGKILL
    assert finish(train("killed", "--resume")) == 0
    assert same(tmp_path / "whole", tmp_path / "killed")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own in memory; skipped where one cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def at_step(monkeypatch):
    """Do something after an optimizer step, once."""
    from nni_autoformer.training.saving import Saving

    def at(step, action):
        check, done = Saving.on_train_batch_end, []

        def act_and_check(self, trainer, *rest):
            if trainer.global_step == step and not done:
                done.append(step)
                action()
            check(self, trainer, *rest)

        monkeypatch.setattr(Saving, "on_train_batch_end", act_and_check)

    return at


def fill(folder):
    with open(folder / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_is_whole(
    toy, toy_command, small_disk, at_step, capsys
):
    output = small_disk / "run"
    at_step(8, lambda: fill(small_disk))
    assert main(toy_command(toy, output)) == 2
    error = capsys.readouterr().err
    sentence = error.strip().splitlines()[-1]
    assert (
        "cannot be written" in sentence and "No space left on device" in sentence and "--resume" in sentence
    )
    assert "Traceback" not in error
    assert resume_point(output / "training.ckpt").step == 6
    assert not list(output.glob(".*.tmp"))
    (small_disk / "filler").unlink()
    assert main(toy_command(toy, output, "--resume")) == 0
    assert same(toy / "run", output)


def test_a_folder_that_may_no_longer_be_written_is_a_sentence(
    toy, toy_command, tmp_path, at_step, capsys, monkeypatch
):
    output = tmp_path / "run"
    # NNI keeps a list in the home; others may look into this one, so a lock in it could be waited for
    home = tempfile.mkdtemp()
    os.chmod(home, 0o755)
    monkeypatch.setattr(Experiments.__init__, "__defaults__", (home,))

    def forbid():
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write everywhere
        else:
            output.chmod(0o500)

    at_step(12, forbid)  # the last of an epoch: what follows reads no image
    before = os.geteuid()
    try:
        code = main(toy_command(toy, output))
    finally:
        os.seteuid(before)
        output.chmod(0o700)
        os.rmdir(home)
    assert code == 2
    error = capsys.readouterr().err
    assert "cannot be written: Permission denied" in error.strip().splitlines()[-1]
    assert "Traceback" not in error
    assert main(toy_command(toy, output, "--resume")) == 0
    assert same(toy / "run", output)

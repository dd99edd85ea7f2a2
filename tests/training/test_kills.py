"""Trainings that end before they should: kills at any moment, a full disk, a forbidden folder."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from nni_autoformer.cli import main
from nni_autoformer.training.saving import resume_point

NURSERY = """
import json, os, random, signal, sys, time
from pathlib import Path

# everything that a training imports, once; no tensor is touched here, so that children can be forked
import matplotlib, tensorboard, timm, torchvision, nni.nas.experiment
import nni_autoformer.jobs.preparation, nni_autoformer.training.trainer
from nni_autoformer.cli import main

output, command, wanted = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
draw = random.Random(int(sys.argv[4]))

def start(folder):
    child = os.fork()
    if child:
        return child
    os.setsid()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os._exit(main([*command, "--output", str(folder), "--resume"]))

def ended(child):
    number, status = os.waitpid(child, os.WNOHANG)
    return bool(number), status

def readable(folder):
    import torch
    from safetensors import safe_open
    from nni_autoformer.training.saving import resume_point
    if (folder / "training.ckpt").exists():
        resume_point(folder / "training.ckpt")
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for key in file.keys():
                file.get_tensor(key)
    if (folder / "run.json").exists():
        json.loads((folder / "run.json").read_text())

def check(folder):
    # in a child: tensors in this process could hang the next fork
    child = os.fork()
    if not child:
        try:
            readable(folder)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, f"unreadable after a kill in {folder}"

began = time.monotonic()
whole = start(output / "whole")
assert os.waitpid(whole, 0)[1] == 0
length = time.monotonic() - began
kills, torn, runs = 0, 0, 0
while True:
    folder = output / f"killed{runs}"
    while True:
        child, begun = start(folder), time.monotonic()
        aims_at_a_save, moment = draw.random() < 0.5, draw.uniform(0, 1.2 * length)
        done = False
        while not done:
            done, status = ended(child)
            late = time.monotonic() - begun > moment
            if kills >= wanted or done:
                time.sleep(0.002)
                continue
            saving = any(folder.glob(".*.tmp"))
            if saving if aims_at_a_save else late:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                kills += 1
                torn += any(folder.glob(".*.tmp"))
                break
        check(folder)
        if done:
            assert status == 0, status
            break
    runs += 1
    if kills >= wanted:
        break
print(json.dumps({"kills": kills, "torn": torn, "runs": runs}))
"""

FLAGS = [
    "--epochs",
    "6",
    "--model-ema",
    "--model-ema-decay",
    "0.9",
    "--mixup",
    "0.8",
    "--reprob",
    "0.25",
    "--grad-accum-steps",
    "2",
    "--batch-size",
    "4",
    "--checkpoint-every",
    "2",
    "--keep",
    "1",
]


@pytest.mark.slow
def test_a_training_killed_at_any_moment_goes_on_as_if_nothing_had_been(toy, toy_command, tmp_path):
    """Twenty times, about half of them while something is written."""
    (tmp_path / "nursery.py").write_text(NURSERY)
    command = toy_command(toy, "unused", *FLAGS)
    at = command.index("--output")
    del command[at : at + 2]
    words = [sys.executable, str(tmp_path / "nursery.py"), str(tmp_path), json.dumps(command), "20", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=900)
    assert result.returncode == 0, result.stderr[-3000:]
    counts = json.loads(result.stdout)
    assert counts["kills"] == 20 and counts["torn"] >= 3
    for run in range(counts["runs"]):
        folder = tmp_path / f"killed{run}"
        for name in ("supernet", "supernet-ema", "best"):
            one, other = (load_file(f / f"{name}.safetensors") for f in (tmp_path / "whole", folder))
            assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
        assert (folder / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
        assert not list(folder.rglob(".*.tmp"))


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
    one, other = (load_file(f / "supernet.safetensors") for f in (toy / "run", output))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_folder_that_may_no_longer_be_written_is_a_sentence(toy, toy_command, tmp_path, at_step, capsys):
    output = tmp_path / "run"

    def forbid():
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write everywhere
        else:
            output.chmod(0o500)

    at_step(8, forbid)
    before = os.geteuid()
    try:
        code = main(toy_command(toy, output))
    finally:
        os.seteuid(before)
        output.chmod(0o700)
    assert code == 2
    error = capsys.readouterr().err
    assert "cannot be written: Permission denied" in error.strip().splitlines()[-1]
    assert "Traceback" not in error
    assert main(toy_command(toy, output, "--resume")) == 0
    one, other = (load_file(f / "supernet.safetensors") for f in (toy / "run", output))
    assert all(torch.equal(one[key], other[key]) for key in one)

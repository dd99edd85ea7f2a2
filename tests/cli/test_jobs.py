"""The commands end to end, as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nni_autoformer.cli import main
from tests.processes import finish, kill, start, wait_for

ROOT = Path(__file__).parents[2]


def run(command, **kwargs):
    words = command if isinstance(command, list) else command.split()
    return subprocess.run(
        [sys.executable, "-m", "nni_autoformer", *words], capture_output=True, text=True, check=True, **kwargs
    )


def test_train_search_test_on_an_image_folder(toy, tmp_path, capsys):
    data = f"--space {toy}/space.yaml --data {toy}/images --device cpu"
    data += f" --checkpoint {toy}/run/supernet.safetensors"
    short = "--population-size 4 --num-mutations 2 --num-crossovers 1 --generations 2 --max-params 0.08"
    assert main(f"search {data} {short} --output {tmp_path}/search".split()) == 0
    capsys.readouterr()
    assert main(f"test {data} --architecture {tmp_path}/search/best.yaml".split()) == 0
    captured = capsys.readouterr()
    assert "Images: " in captured.err
    lines = captured.out.splitlines()
    printed = dict(line.split("  ", 1) for line in lines if "  " in line)
    assert printed["test images"].strip() == "24"
    assert 0 <= float(printed["top-1"].split()[0]) <= float(printed["top-5"].split()[0]) == 100
    assert float(printed["parameters"].strip().removesuffix(" M")) <= 0.08


def test_a_finished_run_is_said_to_be_finished(toy, toy_command, capsys):
    before = (toy / "run" / "supernet.safetensors").read_bytes()
    assert main(toy_command(toy, toy / "run", "--resume")) == 0
    assert "holds the finished run already" in capsys.readouterr().out
    assert (toy / "run" / "supernet.safetensors").read_bytes() == before


def test_overwrite_starts_anew(toy, toy_command, tmp_path):
    output = tmp_path / "run"
    assert main(toy_command(toy, output, "--epochs", "2")) == 0
    (output / "epochs").mkdir()
    (output / "notes.txt").write_text("not of a run")
    assert main(toy_command(toy, output, "--epochs", "2", "--seed", "3", "--overwrite")) == 0
    assert not (output / "epochs").exists() and (output / "notes.txt").exists()
    assert json.loads((output / "run.json").read_text())["config"]["recipe"]["seed"] == 3


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_corrupt_image_met_while_training_is_named(
    toy, toy_command, image_folder, tmp_path, capsys, workers
):
    (image_folder / "train" / "two" / "07.png").write_bytes(b"\x89PNG")
    command = toy_command(toy, tmp_path / "run", "--workers", workers, "--selection", "none")
    command[command.index("--data") + 1] = str(image_folder)
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("nni-autoformer: error: train/two/07.png: the file cannot be read as an image")


def test_names_of_spaces_work_from_a_wheel_outside_of_the_checkout(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    # a copy, so that the build's own folders stay out of the checkout
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True, capture_output=True)
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = [*pip, "install", "-q", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    script = (
        "import nni_autoformer as n; from nni_autoformer.space import packaged_spaces as p;"
        "print(n.__file__, [n.SearchSpace.load(name).size for name in p()])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith(str(tmp_path / "site"))
    assert "280804921344" in result.stdout


def test_the_demo_in_short_and_again(tmp_path, capsys):
    output = tmp_path / "demo"
    assert main(["demo", "--output", str(output), "--epochs", "2", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    expected = (
        "supernet.safetensors candidates.jsonl best.yaml candidates.png summary.txt selection.txt run.json"
    )
    assert all((output / name).stat().st_size > 0 for name in expected.split())
    assert len((output / "candidates.jsonl").read_text().splitlines()) == 200
    assert (output / "summary.txt").read_text() in printed
    assert "top-1 on 599 test images, never seen" in printed
    assert main(["demo", "--output", str(output), "--epochs", "2", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "holds a finished run of 'demo'" in error and "--overwrite" in error


@pytest.mark.slow
def test_the_demo_reaches_95_percent(tmp_path):
    """With two more seeds and fewer epochs, at the same time on a core each; seed 0 is run by the README's
    command in CI.

    The accuracy is that of images that nothing has seen.
    """
    outputs = [tmp_path / f"demo{seed}" for seed in (1, 2)]
    processes = [
        start(
            ["demo", "--output", output, "--seed", output.name[-1], "--device", "cpu", "--epochs", "30"],
            output=output.with_suffix(".txt"),
            threads=1,
        )
        for output in outputs
    ]
    for process, output in zip(processes, outputs):
        assert finish(process, timeout=600) == 0
        printed = output.with_suffix(".txt").read_text()
        (line,) = [line for line in printed.splitlines() if "test images, never seen" in line]
        assert float(line.split()[-2]) >= 95
        candidates = [json.loads(row) for row in (output / "candidates.jsonl").read_text().splitlines()]
        assert max(row["params"] for row in candidates) <= 250_000
        assert "epoch 30/30, " in printed and "generation 5/5, done in " in printed and "\r" not in printed


@pytest.mark.slow
def test_a_killed_training_resumed_equals_the_uninterrupted_one(toy, toy_command, tmp_path):
    from safetensors.torch import load_file
    from torch import equal

    output = tmp_path / "run"
    command = toy_command(toy, output, "--epochs", "40", "--val-interval", "10")
    assert finish(start([*command, "--output", tmp_path / "whole"])) == 0
    state, kills = output / "training.ckpt", 0
    for seconds in (0.35, 0.0, 1.1, 0.6):
        process = start([*command, *(["--resume"] if kills else [])])
        before = state.stat().st_mtime_ns if state.is_file() else 0
        wait_for(lambda before=before: state.is_file() and state.stat().st_mtime_ns != before, process)
        time.sleep(seconds)
        kill(process)
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 2
    assert finish(start([*command, "--resume"])) == 0
    one, other = (load_file(folder / "supernet.safetensors") for folder in (tmp_path / "whole", output))
    assert one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)


def run_example(name, folder):
    """An example, with half the epochs."""
    text = (ROOT / "examples" / name).read_text()
    assert text.count("epochs=30") == 1
    (folder / name).write_text(text.replace("epochs=30", "epochs=15"))
    command = [sys.executable, name]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


@pytest.mark.slow
def test_the_example_of_nni_s_classes(tmp_path):
    lines = run_example("nni_classes.py", tmp_path)  # NNI's log lines stand between ours
    (best,) = [line for line in lines if line.startswith("best sample, as NNI knows it: {")]
    assert "'num_head_0':" in best and "'mlp_ratio_4':" in best
    (tested,) = [line for line in lines if "% on selection, " in line]
    assert float(tested.split("% on selection, ")[1].split(" %")[0]) >= 85


@pytest.mark.slow
def test_the_example_of_jobs(tmp_path):
    lines = run_example("python_api.py", tmp_path)
    ranked = [line for line in lines if " parameters: " in line]
    assert len(ranked) == 3 and "embed_dim" in ranked[0]
    (tested,) = [line for line in lines if " test images that neither " in line]
    assert float(tested.split(" %")[0]) >= 85
    assert (tmp_path / "runs" / "python_api" / "best.pt2").is_file()


@pytest.mark.slow
def test_the_example_from_a_published_checkpoint(tmp_path, make_image_folder):
    """With a file of the published T's names and shapes; its weights are random."""
    import torch

    shapes = json.loads((ROOT / "tests" / "golden" / "supernet_keys.json").read_text())["T"]
    torch.save(
        {"model": {key: torch.randn(shape) * 0.02 for key, shape in shapes.items()}}, tmp_path / "t.pth"
    )
    make_image_folder(tmp_path / "images", per_class={"val": 2}, side=64, splits=("val",))
    script = str(ROOT / "examples" / "from_published_checkpoint.py")
    command = [sys.executable, script, str(tmp_path / "t.pth"), str(tmp_path / "images")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "5.868 M, 1.344 G: top-1" in result.stdout
    assert "timm.create_model('autoformer_tiny_patch16_224', checkpoint_path=…), 13 blocks" in result.stdout
    assert (tmp_path / "autoformer.safetensors").is_file()

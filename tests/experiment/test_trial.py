"""Commands that find themselves to be trials of an NNI experiment: parameters in place of flags, reports."""

import json
import os
import subprocess
import sys

import pytest

CHANNEL = """
import json, os
from nni.runtime.trial_command_channel import TrialCommandChannel

class FileChannel(TrialCommandChannel):
    def receive_parameter(self):
        return {"parameter_id": 7, "parameters": json.loads(os.environ["PARAMETERS"])}

    def send_metric(self, type, parameter_id, trial_job_id, sequence, value):
        with open(os.environ["REPORTS"], "a") as file:
            entry = [type, parameter_id, trial_job_id, sequence, value]
            file.write(json.dumps(entry) + "\\n")
"""


@pytest.fixture
def as_trial(tmp_path):
    """What tells a process that it is a trial with some parameters, and the file of what it reports."""

    def told(parameters):
        (tmp_path / "reports").write_text("")
        return {
            "NNI_PLATFORM": "local",
            "NNI_TRIAL_JOB_ID": "abc",
            "NNI_EXP_ID": "exp",
            "NNI_OUTPUT_DIR": str(tmp_path / "nni_output"),
            "NNI_SYS_DIR": str(tmp_path / "nni_output"),
            "NNI_TRIAL_COMMAND_CHANNEL": "import://file_channel.FileChannel",
            "PARAMETERS": json.dumps(parameters),
            "REPORTS": str(tmp_path / "reports"),
        }

    return told


def reported(path):
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(entry[1:3] == [7, "abc"] for entry in entries)
    return [(entry[0], *entry[3:]) for entry in entries]


@pytest.fixture
def trial(tmp_path, as_trial):
    """Run a command as a trial in a process of its own; the finished process, and what it reported."""
    (tmp_path / "file_channel.py").write_text(CHANNEL)

    def run(command, parameters):
        environment = os.environ | as_trial(parameters) | {"PYTHONPATH": str(tmp_path)}
        words = [sys.executable, "-m", "nni_autoformer", *command.split()]
        process = subprocess.run(words, capture_output=True, text=True, env=environment)
        return process, reported(tmp_path / "reports")

    return run


@pytest.fixture
def trial_here(tmp_path, as_trial, monkeypatch, capsys):
    """Run a command as a trial in this process; the exit code, its error messages, and what it reported."""
    from nni.runtime.trial_command_channel import set_default_trial_command_channel

    from nni_autoformer.cli import main
    from nni_autoformer.experiment import trial

    channel = {}
    exec(CHANNEL, channel)

    def run(command, parameters):
        with monkeypatch.context() as patch:
            for name, value in as_trial(parameters).items():
                patch.setenv(name, value)
            set_default_trial_command_channel(channel["FileChannel"]())
            trial._current.cache_clear()
            try:
                code = main(command.split())
            except SystemExit as end:
                code = end.code
        trial._current.cache_clear()
        set_default_trial_command_channel()
        return code, capsys.readouterr().err, reported(tmp_path / "reports")

    return run


def test_a_test_takes_the_labels_as_its_architecture(trial, toy, tmp_path, capsys):
    from nni_autoformer.cli import main

    base = f"test --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    base += f" --cache {tmp_path}/cache"
    sample = {
        "embed_dim": 32,
        "depth": 1,
        "num_head_0": 2,
        "mlp_ratio_0": 2,
        "num_head_1": 1,
        "mlp_ratio_1": 1,
    }
    process, reports = trial(base, {**sample, "split": "selection", "batch_size": 5.0})
    assert process.returncode == 0, process.stderr
    assert [kind for kind, *_ in reports] == ["PERIODICAL"] * 6 + ["FINAL"]  # twelve images, two at a time
    assert [sequence for _, sequence, _ in reports[:-1]] == list(range(6))
    final = reports[-1][2]
    assert set(final) == {
        "default",
        "top5",
        "images",
        "loss",
        "params (M)",
        "macs (G)",
        "memory (MB)",
        "images_checksum",
    }  # each once
    assert final["default"] == reports[-2][2]
    assert final["images"] == 12

    (tmp_path / "a.yaml").write_text("embed_dim: 32\nnum_heads: [2]\nmlp_ratio: [2]\n")
    capsys.readouterr()
    assert main(f"{base} --split selection --architecture {tmp_path}/a.yaml".split()) == 0
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.strip().splitlines())
    assert float(printed["top-1"].split()[0]) == pytest.approx(final["default"], abs=0.005)
    assert float(printed["cross-entropy"]) == pytest.approx(final["loss"], abs=0.00005)
    assert float(printed["parameters"].split()[0]) == pytest.approx(final["params (M)"], rel=5e-3)
    assert float(printed["MACs"].split()[0]) == pytest.approx(final["macs (G)"], rel=5e-3)


@pytest.mark.parametrize(
    ("command", "parameters", "words"),
    [
        ("test", {"embed_dim": 32, "speed": 3}, "'speed' is no flag of nni-autoformer test; known are "),
        ("test", {"embed_dim": 32}, "the NNI sample has no label 'depth'"),
        (
            "test",
            {"embed_dim": 99, "depth": 1, "num_head_0": 1, "mlp_ratio_0": 1},
            "embed_dim 99 is not among",
        ),
        ("train", {"embed_dim": 32}, "'embed_dim' is no flag of nni-autoformer train"),
        ("train", {"overwrite": "yes"}, "'overwrite' is 'yes'; it should be true or false"),
        ("train", {"lr": -1}, "--lr is -1.0; it should be above 0"),
        ("train", {"epochs": 2.5}, "argument --epochs: invalid int value: '2.5'"),
    ],
)
def test_wrong_parameters_are_sentences(trial_here, toy, tmp_path, command, parameters, words):
    base = {
        "test": f"test --checkpoint {toy}/run/supernet.safetensors --data {toy}/images",
        "train": f"train --space {toy}/space.yaml --data {toy}/images --output {tmp_path}/run",
    }[command]
    code, error, reports = trial_here(base, parameters)
    assert code == 2
    assert words in error
    assert "Traceback" not in error
    assert reports == []


def test_a_training_reports_its_subnets_and_keeps_to_a_folder_of_its_own(
    trial_here, toy, toy_command, tmp_path
):
    command = " ".join(toy_command(toy, tmp_path / "runs"))
    code, error, reports = trial_here(command, {"epochs": 2, "opt_betas": [0.9, 0.98], "seed": 3.0})
    assert code == 0, error
    assert [kind for kind, *_ in reports] == ["PERIODICAL", "PERIODICAL", "FINAL"]
    metric = reports[-1][2]
    assert metric == reports[-2][2]
    assert metric["default"] == pytest.approx(
        sum(metric[name] for name in ("smallest", "middle", "largest")) / 3
    )
    config = json.loads((tmp_path / "runs" / "abc" / "run.json").read_text())["config"]
    assert config["recipe"]["epochs"] == 2
    assert config["recipe"]["opt_betas"] == [0.9, 0.98]
    assert (tmp_path / "runs" / "abc" / "supernet.safetensors").is_file()
    assert list((tmp_path / "nni_output" / "tensorboard").glob("events.*"))
    assert not (tmp_path / "runs" / "abc" / "tensorboard").exists()

    # NNI was stopped before it knew of the end, and runs the trial again
    code, error, again = trial_here(command, {"epochs": 2, "opt_betas": [0.9, 0.98], "seed": 3.0})
    assert code == 0, error
    assert [kind for kind, *_ in again] == ["FINAL"]
    assert again[0][2] == pytest.approx(metric)


def test_a_search_reports_its_best_after_every_generation(trial_here, toy, tmp_path):
    command = f"search --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    command += f" --num-mutations 2 --num-crossovers 1 --output {tmp_path}/runs"
    code, error, reports = trial_here(command, {"population_size": 4, "generations": 3, "resume": False})
    assert code == 0, error
    assert [kind for kind, *_ in reports] == ["PERIODICAL"] * 3 + ["FINAL"]
    assert [entry[2]["candidates"] for entry in reports] == [4, 8, 12, 12]
    best = [entry[2]["default"] for entry in reports]
    assert best == sorted(best)
    assert set(reports[-1][2]) == {
        "default",
        "loss",
        "candidates",
        "params (M)",
        "macs (G)",
        "memory (MB)",
    }
    assert (tmp_path / "runs" / "abc" / "best.yaml").is_file()


def test_outside_of_nni_there_is_no_trial():
    from nni_autoformer.experiment import current_trial

    assert current_trial() is None


def test_an_evaluating_trial_loads_only_what_it_needs(trial, trial_here, toy, tmp_path):
    """The data set's and training's libraries stay unloaded once the images are decoded."""
    base = f"test --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    sample = {"embed_dim": 32, "depth": 1, "num_head_0": 2, "mlp_ratio_0": 2, "split": "selection"}
    assert trial_here(base, {**sample, "cache": str(tmp_path / "cache")})[0] == 0
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "names = ('timm', 'torchvision', 'pytorch_lightning', 'nni.nas', 'sklearn', 'matplotlib',\n"
        "         'sympy', 'triton', 'torch._dynamo')\n"
        "atexit.register(lambda: print('LOADED', [n for n in names if n in sys.modules], file=sys.stderr))\n"
    )
    process, reports = trial(base, {**sample, "cache": str(tmp_path / "cache")})
    assert process.returncode == 0 and reports[-1][0] == "FINAL"
    assert "LOADED []" in process.stderr

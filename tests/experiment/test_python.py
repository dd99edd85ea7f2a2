"""Experiments of the Python interface: NasExperiment on the training service, resumed, and HPO style."""

import json
import os
import re
import signal
import socket
import sys

import pytest

from nni_autoformer.cli import main

from .conftest import FLAGS, ask, rows, status, wait

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_killed_search_goes_on_and_equals_the_one_in_process(
    place, port, in_process, concurrency, monkeypatch, capsys
):
    command = ["nni-autoformer", "search", *FLAGS.split(), "--engine", "nni", "--port", str(port)]
    command += ["--concurrency", str(concurrency), "--output", "s"]
    process = place.start(*command)
    candidates = place.root / "s" / "candidates.jsonl"
    wait(lambda: candidates.is_file() and len(candidates.read_text().splitlines()) >= 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    result = place.run(*command, "--resume")
    assert rows(place.root / "s") == in_process
    assert "top-1 on the selection images" in result.stdout
    monkeypatch.chdir(place.root)
    assert main([*command[1:], "--resume"]) == 0
    assert "holds the finished search already" in capsys.readouterr().out


def test_ctrl_c_and_nnictl_stop_end_it_with_a_sentence(place, port, in_process):
    command = ["nni-autoformer", "search", *FLAGS.split(), "--engine", "nni", "--port", port, "--output", "s"]
    for stop in ("ctrl-c", "nnictl"):
        process = place.start(*command, *(["--resume"] if stop == "nnictl" else []))
        wait(lambda: any(trial["status"] == "RUNNING" for trial in ask(port, "/trial-jobs")))
        if stop == "ctrl-c":
            process.send_signal(signal.SIGINT)
        else:
            place.run("nnictl", "stop", "--all")
        assert process.wait(60) == 130
        said = (place.root / "output").read_text()
        assert "stopped. The same command with --resume goes on from here." in said
        assert "Traceback" not in said
    place.run(*command, "--resume")
    assert rows(place.root / "s") == in_process


def test_the_pages_stay_and_can_be_viewed_again(place, port, in_process):
    command = ["nni-autoformer", "search", *FLAGS.split(), "--engine", "nni", "--port", port, "--output", "s"]
    process = place.start(*command, "--keep-ui", "--concurrency", "2")
    wait(lambda: "The web UI stays at" in (place.root / "output").read_text())
    assert process.poll() is None and (place.root / "s" / "summary.txt").is_file()
    second = place.run(*command[:-1], "t", check=False)
    assert second.returncode == 2 and "another program listens on this port" in second.stderr
    trials = ask(port, "/trial-jobs")
    given = [json.loads(trial["hyperParameters"][0])["parameters"] for trial in trials]
    space = ask(port, "/experiment")["params"]["searchSpace"]
    assert all(set(parameters) == set(space) for parameters in given)
    assert all(value in space[name]["_value"] for entry in given for name, value in entry.items())
    measured = json.loads(json.loads(trials[0]["finalMetricData"][0]["data"]))
    known = {"default", "top5", "images", "loss", "images_checksum"}
    assert set(measured) == known | {"params (M)", "macs (G)", "memory (MB)"}
    assert ask(port, "/experiment")["params"]["tuner"]["name"] == "AutoFormer Evolution"
    assert rows(place.root / "s") == in_process
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    experiment = json.loads((place.root / "s" / "nni_experiment.json").read_text())["id"]
    place.run("nnictl", "view", experiment, "--port", port)
    assert wait(lambda: status(port)) == "VIEWED"
    assert len(ask(port, "/trial-jobs")) == len(in_process)
    place.run("nnictl", "stop", experiment)


def test_of_two_at_once_on_a_port_one_says_so(place, port):
    command = ["nni-autoformer", "search", *FLAGS.split(), "--engine", "nni", "--port", port, "--output"]
    processes = []
    for number in (0, 1):
        processes.append(place.start(*command, f"s{number}"))
        (place.root / "output").rename(place.root / f"output{number}")
    codes = sorted(process.wait(300) for process in processes)
    assert codes == [0, 2]
    said = [(place.root / f"output{number}").read_text() for number in (0, 1)]
    assert sum("another program listens on this port; give another one" in text for text in said) == 1
    assert not any(" at " in text and ".js" in text for text in said)


def test_when_all_trials_fail_the_search_says_why(place, port):
    """The checkpoint vanishes after the check: every trial finds nothing."""
    command = ["nni-autoformer", "search", *FLAGS.split(), "--engine", "nni", "--port", port]
    process = place.start(*command, "--output", "s", "--retries", "0", "--concurrency", "2")
    wait(lambda: (place.root / "s" / "nni").is_dir())
    (place.root / "runs" / "demo" / "supernet.safetensors").unlink()
    assert process.wait(120) == 2
    said = (place.root / "output").read_text()
    assert "candidates, 1 times each); the first one's error: " in said
    assert "there is no such checkpoint" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], "another program listens on this port"),
        (["--checkpoint", "nothere"], "there is no such checkpoint"),
        (["--space", "cifar"], "no subnet meets this limit"),
        (["--engine", "sequential", "--concurrency", "2"], "--concurrency needs --engine nni"),
        (["--concurrency", "0"], "--concurrency is 0"),
        (["--retries", "-1"], "--retries is -1"),
        (["--engine", "sequential", "--keep-ui"], "--keep-ui needs --engine nni"),
        (["--dataset", "folder", "--data", "nowhere"], "there is no such folder"),
    ],
)
def test_what_is_wrong_is_said_before_nni_starts(trained, port, tmp_path, capsys, change, words):
    command = ["search", *FLAGS.replace("runs/demo", str(trained)).split(), "--engine", "nni"]
    command += ["--port", str(port), "--output", str(tmp_path / "s"), *change]
    with socket.socket() as server:
        if not change:  # the port is taken
            server.bind(("localhost", port))
            server.listen()
        assert main(command) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert not (tmp_path / "s").exists()


def test_the_example_with_nnis_classes(place, port):
    script = [sys.executable, "examples/nni_search.py", "--port", port, "--population-size", "2"]
    result = place.run(*script)
    assert re.search(r"embed_dim \d+, depth \d+.*: [\d.]+ % on the selection images", result.stdout)
    assert "as NNI knows it: {'embed_dim'" in result.stdout


def test_the_example_hpo_style(place, port):
    script = [
        sys.executable,
        "examples/hpo_search.py",
        "--port",
        port,
        "--trials",
        "3",
        "--tuner",
        "Evolution",
    ]
    assert re.search(r"best: [\d.]+ %, 0\.\d+ M parameters", place.run(*script).stdout)


OWN = """
import sys
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.strategy import Random, RegularizedEvolution
from nni_autoformer import AutoFormer, TrialEvaluator

def main():
    evaluator = TrialEvaluator("runs/demo/supernet.safetensors", "digits")
    strategy = {"Random": Random, "Evolution": lambda: RegularizedEvolution(population_size=2, sample_size=2)}
    config = NasExperimentConfig("ts", "simplified", "local")
    config.max_trial_number, config.trial_concurrency = 3, 2
    experiment = NasExperiment(AutoFormer("digits"), evaluator, strategy[sys.argv[1]](), config)
    experiment.run(int(sys.argv[2]))
    print("RESULT", len(list(experiment.strategy.list_models())), experiment.export_top_models()[0].metric)
    experiment.stop()

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("strategy", ["Random", "Evolution"])
def test_nnis_own_strategies_with_our_evaluator(place, port, strategy):
    (place.root / "own.py").write_text(OWN)
    result = place.run(sys.executable, "own.py", strategy, port)
    count, metric = re.search(r"RESULT (\d+) ([\d.]+)", result.stdout).groups()
    assert int(count) >= 3 and 0 <= float(metric) <= 100


def test_status_of_a_port_without_an_experiment(port):
    with pytest.raises(OSError):
        status(port)

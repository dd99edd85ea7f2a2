"""Experiments that nnictl starts: the search, its interruptions and its failures."""

import json
import signal

import psutil
import pytest

from .conftest import SEARCH, ask, processes_of, rows, status, wait

pytestmark = pytest.mark.slow


def done(port):
    return status(port) == "DONE"


def finished_trials(port):
    return [trial for trial in ask(port, "/trial-jobs") if trial["status"] == "SUCCEEDED"]


def test_create_view_stop_resume_kill_resume_export(place, port, in_process):
    experiment = place.create(place.config("nnictl_search", SEARCH), port)
    wait(lambda: len(finished_trials(port)) >= 2)
    place.run("nnictl", "stop", experiment)

    place.run("nnictl", "view", experiment, "--port", port)
    assert wait(lambda: status(port)) == "VIEWED"
    assert len(finished_trials(port)) >= 2
    place.run("nnictl", "stop", experiment)

    place.run("nnictl", "resume", experiment, "--port", port)
    wait(lambda: len(finished_trials(port)) >= 4)
    killed = processes_of(place)  # the manager, the tuner and the trials, all at once
    for process in killed:
        process.send_signal(signal.SIGKILL)
    wait(lambda: not any(psutil.pid_exists(process.pid) for process in killed))

    place.run("nnictl", "resume", experiment, "--port", port)
    wait(lambda: done(port))
    found = place.folder(experiment) / "search"
    assert rows(found) == in_process
    assert len(ask(port, "/trial-jobs")) == len(in_process)  # nothing was evaluated twice
    assert (found / "best.yaml").is_file()

    place.run("nnictl", "experiment", "export", experiment, "-t", "json", "-f", place.root / "export.json")
    exported = json.loads((place.root / "export.json").read_text())
    assert len(exported) == len(in_process)
    assert {"embed_dim", "depth", "num_head_0", "mlp_ratio_0"} <= set(exported[0]["parameter"])


FLAKY = """
d=$(dirname "$0")/started; mkdir -p "$d"
n=0; until mkdir "$d/$n" 2>/dev/null; do n=$((n + 1)); done
case $n in
  0) echo "a crash before it asks for its parameters" >&2; exit 3;;
  2) kill -9 $$;;
  3) exit 0;;
  5) exec nni-autoformer test --checkpoint nothere;;
esac
exec nni-autoformer test --split selection --checkpoint ../../runs/demo/supernet.safetensors --dataset digits
"""


def test_failing_trials_are_run_again(place, port, in_process):
    """A crash, a kill, an end without a result, an error: the search is the one without them.

    All four may happen to the same candidate.
    """
    changes = {**SEARCH, "nni-autoformer test": "bash flaky.sh"}
    changes["generations: 5"] = "generations: 2\n    retries: 4"
    config = place.config("nnictl_search", changes)
    (config.parent / "flaky.sh").write_text(FLAKY)
    experiment = place.create(config, port)
    wait(lambda: done(port))
    assert rows(place.folder(experiment) / "search") == in_process
    assert len(ask(port, "/trial-jobs")) == len(in_process) + 4


def test_when_all_trials_fail_the_experiment_ends_with_their_error(place, port):
    changes = {**SEARCH, "--dataset digits": "--dataset digits --batch-size 0"}
    changes["generations: 5"] = "generations: 2\n    retries: 0"
    experiment = place.create(place.config("nnictl_search", changes), port)
    wait(lambda: status(port) == "ERROR")
    log = (place.folder(experiment) / "log" / "dispatcher.log").read_text()
    assert "every trial has failed (3 candidates, 1 times each); the first one's error: " in log
    assert "--batch-size is 0; it should be at least 1, or 'auto'." in log


def test_by_a_registered_name_and_with_nnis_own_tuner(place, port):
    place.run("nnictl", "algo", "register", "--meta", "examples/nnictl_search/meta.yml")
    ours = "  codeDirectory: .\n  className: nni_autoformer.search.tuner.EvolutionTuner\n"
    config = place.config(
        "nnictl_search", {**SEARCH, ours: "  name: AutoFormer\n", "generations: 5": "generations: 1"}
    )
    place.run("nni-autoformer", "launch", config, "--port", port)
    wait(lambda: done(port))
    assert len(finished_trials(port)) == 3
    place.run("nnictl", "stop", "--all")
    wait(lambda: not processes_of(place))

    text = config.read_text()
    text = (
        text[: text.index("tuner:")]
        + "maxTrialNumber: 2\ntuner: {name: Random}\ntrainingService: {platform: local}\n"
    )
    config.write_text(text)
    place.create(config, port)
    wait(lambda: done(port))
    assert len(finished_trials(port)) == 2


def test_supernets_with_their_curves(place, port):
    changes = {
        "_value: [1.0e-3, 3.0e-3]": "_value: [3.0e-3]",
        "--epochs 20": "--epochs 2",
        "--val-interval 2 ": "",
    }
    place.create(place.config("nnictl_supernet", {**changes, "maxTrialNumber: 4": "maxTrialNumber: 2"}), port)
    wait(lambda: done(port))
    for trial in finished_trials(port):
        metrics = ask(port, f"/metric-data/{trial['trialJobId']}")
        assert [metric["type"] for metric in metrics] == ["PERIODICAL", "PERIODICAL", "FINAL"]
        curve = [json.loads(json.loads(metric["data"])) for metric in metrics]
        assert all(set(point) == {"default", "smallest", "middle", "largest"} for point in curve)
        assert (place.root / "runs" / "supernets" / trial["trialJobId"] / "supernet.safetensors").is_file()
        import requests

        address = f"http://localhost:{port}/api/v1/nni/tensorboard"
        task = requests.post(address, json={"trials": trial["trialJobId"]}, timeout=30).json()
        scalars = f"http://localhost:{task['port']}/data/plugin/scalars/tags"
        tags = wait(lambda url=scalars: requests.get(url, timeout=10).json())
        assert "val_acc_percent/largest" in next(iter(tags.values()))
        server = psutil.Process(task["pid"])  # or the shell that has started it
        for process in (*server.children(recursive=True), server):
            process.kill()


def test_a_stopped_supernet_trial_goes_on_with_its_folder(place, port):
    """One that starts from another supernet."""
    changes = {
        "--space digits": "--from ../../runs/demo/supernet.safetensors",
        "_value: [1.0e-3, 3.0e-3]": "_value: [3.0e-3]",
        "_value: [uniform, balanced]": "_value: [uniform]",
        "--epochs 20": "--epochs 4",
        "--val-interval 2 ": "",
        "maxTrialNumber: 4": "maxTrialNumber: 1",
    }
    experiment = place.create(place.config("nnictl_supernet", changes), port)
    runs = place.root / "runs" / "supernets"
    state = wait(lambda: next(runs.glob("*/training.ckpt"), None))
    place.run("nnictl", "stop", experiment)
    wait(lambda: not processes_of(place))
    epochs = len((state.parent / "metrics.csv").read_text().splitlines()) - 1
    assert 1 <= epochs < 4
    place.run("nnictl", "resume", experiment, "--port", port)
    wait(lambda: done(port))
    assert [entry["trialJobId"] for entry in finished_trials(port)] == [state.parent.name]
    run = json.loads((state.parent / "run.json").read_text())
    assert run["status"] == "finished" and len(run["sessions"]) == 2
    assert run["config"]["from"].endswith("runs/demo/supernet.safetensors")
    told = [row.split(",")[0] for row in (state.parent / "metrics.csv").read_text().splitlines()[1:]]
    assert told == ["1", "2", "3", "4"]
    metrics = ask(port, f"/metric-data/{state.parent.name}")
    assert [metric["type"] for metric in metrics].count("FINAL") == 1
    numbers = [metric["sequence"] for metric in metrics if metric["type"] == "PERIODICAL"]
    assert numbers == list(range(len(numbers))) and len(numbers) >= 4  # one curve


def test_launch_says_what_goes_wrong_after_the_start(place, port):
    """Something that no check sees: the tuner's folder cannot be made."""
    (place.root / "file").write_text("")
    changes = {**SEARCH, "max_params: 0.25": "max_params: 0.25\n    output: ../../file/below"}
    config = place.config("nnictl_search", changes)
    place.impatient(20)  # below the launch's own patience
    result = place.run("nni-autoformer", "launch", config, "--port", port, check=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "cannot be made: Not a directory" in result.stderr

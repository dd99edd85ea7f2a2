"""What reaches an experiment over its manager's port is values; each correction is still needed."""

import json
import os
import subprocess
from pathlib import Path

import nni_node
import pytest
import requests
from nni.nas.experiment import NasExperiment
from nni.nas.strategy import Random
from nni.runtime.msg_dispatcher import MsgDispatcher
from nni.runtime.tuner_command_channel import TunerCommandChannel

from nni_autoformer.experiment import exposure, fixes
from nni_autoformer.experiment.values import load_values

from .conftest import ask, processes_of, wait
from .test_fixes import Socket, experiment, javascript

fixes.apply()


def code(folder):
    """A message that makes NNI's own `load` create a folder."""
    return json.dumps({"parameters": {"__symbol__": "path:os.makedirs", "__args__": [str(folder)]}})


def test_nnis_own_reading_of_json_runs_what_it_names(tmp_path):
    """The corrections below are still needed."""
    import nni

    nni.load(code(tmp_path / "made"))
    assert (tmp_path / "made").is_dir()


class Tells:
    def __init__(self):
        self.told = []

    def trial_end(self, number, success):
        self.told.append(("end", number, success))

    def receive_trial_result(self, number, parameters, value, **_):
        self.told.append(("result", value))

    def import_data(self, data):
        self.told += [("import", entry["value"]) for entry in data]


def test_messages_to_a_tuner_are_values(tmp_path):
    dispatcher = MsgDispatcher("ws://_unittest_", Tells())
    text = json.dumps({"parameter_id": 3, **json.loads(code(tmp_path / "made"))})
    dispatcher.handle_trial_end({"trial_job_id": "a", "event": "SUCCEEDED", "hyper_params": text})
    dispatcher.handle_import_data([{"parameter": {}, "value": code(tmp_path / "made")}])
    dispatcher.tuner.receive_trial_result(3, {}, 1.0)
    assert [kind for kind, *_ in dispatcher.tuner.told] == ["end", "import", "result"]
    assert not (tmp_path / "made").exists()


def test_messages_to_a_strategy_are_values(tmp_path):
    text = json.dumps({"parameter_id": 3, **json.loads(code(tmp_path / "made"))})
    end = {"trial_job_id": "a", "event": "SUCCEEDED", "hyper_params": text}
    metric = {"parameter_id": 3, "trial_job_id": "a", "type": "FINAL", "sequence": 0}
    metric |= {"value": json.dumps({"default": 1.5, "by": json.loads(code(tmp_path / "made"))})}
    channel = TunerCommandChannel("ws://localhost/tuner")
    channel._channel = Socket(
        {"type": "EN", "content": json.dumps(end)}, {"type": "ME", "content": json.dumps(metric)}
    )
    assert channel.receive().parameter_ids == [3]
    assert channel.receive().value["default"] == 1.5
    assert not (tmp_path / "made").exists()


def test_what_arrives_at_the_socket_is_values(tmp_path, monkeypatch):
    from nni.runtime.command_channel.websocket import connection

    socket = connection.WsConnection("ws://localhost:9")
    socket._ws = type("Ws", (), {"recv": lambda self: None})()
    monkeypatch.setattr(connection, "_wait", lambda _: code(tmp_path / "made"))
    assert "__symbol__" in socket.receive()["parameters"]
    assert not (tmp_path / "made").exists()


class Http:
    def __init__(self, text):
        self.text = text

    def send(self, message):
        assert message == {"type": "request_parameter"}

    def receive(self):
        return {"type": "parameter", "parameter": self.text}


def test_a_trials_parameters_are_values(tmp_path):
    from nni.runtime.trial_command_channel.v3 import TrialCommandChannelV3

    exposure.parameters_read_by(load_values)
    channel = TrialCommandChannelV3("http://localhost:9")
    channel._channel = Http(code(tmp_path / "made"))
    assert "__symbol__" in channel.receive_parameter()["parameters"]
    assert not (tmp_path / "made").exists()
    TrialCommandChannelV3.receive_parameter.__wrapped__(channel)
    assert (tmp_path / "made").is_dir()  # still needed


def test_a_trial_whose_parameters_name_code_is_refused(tmp_path, monkeypatch):
    from nni.runtime.trial_command_channel import set_default_trial_command_channel
    from nni.runtime.trial_command_channel.v3 import TrialCommandChannelV3

    from nni_autoformer.errors import ConfigError
    from nni_autoformer.experiment.trial import Trial

    monkeypatch.setenv("NNI_TRIAL_JOB_ID", "a")
    channel = TrialCommandChannelV3("http://localhost:9")
    set_default_trial_command_channel(channel)
    try:
        for text in (code(tmp_path / "made"), json.dumps({"parameters": {"depth": [{"__nni_obj__": ""}]}})):
            channel._channel = Http(text)
            with pytest.raises(
                ConfigError, match=r"parameters hold '__(symbol|nni_obj)__', which names code"
            ):
                Trial()
        channel._channel = Http(json.dumps({"parameter_id": 2, "parameters": {"depth": 3}}))
        assert Trial().parameters == {"depth": 3}
    finally:
        set_default_trial_command_channel()
    assert not (tmp_path / "made").exists()


def test_a_nas_experiment_leaves_out_trials_that_were_added_by_hand(toy, tmp_path, monkeypatch):
    from nni.experiment import rest

    record = {"parameter_id": 1, "parameter_source": "algorithm", "parameters": {}, "parameter_index": 0}
    trials = [
        {
            "trialJobId": source,
            "status": "RUNNING",
            "startTime": 0,
            "sequenceId": 0,
            "hyperParameters": [json.dumps({**record, "parameter_source": source})],
        }
        for source in ("algorithm", "resumed", "customized")
    ]
    monkeypatch.setattr(rest, "get", lambda *_: trials)
    run = experiment(toy, tmp_path, Random())
    run.port = 9
    assert [trial.trialJobId for trial in run.list_trial_jobs()] == ["algorithm", "resumed"]
    assert len(NasExperiment.list_trial_jobs.__wrapped__(run)) == 3  # still needed


def test_a_model_that_somebody_has_added_is_not_read(tmp_path):
    from nni_autoformer.errors import ConfigError
    from nni_autoformer.experiment.model_trial import load_model

    record = {**json.loads(code(tmp_path / "made")), "parameter_source": "algorithm"}
    for added in ({"parameter_id": None}, {"parameter_id": None, "parameter_source": "resumed"}):
        with pytest.raises(ConfigError, match="trials cannot be added by hand"):
            load_model(json.dumps({**record, **added}))
    with pytest.raises(ConfigError, match="trials cannot be added by hand"):
        load_model(json.dumps({**record, "parameter_id": 1, "parameter_source": "customized"}))
    assert not (tmp_path / "made").exists()
    assert load_model(json.dumps({**record, "parameter_id": 0}))["parameter_id"] == 0
    assert (tmp_path / "made").is_dir()
    manager = javascript("core/nnimanager.js")
    assert "parameter_id: null,\n            parameter_source: 'customized'," in manager
    assert "parameter_source: 'resumed'," in manager


SERVER = """
const server = require('http').createServer();
server.listen(PORT, () => {
    console.log(JSON.stringify([server.address().address, process.env.NODE_OPTIONS ?? null]));
    server.close();
});
"""


@pytest.mark.parametrize("listens", ["0", "0, '0.0.0.0'"])
@pytest.mark.parametrize("own", [None, "--no-warnings"])
def test_the_manager_listens_on_one_address(monkeypatch, listens, own):
    """Without starting NNI: its node, with what `listen_on` puts into the manager's environment."""
    from nni.experiment import launcher

    if own is None:
        monkeypatch.delenv("NODE_OPTIONS", raising=False)
    else:
        monkeypatch.setenv("NODE_OPTIONS", own)
    node = Path(nni_node.__path__[0]) / "node"

    def answer(*_):
        code = SERVER.replace("PORT", listens)
        return json.loads(subprocess.run([node, "-e", code], capture_output=True, check=True).stdout)

    monkeypatch.setattr(launcher, "_start_rest_server", answer)
    exposure.listen_on(exposure.LOOPBACK)
    assert launcher._start_rest_server() == ["127.0.0.1", own]
    assert os.environ.get("NODE_OPTIONS") == own and "NNI_AUTOFORMER_HOST" not in os.environ
    exposure.listen_on(exposure.EVERYWHERE)
    assert launcher._start_rest_server()[0] in ("::", "0.0.0.0")
    assert "app.listen(this.port);" in javascript("rest_server/index.js")  # still needed
    assert "'--bind_all --logdir_spec'" in javascript("extensions/nniTensorboardManager.js")


def test_tensorboard_is_not_shown_to_all(tmp_path, monkeypatch):
    from nni.experiment import launcher

    program = tmp_path / "tensorboard"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    code = (
        "require('child_process').spawn('tensorboard', ['--bind_all --logdir_spec=x', '--port=1'], "
        "{shell: true, stdio: 'inherit'});"
    )
    node = Path(nni_node.__path__[0]) / "node"
    monkeypatch.setattr(
        launcher,
        "_start_rest_server",
        lambda *_: subprocess.run([node, "-e", code], capture_output=True, check=True, text=True).stdout,
    )
    exposure.listen_on(exposure.LOOPBACK)
    assert launcher._start_rest_server() == "--logdir_spec=x --port=1\n"
    exposure.listen_on(exposure.EVERYWHERE)
    assert launcher._start_rest_server() == "--bind_all --logdir_spec=x --port=1\n"
    assert "['tensorboard', `${logdirCmd}=" in javascript("extensions/nniTensorboardManager.js")


def test_which_address(tmp_path):
    from nni.experiment.config import ExperimentConfig

    from nni_autoformer.errors import ConfigError
    from nni_autoformer.jobs.launching import address_for
    from nni_autoformer.jobs.search_supernet import Engine

    assert Engine().host == "127.0.0.1"
    for wrong in (lambda: Engine(host="10.0.0.1"), lambda: exposure.listen_on("10.0.0.1")):
        with pytest.raises(ConfigError, match=r"--host is 10\.0\.0\.1; it should be one of"):
            wrong()
    assert address_for(ExperimentConfig("local")) == "127.0.0.1"
    assert address_for(ExperimentConfig("remote")) == "0.0.0.0"
    assert address_for(ExperimentConfig(["local", "remote"])) == "0.0.0.0"


def listening(place):
    """The addresses that a place's managers listen on."""
    found = set()
    for process in processes_of(place):
        if "nni_node" in " ".join(process.cmdline()):
            found |= {entry.laddr.ip for entry in process.net_connections() if entry.status == "LISTEN"}
    return found


@pytest.mark.slow
def test_a_search_on_nni_listens_on_loopback_and_runs_no_trial_that_is_added(place, port):
    flags = "search --checkpoint runs/demo/supernet.safetensors --dataset digits --output runs/s --device cpu"
    flags += f" --population-size 2 --num-mutations 1 --num-crossovers 0 --generations 2 --port {port}"
    process = place.start("nni-autoformer", *flags.split(), "--engine", "nni")
    wait(lambda: ask(port, "/trial-jobs"))
    assert listening(place) == {"127.0.0.1"}
    made = place.root / "made"
    added = {"__symbol__": "path:os.makedirs", "__args__": [str(made)]}
    requests.post(f"http://localhost:{port}/api/v1/nni/trial-jobs", json=added, timeout=20).raise_for_status()
    assert process.wait(300) == 0, (place.root / "output").read_text()
    assert len((place.root / "runs/s/candidates.jsonl").read_text().splitlines()) == 4
    assert not made.exists()


@pytest.mark.slow
def test_a_launched_experiment_listens_on_loopback_and_runs_no_code_that_is_posted(place, port):
    changes = {"size: 10": "size: 3", "mutations: 5": "mutations: 1", "crossovers: 5": "crossovers: 1"}
    config = place.config("nnictl_search", {**changes, "generations: 5": "generations: 1"})
    place.run("nni-autoformer", "launch", config, "--port", port)
    assert listening(place) == {"127.0.0.1"}
    made = place.root / "made"
    added = {"embed_dim": 64, "depth": {"__symbol__": "path:os.makedirs", "__args__": [str(made)]}}
    address = f"http://localhost:{port}/api/v1/nni/trial-jobs"
    requests.post(address, json=added, timeout=20).raise_for_status()

    def ended():
        trials = ask(port, "/trial-jobs")
        return len(trials) == 4 and all(t["status"] in ("SUCCEEDED", "FAILED") for t in trials) and trials

    trials = wait(ended)
    assert sorted(trial["status"] for trial in trials) == ["FAILED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]
    failed = next(trial["trialJobId"] for trial in trials if trial["status"] == "FAILED")
    assert (
        "'__symbol__', which names code"
        in requests.get(f"http://localhost:{port}/api/v1/nni/trial-file/{failed}/stderr", timeout=20).text
    )
    assert not made.exists()
    place.run("nnictl", "stop", "--all", "--port", port, check=False)

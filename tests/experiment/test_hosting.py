"""The list of experiments in the user's home, and the port: each correction is still needed, and does what it
says.
"""

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest
from nni.experiment import RunMode, launcher
from nni.experiment.config import ExperimentConfig
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment
from nni.nas.strategy import Random
from nni.tools.nnictl.common_utils import SimplePreemptiveLock
from nni.tools.nnictl.config_utils import Experiments

from nni_autoformer import AutoFormer, SearchSpace
from nni_autoformer.cli import main
from nni_autoformer.errors import ConfigError
from nni_autoformer.experiment import fixes, hosting, run_trials
from nni_autoformer.experiment.preflight import require_room
from nni_autoformer.experiment.shown_trials import is_resumable

from .test_fixes import constant, experiment

fixes.apply()


@pytest.fixture
def home():
    """A folder that others may look into and not write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def not_allowed(home):
    """The right to write there is gone, root's too."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    else:
        home.chmod(0o555)
    yield
    os.seteuid(before)


def test_a_home_that_may_not_be_written_is_a_sentence(home, not_allowed):
    with pytest.raises(
        ConfigError, match=r"cannot be written, and NNI keeps its list .* \(Permission denied\)"
    ):
        Experiments(str(home))
    lock = SimplePreemptiveLock(str(home / ".experiment.lock"), stale=2)
    SimplePreemptiveLock._acquire.__wrapped__(lock)  # says nothing, and is called again for ever
    assert not list(home.iterdir())


def test_a_list_that_may_not_be_written_is_a_sentence(home):
    (home / ".experiment").mkdir()
    with pytest.raises(ConfigError, match=r"\.experiment cannot be written, and NNI keeps its list"):
        hosting.require_writable(home)


def test_a_lock_that_another_process_has_is_waited_for(home):
    other = home / ".experiment.lock.1"
    other.write_text("")
    lock = SimplePreemptiveLock(str(home / ".experiment.lock"), stale=2)
    assert lock._acquire() is None and not lock.is_locked
    other.unlink()
    with lock:
        assert lock.is_locked
    assert not list(home.iterdir())


def test_a_run_in_this_process_leaves_the_list_alone(toy, tmp_path):
    before = Experiments().get_all_experiments()
    run = experiment(toy, tmp_path, Random())
    run.run()
    run.stop()
    again = experiment(toy, tmp_path, Random(), run.id)
    assert again.has_checkpoint()
    assert Experiments().get_all_experiments() == before
    NasExperiment._start_without_nni_manager.__wrapped__(run)
    found = Experiments().get_all_experiments()[run.id]
    assert (found["status"], found["port"]) == ("RUNNING", "N/A")  # still needed
    Experiments().remove_experiment(run.id)


def test_training_and_search_leave_the_list_alone(toy, tmp_path):
    before = Experiments().get_all_experiments()
    command = f"search --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    command += " --population-size 2 --num-parents 2 --num-mutations 0 --num-crossovers 0 --generations 1"
    assert main([*command.split(), "--output", str(tmp_path / "s")]) == 0
    folders = [toy / "run" / "nni", tmp_path / "s" / "nni"]
    names = {entry.name for folder in folders for entry in folder.iterdir()}
    assert names and not names & set(before)
    assert Experiments().get_all_experiments() == before


def test_a_server_that_does_not_get_its_port_is_a_sentence(tmp_path, port):
    config = ExperimentConfig("local")
    config.experiment_working_directory, config.log_level = str(tmp_path), "info"
    (tmp_path / "abc" / "log").mkdir(parents=True)
    words = launcher.NniManagerArgs("create", "abc", config, port, False, False, None, None)
    with socket.socket() as other:  # it listens after the port was found idle
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        launcher._ensure_port_idle(port)
        other.bind(("0.0.0.0", port))
        other.listen()
        with pytest.raises(ConfigError, match=f"--port {port}: another program listens on this port"):
            launcher._start_rest_server(words, RunMode.Background)
        with pytest.raises(ConfigError, match=f"--port {port}: another program listens on this port"):
            launcher._ensure_port_idle(port)
        with pytest.raises(RuntimeError, match="is not idle"):
            launcher._ensure_port_idle.__wrapped__(port)  # still needed
    assert "EADDRINUSE" in (tmp_path / "abc" / "log" / "nnictl_stderr.log").read_text()


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 2 MiB with a file that leaves no room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root and the right to mount")
    (folder / "file").write_bytes(bytes(2**21 - 2**14))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_a_sentence_before_nni_starts(full_disk, toy, port):
    space, strategy = SearchSpace.load(toy / "space.yaml"), Random()
    with pytest.raises(ConfigError, match=r"the disk is full \(0\.0 MiB are free\), and NNI's data base"):
        run_trials(AutoFormer(space), FunctionalEvaluator(constant), strategy, full_disk / "run", port=port)
    (full_disk / "file").unlink()
    require_room(full_disk / "run")


TABLES = ("TrialJobEvent", "MetricData", "ExperimentProfile")


def test_an_experiment_is_resumed_only_from_a_whole_data_base(tmp_path):
    place = tmp_path / "abc"
    file = place / "db" / "nni.sqlite"
    assert not is_resumable(tmp_path, "abc")
    for folder in ("db", "checkpoint"):
        (place / folder).mkdir(parents=True)
    (place / "checkpoint" / "config.json").write_text("{}")
    for content in (b"", b"SQLite format 3\0", bytes(5000)):
        file.write_bytes(content)
        assert not is_resumable(tmp_path, "abc")
    file.unlink()
    with sqlite3.connect(file) as base:
        for name in TABLES:
            assert not is_resumable(tmp_path, "abc")
            base.execute(f"create table {name} (id text, data text)")
            base.commit()
        assert not is_resumable(tmp_path, "abc")  # no configuration
        base.execute("insert into ExperimentProfile values ('abc', '{}')")
        base.commit()
        assert is_resumable(tmp_path, "abc")
        base.executemany("insert into MetricData values (?, ?)", [("x", "y" * 500)] * 100)
        base.commit()
    base.close()
    assert is_resumable(tmp_path, "abc") and not is_resumable(tmp_path, "abd")
    (place / "checkpoint" / "config.json").write_text("")
    assert not is_resumable(tmp_path, "abc")
    (place / "checkpoint" / "config.json").write_text("{}")
    content = bytearray(file.read_bytes())
    content[4096:8192] = bytes([255] * 4096)
    file.write_bytes(content)
    assert not is_resumable(tmp_path, "abc")

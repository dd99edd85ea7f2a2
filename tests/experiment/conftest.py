"""Real experiments: a home, a port and a supernet of their own, and nothing left behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent


PATIENCE = """
const before = global.setTimeout;
const patient = (action, delay, ...rest) => before(action, delay === 10000 ? SECONDS * 1000 : delay, ...rest);
global.setTimeout = Object.assign(patient, before);
"""
"""For NNI's manager, which gives a tuner ten seconds to connect: too few on a busy machine."""


class Place:
    """A folder with `examples/` and a supernet of the digits in `runs/demo`, and commands run in it."""

    def __init__(self, root):
        self.root = root
        self.home = root / "home"
        self.home.mkdir()
        self.impatient(120)
        self.environment = os.environ | {
            "HOME": str(self.home),
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": "",
            "NODE_OPTIONS": f"--require {root}/patience.js",
        }

    def impatient(self, seconds):
        """How long NNI's manager waits for a tuner that does not come."""
        (self.root / "patience.js").write_text(PATIENCE.replace("SECONDS", str(seconds)))

    def run(self, *words, check=True, timeout=300):
        """A command to its end."""
        result = subprocess.run(
            [str(word) for word in words],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def start(self, *words):
        """A command in a process group of its own."""
        with open(self.root / "output", "w") as output:
            return subprocess.Popen(
                [str(word) for word in words],
                cwd=self.root,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # a test run in the background of a shell ignores Ctrl-C, and so would what it starts
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def config(self, name, changes):
        """An example's configuration with other values, in a folder beside it."""
        folder = self.root / "examples" / f"{name}_changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.root / "examples" / name, folder)
        text = (folder / "config.yml").read_text()
        for before, after in changes.items():
            assert before in text, before
            text = text.replace(before, after)
        (folder / "config.yml").write_text(text)
        return folder / "config.yml"

    def create(self, config, port):
        """`nnictl create`; the experiment's name."""
        self.run("nnictl", "create", "--config", config, "--port", port)
        return self.latest()

    def latest(self):
        """The name of the experiment that was started last."""
        return os.readlink(self.home / "nni-experiments" / "_latest")

    def folder(self, experiment):
        """The experiment's folder."""
        return self.home / "nni-experiments" / experiment


def ask(port, path):
    """NNI's manager over its web interface."""
    from nni_autoformer.experiment.manager import Manager

    return Manager(f"http://localhost:{port}").get(path)


def wait(condition, timeout=300, every=0.1):
    """Wait until something holds; what it gave."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
        except OSError:
            pass
        time.sleep(every)
    raise AssertionError("it has not happened in time")


def status(port):
    return ask(port, "/check-status")["status"]


def rows(folder):
    """All candidates of a search, by number."""
    lines = (folder / "candidates.jsonl").read_text().splitlines()
    found = sorted((json.loads(line) for line in lines), key=lambda row: row["number"])
    keys = ("accuracy", "top5", "loss")
    return [(row["number"], json.dumps(row["architecture"]), *(row[key] for key in keys)) for row in found]


def processes_of(place):
    """Everything that runs below a place's home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == str(place.home):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A supernet of the digits, trained for two epochs."""
    from nni_autoformer.cli import main

    folder = tmp_path_factory.mktemp("digits") / "demo"
    command = f"train --space digits --dataset digits --output {folder} --epochs 2 --batch-size 32 --lr 3e-3"
    assert main([*command.split(), "--selection", "24-per-class", "--device", "cpu", "--drop-path", "0"]) == 0
    return folder


@pytest.fixture
def place(tmp_path, trained):
    """The place; afterwards no process of it may be left."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copytree(trained, tmp_path / "runs" / "demo")
    place = Place(tmp_path)
    yield place
    if processes_of(place):
        place.run("nnictl", "stop", "--all", check=False)
    deadline = time.monotonic() + 60
    while (left := processes_of(place)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        process.send_signal(signal.SIGKILL)
    assert left == []


@pytest.fixture
def port():
    """A free port with a free one after it."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("localhost", 0))
            number = one.getsockname()[1]
            try:
                two.bind(("localhost", number + 1))
            except OSError:
                continue
            return number


SEARCH = {
    "population_size: 10": "population_size: 3",
    "num_mutations: 5": "num_mutations: 1",
    "num_crossovers: 5": "num_crossovers: 1",
    "generations: 5": "generations: 2",
}
"""Six candidates in place of fifty: three random ones, a mutation, a crossover, and a random one."""

FLAGS = "--checkpoint runs/demo/supernet.safetensors --dataset digits --max-params 0.25 --population-size 3"
FLAGS += " --num-mutations 1 --num-crossovers 1 --num-parents 3 --generations 2"


@pytest.fixture(scope="session")
def in_process(trained, tmp_path_factory):
    """The candidates of the same search in one process."""
    from nni_autoformer.cli import main

    output = tmp_path_factory.mktemp("reference") / "search"
    flags = FLAGS.replace("runs/demo", str(trained)).split()
    assert main(["search", *flags, "--output", str(output)]) == 0
    return rows(output)

"""``nni-autoformer launch``: check the configuration of an NNI experiment, then start it as nnictl does.

nnictl starts whatever it is given, reports success, and leaves a wrong class name, a missing checkpoint or a
search space that differs from the checkpoint's to a log file.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..experiment.manager import Manager
from ..experiment.preflight import require_home, require_port
from ..space import SearchSpace

PATIENCE = 30.0
"""Seconds for the tuner to answer; NNI itself gives up after ten."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("launch", help="check and start an NNI experiment", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="an experiment's config.yml")
    parser.add_argument("--port", type=int, default=8080, help="of the web UI (default 8080)")
    parser.add_argument("--check-only", action="store_true", help="check, and do not start")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    require_home()
    require_port(arguments.port)
    config = read_config(arguments.config)
    check(config)
    if arguments.check_only:
        print(f"{arguments.config}: nothing wrong was found.")
        return
    start(config, arguments.port)


def read_config(path: Path) -> Any:
    """NNI's own reading of a configuration, its complaints as sentences.

    Raises:
        ConfigError: the file is missing, or NNI finds something wrong.
    """
    from nni.experiment.config import ExperimentConfig, utils

    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file.")
    try:
        return ExperimentConfig.load(path).canonical_copy()
    except Exception as error:  # whatever NNI's checks raise: AssertionError without a text among them
        utils.unset_base_path()  # which NNI does not do after an error
        raise ConfigError(f"{path}: NNI does not accept it ({type(error).__name__}: {error}).") from None


def check(config: Any) -> None:
    """Check what NNI leaves to a log file: the tuner's class and arguments, and the trial command.

    Raises:
        ConfigError: something is wrong.
    """
    folder = Path(config.trial_code_directory)
    if config.tuner is not None:
        _check_tuner(config.tuner, config.search_space, folder)
    words = shlex.split(config.trial_command.splitlines()[0]) if config.trial_command else []
    if words and Path(words[0]).name == "nni-autoformer":
        with _inside(folder):
            _check_command(words[1:], config.search_space)


def _check_tuner(tuner: Any, search_space: Any, folder: Path) -> None:
    from ..search.tuner import EvolutionTuner, evolution_of

    arguments = dict(tuner.class_args or {})
    if tuner.name is not None:
        from nni.tools.package_utils.tuner_factory import _get_all_builtin_names, create_validator_instance

        if tuner.name.lower() not in _get_all_builtin_names("tuners"):
            raise ConfigError(f"tuner: NNI has no tuner of the name '{tuner.name}'.")
        validator = create_validator_instance("tuners", tuner.name)
        if validator is not None and tuner.name.lower() != "autoformer":
            try:
                validator.validate_class_args(**arguments)
            except Exception as error:  # each of NNI's validators has its own
                raise ConfigError(f"tuner: '{tuner.name}' refuses its classArgs: {error}") from None
        ours = tuner.name.lower() == "autoformer"
    else:
        ours = _class_of(tuner) is EvolutionTuner
    if ours:
        settings = {name: value for name, value in arguments.items() if name not in ("output", "retries")}
        evolution = evolution_of(base=folder, **settings)
        _check_space(search_space, evolution.space)


def _class_of(tuner: Any) -> type:
    sys.path.insert(0, str(tuner.code_directory))
    try:
        module, name = tuner.class_name.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"tuner: there is no class '{tuner.class_name}' ({error}).") from None
    finally:
        sys.path.pop(0)


def _check_space(search_space: Any, space: SearchSpace) -> None:
    wanted = space.to_nni()
    for label in {**wanted, **search_space}:
        mine, theirs = (entry.get(label, {}).get("_value") for entry in (wanted, search_space))
        if mine != theirs:
            raise ConfigError(
                f"the experiment's search space has {theirs} for '{label}', and the space '{space.name}' of "
                f"the checkpoint {mine}; nni-autoformer space --format nnictl writes the file."
            )


def _check_command(words: list[str], search_space: Any) -> None:
    from . import build_parser
    from .overrides import LABEL, OF_ONE_SUBNET

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments = build_parser().parse_args(words)
    except SystemExit:
        raise ConfigError(f"trialCommand: {said.getvalue().strip().splitlines()[-1]}") from None
    data = getattr(arguments, "data", None)
    if data is not None and not Path(data).is_dir():
        raise ConfigError(f"trialCommand: --data {data}: there is no such folder.")
    if getattr(arguments, "checkpoint", None) is not None:
        from ..checkpoints import read_header

        space = None if arguments.space is None else SearchSpace.load(arguments.space)
        header = read_header(arguments.checkpoint, space)
        space = header.space
    elif getattr(arguments, "space", None) is not None:
        space = SearchSpace.load(arguments.space)
    else:
        return
    labels = {label: entry for label, entry in (search_space or {}).items() if LABEL.fullmatch(label)}
    if labels and arguments.command in OF_ONE_SUBNET:
        _check_space(labels, space)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def start(config: Any, port: int) -> None:
    """Start an experiment that goes on when this command ends, and wait until its tuner answers.

    Raises:
        ConfigError: NNI has started and then failed.
    """
    from nni.experiment import Experiment, RunMode

    from ..experiment.quiet import quieten_libraries

    quieten_libraries()
    experiment = Experiment(config)
    folder = Path(config.experiment_working_directory) / experiment.id
    experiment.start(port, run_mode=RunMode.Detach)
    manager = Manager(f"http://localhost:{port}")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = manager.get("/check-status")
        if status["status"] == "ERROR":
            experiment.stop()
            raise ConfigError(f"the experiment failed: {_reason(folder) or status.get('errors')}")
        if manager.get("/trial-jobs"):
            break
        time.sleep(0.5)
    else:
        print(f"No trial has started in {PATIENCE:.0f} seconds; what NNI does stands in {folder / 'log'}.")
    print(f"Experiment {experiment.id}: http://localhost:{port}")
    print(f"Stop it with: nnictl stop {experiment.id}")


def _reason(folder: Path) -> str:
    """The last line of the tuner's log, which is the error that ended it."""
    try:
        lines = (folder / "log" / "dispatcher.log").read_text().splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")

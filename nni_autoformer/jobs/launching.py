"""The configuration of an NNI experiment: read, checked, started as nnictl does.

nnictl starts whatever it is given, reports success, and leaves a wrong class name, a missing checkpoint or a
search space that differs from the checkpoint's to a log file.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ..config import shown
from ..errors import ConfigError
from ..experiment import hosting
from ..experiment.exposure import EVERYWHERE, LOOPBACK, listen_on
from ..experiment.manager import Manager
from ..experiment.quiet import quieten_libraries
from ..files import read_yaml
from ..search.generational import GenerationalSearch
from ..space import SearchSpace
from .shell_command import command_words

_logger = logging.getLogger("nni_autoformer")

PATIENCE = 30.0
"""Seconds for the tuner to answer; NNI itself gives up after ten."""


def read_config(path: Path) -> Any:
    """NNI's own reading of a configuration, its complaints as sentences.

    Raises:
        ConfigError: the file is missing, or NNI finds something wrong.
    """
    from nni.experiment.config import ExperimentConfig, utils

    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file.")
    read_yaml(path)  # within bounds, which NNI's own reading has not
    try:
        return ExperimentConfig.load(path).canonical_copy()
    except Exception as error:  # whatever NNI's checks raise: AssertionError without a text among them
        utils.unset_base_path()  # which NNI does not do after an error
        raise ConfigError(f"{path}: NNI does not accept it ({type(error).__name__}: {error}).") from None


@dataclass(frozen=True)
class Trials:
    """What an experiment says of its trials besides their command.

    Attributes:
        search_space: parameters, as NNI has them.
        checkpoint: the supernet that the tuner searches, if the tuner is this package's and names one.
        local: whether they run on this machine.
    """

    search_space: Any
    checkpoint: Path | None
    local: bool


def check(config: Any, check_command: Callable[[list[str], Trials], None]) -> None:
    """Check what NNI leaves to a log file: the tuner's class and arguments, the number of trials, and the
    trial command.

    Args:
        config: configuration as `read_config` gives it.
        check_command: checks the words of a trial command of this package, behind the program's name.

    Raises:
        ConfigError: something is wrong.
    """
    folder = Path(config.trial_code_directory)
    searcher, checkpoint = None, None
    if config.tuner is not None:
        searcher, checkpoint = _check_tuner(config.tuner, config.search_space, folder)
    if searcher is not None:
        _check_number_of_trials(config.max_trial_number, searcher)
    _check_gpus(config)
    words = command_words(config.trial_command or "", folder, is_local(config))
    if words is None:
        _logger.warning(
            "trialCommand: '%s' is no command of nni-autoformer alone, so what it does was not checked.",
            shown(config.trial_command),
        )
        return
    _check_mode(config.tuner)
    if not is_local(config):
        _logger.warning(
            "trialCommand: the trials run on other machines, so the files that they read there were not "
            "checked."
        )
    with _inside(folder):
        check_command(words, Trials(config.search_space, checkpoint, is_local(config)))


def is_local(config: Any) -> bool:
    """Whether all trials of an experiment run on this machine."""
    services = config.training_service
    services = services if isinstance(services, list) else [services]
    return all(service.platform == "local" for service in services)


def _check_number_of_trials(most: int | None, searcher: GenerationalSearch[Any]) -> None:
    if most is None:
        return
    population, planned = searcher.config.population_size, searcher.planned
    if most < population:
        raise ConfigError(
            f"maxTrialNumber is {most}, and the tuner's population_size {population}: the experiment would "
            "end before its first generation has; leave maxTrialNumber out, the tuner ends the experiment "
            "itself."
        )
    if most < planned:
        _logger.warning(
            "maxTrialNumber is %d, and the search needs %d trials: it will end before its last generation.",
            *(most, planned),
        )


def _check_gpus(config: Any) -> None:
    if is_local(config) and config.trial_gpu_number and shutil.which("nvidia-smi") is None:
        raise ConfigError(
            f"trialGpuNumber is {config.trial_gpu_number}, and NNI finds no GPU on this machine (there is no "
            "nvidia-smi): the trials would wait for ever."
        )


def _check_mode(tuner: Any) -> None:
    """Check that a tuner of NNI looks for the highest accuracy; most look for the lowest unless told."""
    if (
        tuner is None
        or tuner.name is None
        or tuner.name.lower() not in ("tpe", "evolution", "anneal", "smac")
    ):
        return
    mode = (tuner.class_args or {}).get("optimize_mode")
    if mode == "minimize":
        raise ConfigError(
            "tuner: classArgs: optimize_mode is minimize; the trials report accuracies, so it should be "
            "maximize."
        )
    if mode is None and tuner.name.lower() == "tpe":
        _logger.warning(
            "tuner: TPE looks for the lowest accuracy unless told; give classArgs: {optimize_mode: maximize}."
        )


def _check_tuner(
    tuner: Any, search_space: Any, folder: Path
) -> tuple[GenerationalSearch[Any] | None, Path | None]:
    """Check a tuner; the search and the checkpoint that it is about, if it is this package's."""
    from ..search.tuner import searcher_of

    arguments = dict(tuner.class_args or {})
    ours = _is_ours(tuner) if tuner.name is None else _check_named(tuner, arguments)
    if not ours:
        return None, None
    settings = {name: value for name, value in arguments.items() if name not in ("output", "retries")}
    searcher = searcher_of(base=folder, **settings)
    assert isinstance(searcher, GenerationalSearch)
    require_same_space(search_space, searcher.space)
    output, checkpoint = arguments.get("output"), arguments.get("checkpoint")
    if isinstance(output, str) and (folder / output).is_dir() and any((folder / output).iterdir()):
        raise ConfigError(f"tuner: classArgs: output {output} is not empty; give another folder.")
    return searcher, None if checkpoint is None else folder / checkpoint


def _check_named(tuner: Any, arguments: dict[str, Any]) -> bool:
    """Check a tuner that is named; whether it is this package's."""
    from nni.tools.package_utils.tuner_factory import _get_all_builtin_names, create_validator_instance

    if tuner.name.lower() not in _get_all_builtin_names("tuners"):
        raise ConfigError(f"tuner: NNI has no tuner of the name '{tuner.name}'.")
    if tuner.name.lower() == "autoformer":
        return True
    validator = create_validator_instance("tuners", tuner.name)
    if validator is not None:
        try:
            validator.validate_class_args(**arguments)
        except Exception as error:  # each of NNI's validators has its own
            raise ConfigError(f"tuner: '{tuner.name}' refuses its classArgs: {error}") from None
    return False


def _is_ours(tuner: Any) -> bool:
    """Whether a tuner's class is this package's; that of others is looked for without running its module.

    Raises:
        ConfigError: there is no such class.
    """
    from ..search import tuner as room

    module, _, name = tuner.class_name.rpartition(".")
    if module == room.__name__ and hasattr(room, name):
        return getattr(room, name) is room.EvolutionTuner
    file = _file_of(module.split("."), [str(tuner.code_directory), *sys.path])
    if file is None or (file.suffix == ".py" and name not in _names_in(file)):
        raise ConfigError(f"tuner: there is no class '{tuner.class_name}'.")
    return False


def _file_of(parts: list[str], places: list[str]) -> Path | None:
    """The file of a module, found without importing the packages that it lies in."""
    for number, part in enumerate(parts):
        spec = PathFinder.find_spec(part, places)
        if spec is None or (spec.origin is None and number == len(parts) - 1):
            return None
        if number == len(parts) - 1:
            return Path(str(spec.origin))
        places = list(spec.submodule_search_locations or [])
    return None


def _names_in(file: Path) -> set[str]:
    """The names that a module defines or imports."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigError(f"tuner: {file} is no Python module ({error}).") from None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def require_same_space(search_space: Any, space: SearchSpace) -> None:
    """Check that an experiment's search space is that of a checkpoint.

    Raises:
        ConfigError: a label or its values differ.
    """
    wanted = space.to_nni()
    for label in {**wanted, **search_space}:
        mine, theirs = (entry.get(label, {}).get("_value") for entry in (wanted, search_space))
        if mine != theirs:
            raise ConfigError(
                f"the experiment's search space has {theirs} for '{label}', and the space '{space.name}' of "
                f"the checkpoint {mine}; nni-autoformer space --format nnictl writes the file."
            )


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def start(config: Any, port: int, host: str | None = None) -> str:
    """Start an experiment that goes on when this command ends, and wait until its tuner answers; its
    name.

    Args:
        config: configuration as `read_config` gives it.
        port: port of the web UI.
        host: address that NNI's server listens on, see `exposure.listen_on`; None for this machine alone,
            unless trials run on others, which have to reach it.

    Raises:
        ConfigError: NNI has started and then failed.
    """
    from nni.experiment import Experiment, RunMode

    quieten_libraries()
    hosting.apply()
    listen_on(host or address_for(config))
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
        _logger.info(
            "No trial has started in %.0f seconds; what NNI does stands in %s.", PATIENCE, folder / "log"
        )
    return experiment.id


def address_for(config: Any) -> str:
    """The address that NNI's server has to listen on for the training services of an experiment."""
    return LOOPBACK if is_local(config) else EVERYWHERE


def _reason(folder: Path) -> str:
    """The last line of the tuner's log, which is the error that ended it."""
    try:
        lines = (folder / "log" / "dispatcher.log").read_text().splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")

"""Running NNI's NAS experiment as a function that returns or raises, and what has to hold before."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from nni.experiment import management
from nni.nas.evaluator import Evaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.space import BaseModelSpace
from nni.nas.strategy.base import Strategy

from ..errors import Terminated
from ..files import write_json
from . import exposure, fixes
from .model_trial import MODEL_FILE
from .preflight import ID_FILE, known_experiment, require_host, require_room
from .shown_trials import ShownTrials, is_resumable

_logger = logging.getLogger("nni_autoformer")

TRIAL = "nni_autoformer.experiment.model_trial"
"""What runs a trial; NNI's own entry stands behind it on the command line."""


def run_experiment(
    model_space: BaseModelSpace, evaluator: Evaluator, strategy: Strategy, folder: str | Path
) -> NasExperiment:
    """Run a NAS experiment in this process to its end.

    Args:
        model_space: a model space, or a trained supernet.
        evaluator: what a trial does.
        strategy: what the trials are.
        folder: folder of the run; NNI's logs and state go into `nni/` below it.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. NNI itself would return as if the experiment were complete, and
            Lightning would end the process with status 1.
    """
    fixes.apply()
    config = NasExperimentConfig.default(model_space, evaluator, strategy)
    config.experiment_working_directory = (Path(folder) / "nni").resolve()
    experiment = NasExperiment(model_space, evaluator, strategy, config)
    return _run(experiment, lambda: experiment.run())


def run_trials(
    model_space: BaseModelSpace,
    evaluator: Evaluator,
    strategy: Strategy,
    folder: str | Path,
    *,
    port: int = 8080,
    concurrency: int = 1,
    gpus: int = 0,
    name: str = "AutoFormer search",
    host: str = exposure.LOOPBACK,
    tuner: str = "AutoFormer",
    keep_ui: bool = False,
) -> NasExperiment:
    """Run a NAS experiment whose trials are processes, with NNI's web UI, to its end.

    An experiment that the folder holds already is resumed, with the trials that it had; where NNI's data base
    does not allow it, a new one goes on from the strategy's own state.

    Args:
        model_space: a model space; a trained supernet cannot be sent to another process.
        evaluator: what a trial does; importable and traced by NNI.
        strategy: what the trials are.
        folder: folder of the run; NNI's logs and state go into `nni/` below it.
        port: port of the web UI.
        concurrency: trials at a time.
        gpus: number of GPUs of this machine, among which the trials are shared out; 0 lets NNI take no
            account of them.
        name: name in the web UI.
        host: address that NNI's server listens on: `LOOPBACK` or `EVERYWHERE`, see `exposure.listen_on`.
        tuner: what the UI names as the tuner.
        keep_ui: leave NNI's server running, until `until_stopped` or the end of this process.

    Raises:
        ConfigError: the port is taken, NNI cannot write to the user's home, or the disk is full.
        KeyboardInterrupt: Ctrl-C was pressed, or somebody has stopped the experiment.
    """
    fixes.apply()
    exposure.listen_on(host)
    place, nni = Path(folder), (Path(folder) / "nni").resolve()
    require_host(place, port)
    require_room(place)
    config = _config(name, concurrency, gpus)
    config.experiment_working_directory = nni
    known = _known(place, nni)
    parts = model_space, evaluator, strategy, config
    program = f"{sys.executable} -m {TRIAL}"
    experiment: NasExperiment
    if known is not None and not (nni / MODEL_FILE).is_file():  # begun by a version without such a file
        config._trial_command_params = {"python": program}
        experiment = NasExperiment(*parts, id=known)
    else:
        config._trial_command_params = {"python": f"{program} {shlex.quote(str(nni / MODEL_FILE))}"}
        experiment = ShownTrials(*parts, tuner=tuner, id=known or management.generate_experiment_id())
        experiment.write_model(nni)
    write_json(place / ID_FILE, {"id": experiment.id})
    start = experiment.run if known is None else experiment.resume

    def until_terminated() -> bool | None:
        with terminable():
            return start(port)

    _run(experiment, until_terminated, keep=keep_ui)
    if not keep_ui:
        _logger.info("The pages of its trials again: nnictl view %s --port %d", experiment.id, port)
    return experiment


def _config(name: str, concurrency: int, gpus: int) -> NasExperimentConfig:
    config = NasExperimentConfig("ts", "simplified", "local")
    config.experiment_name = name
    config.trial_concurrency = concurrency
    if gpus:
        config.trial_gpu_number = 1
        config.training_service.use_active_gpu = True
        config.training_service.max_trial_number_per_gpu = -(-concurrency // gpus)
    return config


def _known(place: Path, nni: Path) -> str | None:
    """The name of the experiment that a folder holds, if NNI can go on with it."""
    if (identity := known_experiment(place)) is None or is_resumable(nni, identity):
        return identity
    _logger.warning(
        "NNI's data base of the experiment %s is not complete, as after a full disk: a new one goes on "
        "with the search, and its pages show the trials from here on.",
        identity,
    )
    return None


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn what Lightning makes of Ctrl-C back into it: it switches Ctrl-C off and raises `SystemExit`.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None


def until_stopped(experiment: NasExperiment) -> None:
    """Wait until Ctrl-C, SIGTERM or somebody else ends NNI's server of an experiment, and end the experiment;
    for one that `run_trials` has left running.
    """
    _logger.info("The web UI stays at http://localhost:%s until Ctrl-C.", experiment.port)
    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        while not ended.wait(1.0) and experiment._proc is not None and experiment._proc.poll() is None:
            pass
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        experiment.stop()


def _run(experiment: NasExperiment, start: Callable[[], bool | None], keep: bool = False) -> NasExperiment:
    try:
        with interruptible():
            completed = start()
    except BaseException as error:
        experiment.stop()
        if isinstance(error, requests.exceptions.RequestException):
            require_room(str(experiment.config.experiment_working_directory))
        if isinstance(error, requests.exceptions.ConnectionError):
            raise KeyboardInterrupt from None  # the manager is gone: nnictl stop, or a kill
        raise
    if not completed:  # NNI has caught the interrupt and stopped the experiment
        raise KeyboardInterrupt
    if not keep:
        experiment.stop()
    return experiment


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end an experiment as an exception does: what it knows is saved, and NNI's manager, in a
    process group of its own, does not outlive this process.

    Raises:
        Terminated: SIGTERM has come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_sigterm(*_: object) -> None:
        raise Terminated("asked to end; the same command with --resume goes on.")

    before = signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

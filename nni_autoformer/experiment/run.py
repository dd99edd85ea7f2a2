"""Running NNI's NAS experiment as a function that returns or raises, and what has to hold before."""

from __future__ import annotations

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
from .preflight import ID_FILE, known_experiment, require_host

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
) -> NasExperiment:
    """Run a NAS experiment whose trials are processes, with NNI's web UI, to its end.

    An experiment that the folder holds already is resumed, with the trials that it had.

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

    Raises:
        ConfigError: the port is taken, or NNI cannot write to the user's home.
        KeyboardInterrupt: Ctrl-C was pressed, or somebody has stopped the experiment.
    """
    fixes.apply()
    exposure.listen_on(host)
    place = Path(folder)
    require_host(place, port)
    known = known_experiment(place)
    config = NasExperimentConfig("ts", "simplified", "local")
    config.experiment_name = name
    config.trial_concurrency = concurrency
    config._trial_command_params = {"python": f"{sys.executable} -m {TRIAL}"}
    config.experiment_working_directory = (place / "nni").resolve()
    if gpus:
        config.trial_gpu_number = 1
        config.training_service.use_active_gpu = True
        config.training_service.max_trial_number_per_gpu = -(-concurrency // gpus)
    identity = known or management.generate_experiment_id()
    experiment = NasExperiment(model_space, evaluator, strategy, config, id=identity)
    resumable = known is not None and experiment.has_checkpoint()
    write_json(place / ID_FILE, {"id": identity})
    start = experiment.resume if resumable else experiment.run

    def until_terminated() -> bool | None:
        with _terminable():
            return start(port)

    return _run(experiment, until_terminated)


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


def _run(experiment: NasExperiment, start: Callable[[], bool | None]) -> NasExperiment:
    try:
        with interruptible():
            completed = start()
    except BaseException as error:
        experiment.stop()
        if isinstance(error, requests.exceptions.ConnectionError):
            raise KeyboardInterrupt from None  # the manager is gone: nnictl stop, or a kill
        raise
    if not completed:  # NNI has caught the interrupt and stopped the experiment
        raise KeyboardInterrupt
    experiment.stop()
    return experiment


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the experiment as an exception does: NNI's manager, in a process group of its own,
    would outlive this process.
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

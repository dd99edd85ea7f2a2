"""Every correction to NNI 3.0 that this package needs, each with the place that it corrects and what happens
without it; `tests/experiment/test_fixes.py` fails when one is no longer needed.

NNI's last release is of September 2023 and is not maintained any more. `apply` puts the corrections in place;
whatever in this package hands something to NNI calls it. Besides, a few things that NNI knows and has no
public way of asking for.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import exposure, hosting
from .values import load_values


@functools.cache
def apply() -> None:
    """Put the corrections of NNI's NAS part in place; doing it twice does nothing."""
    _state_files()
    _keep_state_after_failed_resume()
    _resumed_experiments()
    _current_parameter()
    exposure.values_from_the_manager()
    exposure.trials_added_by_hand()
    hosting.in_process_runs()
    hosting.apply()


def _state_files() -> None:
    """`nni/nas/utils/serializer.py`, `TorchSerializer.load` and `save`.

    Without it: torch 2.6 and newer load with `weights_only=True` unless told otherwise, so a `NasExperiment`
    cannot be resumed when its strategy's state holds more than plain values; and a kill while the file is
    written leaves half of it. Here the types that NNI's own strategies store are allowed, and nothing else:
    a state file with code in it is refused.
    """
    import torch
    from nni.nas.utils.serializer import TorchSerializer, _find_path_with_prefix

    from ..files import replacing

    original_save = TorchSerializer.save

    @functools.wraps(original_save)
    def save(self: Any, checkpoint: Any, path: Path) -> None:
        with replacing(f"{path}{self.suffix}") as temporary:
            torch.save(checkpoint, temporary)

    @functools.wraps(TorchSerializer.load)
    def load(self: Any, path: Path) -> Any:
        found = _find_path_with_prefix(path, self.suffix)
        with torch.serialization.safe_globals(_strategy_state_types()):
            return torch.load(str(found), map_location=self._map_location, weights_only=True)

    TorchSerializer.save = save
    TorchSerializer.load = load


def _strategy_state_types() -> list[Any]:
    import numpy as np
    from nni.mutable.mutable import LabeledMutable  # noqa: F401  (loads the types of labels)
    from nni.mutable.utils import label
    from nni.nas.strategy.evolution import Individual

    array = np.zeros(1, dtype=np.uint32)
    reconstruct = array.__reduce__()[0]
    return [Individual, label, frozenset, reconstruct, np.ndarray, np.dtype, type(array.dtype)]


def _keep_state_after_failed_resume() -> None:
    """`nni/nas/experiment/experiment.py`, `NasExperiment.save_checkpoint`.

    Without it: when a resume fails before the state is loaded, the `stop` that follows writes the state of
    the empty strategy over the saved one, and the search is lost.
    """
    from nni.nas.experiment import NasExperiment

    original_load, original_save = NasExperiment.load_checkpoint, NasExperiment.save_checkpoint

    @functools.wraps(original_load)
    def load_checkpoint(self: Any) -> None:
        original_load(self)
        self._state_loaded = self._engine is not None

    @functools.wraps(original_save)
    def save_checkpoint(self: Any) -> None:
        if self._action == "resume" and not getattr(self, "_state_loaded", False):
            return
        original_save(self)

    NasExperiment.load_checkpoint = load_checkpoint
    NasExperiment.save_checkpoint = save_checkpoint


def _resumed_experiments() -> None:
    """`nni/runtime/tuner_command_channel/channel.py`, `TunerCommandChannel.receive`.

    Without it: the commands by which NNI's manager tells a resumed experiment what it knows (`ImportData`,
    `AddCustomizedTrialJob`) end the thread that listens, with "Unknown command type", and the search waits
    for results for ever.
    """
    from nni.runtime.tuner_command_channel import channel, command_type

    kinds = command_type.CommandType
    ignored = {kinds.ImportData, kinds.AddCustomizedTrialJob, kinds.Ping}
    original = channel.TunerCommandChannel._receive

    @functools.wraps(original)
    def _receive(self: Any) -> Any:
        while (received := original(self))[0] in ignored:
            pass  # the strategy has its own memory, and asks for the trials that run again
        return received

    channel.TunerCommandChannel._receive = _receive


def _current_parameter() -> None:
    """`nni/nas/execution/sequential.py`, `SequentialExecutionEngine._run_single_model`.

    Without it: after a model has been run in this process, `nni.get_current_parameter()` still gives that
    model, and NNI's `Evaluator.mock_runtime` refuses to work.
    """
    import nni.trial
    from nni.nas.execution import SequentialExecutionEngine

    original = SequentialExecutionEngine._run_single_model

    @functools.wraps(original)
    def _run_single_model(self: Any, model: Any) -> None:
        before = nni.trial._params
        try:
            original(self, model)
        finally:
            nni.trial._params = before

    SequentialExecutionEngine._run_single_model = _run_single_model


def tell_tuner_of_resumed_trials() -> None:
    """`nni/runtime/msg_dispatcher.py`, `MsgDispatcher.handle_add_customized_trial` and `handle_trial_end`.

    Without it: after `nnictl resume` the manager runs the unfinished trials again by itself and does not say
    so to the tuner, which would propose the same candidates and evaluate them twice; and when such a trial
    fails, the tuner never hears of it and waits for ever. A tuner that has `resumed_trial(parameters)` and
    `resumed_trial_end(parameters, success)` is told of both.
    """
    from nni.runtime.msg_dispatcher import MsgDispatcher

    if getattr(MsgDispatcher, "_tells_of_resumed_trials", False):
        return
    original_add, original_end = MsgDispatcher.handle_add_customized_trial, MsgDispatcher.handle_trial_end

    @functools.wraps(original_add)
    def handle_add_customized_trial(self: Any, data: Any) -> None:
        original_add(self, data)
        if hasattr(self.tuner, "resumed_trial"):
            for parameters in self.recovered_trial_params.values():
                self.tuner.resumed_trial(parameters)

    @functools.wraps(original_end)
    def handle_trial_end(self: Any, data: Any) -> None:
        number = load_values(data["hyper_params"])["parameter_id"]
        if number in self.recovered_trial_params and hasattr(self.tuner, "resumed_trial_end"):
            success = data["event"] == "SUCCEEDED"
            self.tuner.resumed_trial_end(self.recovered_trial_params[number], success)
        original_end(self, data)

    MsgDispatcher.handle_add_customized_trial = handle_add_customized_trial
    MsgDispatcher.handle_trial_end = handle_trial_end
    MsgDispatcher._tells_of_resumed_trials = True


def own_record(record: dict[str, Any], load: Callable[[str], Any] = load_values) -> dict[str, Any]:
    """The parameter record that belongs to this trial, given the one that NNI has handed to it.

    `nni_node/training_service/v3/compat.js`, `onRequestParameter`.

    Without it: the manager keeps the parameters in a queue that knows nothing of trials, and a trial that
    dies before it has asked leaves its own to the next. From then on every trial evaluates another candidate
    than the one that it ends: the search takes each for failed and runs it again. The manager's data base
    knows which record is whose. Where a trial cannot reach it, on another machine, the record is kept.

    Args:
        record: mapping with 'parameter_id' and 'parameters'.
        load: reads a record's JSON.
    """
    import requests

    channel, separator, _ = os.environ.get("NNI_TRIAL_COMMAND_CHANNEL", "").partition("/env/")
    if not separator:
        return record
    address = f"{channel}/api/v1/nni/trial-jobs/{os.environ.get('NNI_TRIAL_JOB_ID')}"
    for _ in range(5):  # the manager starts a trial before it stores it
        try:
            answer = requests.get(address, timeout=5)
        except requests.exceptions.RequestException:
            return record
        if answer.ok and answer.json().get("hyperParameters"):
            own = load(answer.json()["hyperParameters"][0])
            return record if own["parameter_id"] == record.get("parameter_id") else own
        time.sleep(0.5)
    return record


def reports_before() -> int:
    """How many points of its curve a resumed trial has reported before it was stopped.

    `nni/trial.py` counts the points of a trial from 0, also when it is resumed.

    Without it: the web UI tells points apart by their number, and those of a resumed trial take the place of
    its earlier ones. 0 where the manager cannot be asked.
    """
    import requests

    channel, separator, _ = os.environ.get("NNI_TRIAL_COMMAND_CHANNEL", "").partition("/env/")
    if not separator:
        return 0
    address = f"{channel}/api/v1/nni/metric-data/{os.environ.get('NNI_TRIAL_JOB_ID')}"
    try:
        answer = requests.get(address, params={"type": "PERIODICAL"}, timeout=5)
    except requests.exceptions.RequestException:
        return 0
    return len(answer.json()) if answer.ok else 0


def tensorboard_folder(output: Path, trial: str) -> Path:
    """Where a trial writes for TensorBoard, so that the button in the web UI shows it.

    `nni_node/training_service/v3/compat.js`, `getTrialOutputLocalPath`.

    Without it: the button opens TensorBoard on `trials/TRIAL/output/tensorboard` in the experiment's folder,
    while a trial's output folder is `environments/ENVIRONMENT/trials/TRIAL`, so it shows nothing.

    Args:
        output: the trial's output folder.
        trial: name of the trial.
    """
    folder = output / "tensorboard"
    folder.mkdir(parents=True, exist_ok=True)
    if output.parent.name == "trials" and output.parents[2].name == "environments":
        expected = output.parents[3] / "trials" / trial / "output"
        expected.mkdir(parents=True, exist_ok=True)
        if not (expected / "tensorboard").exists():
            (expected / "tensorboard").symlink_to(folder, target_is_directory=True)
    return folder


# What NNI knows and has no public way of asking for


def earlier_trials(engine: Any) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """The trials of a resumed experiment that have a result, or that its manager runs again by itself:
    parameter number, sample, and the result or None.

    Args:
        engine: the strategy's; one that runs models in this process has none.
    """
    experiment = getattr(engine, "nodejs_binding", None)
    if experiment is None or experiment._action != "resume":
        return
    for trial in experiment.list_trial_jobs():
        if not trial.hyperParameters:
            continue
        record = trial.hyperParameters[0]
        sample = record.parameters.get("sample", record.parameters)  # of NNI's own trials, or of ours
        if trial.status == "SUCCEEDED" and trial.finalMetricData:
            yield record.parameter_id, sample, trial.finalMetricData[-1].data
        elif trial.status in ("WAITING", "RUNNING", "UNKNOWN"):
            yield record.parameter_id, sample, None


def adopt_trial(engine: Any, parameter_id: int, model: Any) -> None:
    """Let the events of a trial that an earlier process submitted go to a model of this one.

    `nni/nas/execution/training_service.py`: the engine knows only the models that it submitted itself.
    """
    import weakref

    engine._models[parameter_id] = weakref.ref(model)
    engine._workers -= 1


def count_model(engine: Any, model: Any, seconds: float = 0.0) -> None:
    """Let the engine of one process list a model, and take it off its budget, as if it had run it itself.

    `nni/nas/execution/sequential.py`: the engine counts only what its own `submit_models` runs.
    """
    engine._history.append(model)
    engine._model_count += 1
    engine._total_duration += seconds


def stop_orphaned_manager(experiment_id: str, patience: float = 20.0) -> None:
    """End the manager of an experiment whose Python process was killed.

    `nni/experiment/launcher.py`: the manager runs in a process group of its own. It outlives a kill of the
    process that started it, keeps the port, and writes to the same data base as a resumed one would.
    """
    import psutil
    from nni.tools.nnictl.config_utils import Experiments

    entry = Experiments().get_all_experiments().get(experiment_id)
    pid = entry and entry.get("pid")
    if not isinstance(pid, int) or not psutil.pid_exists(pid):
        return
    try:
        process = psutil.Process(pid)
        if experiment_id not in process.cmdline():
            return
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + patience
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.2)
    except psutil.NoSuchProcess:
        return

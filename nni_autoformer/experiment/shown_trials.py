"""An experiment of NNI's NAS part whose trials NNI's web UI and nnictl can show.

A `NasExperiment` sends each trial the whole model, as JSON that names its classes: the UI shows
"[object Object]" for the parameters and draws no line through the axes of the search space. Its
configuration, too, is one that `nnictl view` does not read. Here a trial gets its sample, plain values by
label, and finds the model space in a file of the experiment's folder; and NNI's data base gets an ordinary
configuration.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from nni.experiment import RunMode, launcher
from nni.experiment.config import ExperimentConfig
from nni.nas.execution import TrainingServiceExecutionEngine
from nni.nas.experiment import NasExperiment
from nni.nas.space import ExecutableModelSpace, ModelStatus, SimplifiedModelSpace

from ..files import replacing
from .model_trial import MODEL_FILE
from .values import load_values

OF_NAS = ("experimentType", "executionEngine", "modelFormat", "trialCommandParams")
"""Keys of a configuration that only the Python interface of NNI's NAS part reads."""


class ShownTrials(NasExperiment):
    """A `NasExperiment` on the training service with flat parameters.

    Args:
        arguments: as for `NasExperiment`.
        tuner: what the UI names as the tuner.
        named: further arguments, as for `NasExperiment`.
    """

    def __init__(self, *arguments: Any, tuner: str, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.tuner = tuner

    def write_model(self, folder: Path) -> None:
        """Leave the model space and the evaluator where the trials look for them."""
        import nni

        model = SimplifiedModelSpace.from_model(self.model_space, self.evaluator)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / MODEL_FILE) as temporary:
            Path(temporary).write_text(nni.dump(model), encoding="utf-8")

    def execution_engine_factory(self, config: Any) -> SampleEngine:
        """The engine that sends samples."""
        return SampleEngine(self)

    def shown_config(self) -> ExperimentConfig:
        """The configuration as NNI's data base gets it: that of an ordinary experiment."""
        config = self.config.canonical_copy()
        values = {name: value for name, value in config.json().items() if name not in OF_NAS}
        space = {str(name): entry.as_legacy_dict() for name, entry in self.model_space.simplify().items()}
        values |= {"searchSpace": space, "tuner": {"name": self.tuner}}
        return ExperimentConfig(**values)

    def _start_nni_manager(
        self,
        port: int,
        debug: bool,
        run_mode: RunMode = RunMode.Background,
        tuner_command_channel: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        self._tuner_command_channel = tuner_command_channel or f"ws://localhost:{port}/tuner"
        self._proc = launcher.start_experiment(
            self._action,
            self.id,
            self.shown_config(),
            port,
            debug,
            run_mode,
            self.url_prefix,
            self._tuner_command_channel,
            ["retiarii", *(tags or [])],
        )
        self.port = port


class SampleEngine(TrainingServiceExecutionEngine):
    """NNI's engine on the training service; a trial's parameters are the sample of its model."""

    def __init__(self, nodejs_binding: ShownTrials, fetch_intermediates: bool = True) -> None:
        super().__init__(nodejs_binding, fetch_intermediates)
        send = self._channel.send_trial

        def send_sample(parameter_id: int, parameters: Any, **rest: Any) -> None:
            # labels are a subclass of text, which NNI's JSON would write as objects
            sample = {str(label): value for label, value in (parameters.sample or {}).items()}
            send(parameter_id=parameter_id, parameters=sample, **rest)

        self._channel.send_trial = send_sample

    def list_models(self, status: ModelStatus | None = None) -> Iterable[ExecutableModelSpace]:
        """All models that were submitted, with the results that NNI's data base has."""
        self._check_running()
        for trial in self.nodejs_binding.list_trial_jobs():
            if len(trial.hyperParameters) != 1:
                continue
            record = trial.hyperParameters[0]
            model = self._find_reference_model(record.parameter_id) or self._earlier(trial, record)
            if status is None or model.status == status:
                yield model
        yield from (
            model for model in self._submitted_cache.values() if status is None or model.status == status
        )

    def _earlier(self, trial: Any, record: Any) -> ExecutableModelSpace:
        binding = self.nodejs_binding
        whole = SimplifiedModelSpace.from_model(binding.model_space, binding.evaluator)
        model = whole.freeze(record.parameters)
        model.status = self._interpret_trial_job_status(trial.status)
        if trial.finalMetricData:
            model.metrics.final = trial.finalMetricData[-1].data
        self._models[record.parameter_id] = weakref.ref(model)
        return model


def is_resumable(folder: Path, identity: str) -> bool:
    """Whether NNI's data base knows an experiment well enough to go on with it.

    `nni_node/core/sqlDatabase.js`, `init`, and `nnimanager.js`, `resumeExperiment`: an experiment that was
    started on a full disk leaves a data base without tables or without its configuration, because NNI does
    not look at the errors of making them; the manager answers every attempt to resume it with HTTP 500. And
    what NNI resumes a NAS experiment from is written in place, so a full disk leaves an empty file.

    Args:
        folder: folder of all of NNI's files of the run.
        identity: name of the experiment.
    """
    file, config = folder / identity / "db" / "nni.sqlite", folder / identity / "checkpoint" / "config.json"
    if not file.is_file():
        return False
    try:
        load_values(config.read_text(encoding="utf-8"))  # NNI writes it in place
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as base:
            tables = {name for (name,) in base.execute("select name from sqlite_master where type = 'table'")}
            if not {"TrialJobEvent", "MetricData", "ExperimentProfile"} <= tables:
                return False
            (sound,) = base.execute("pragma quick_check").fetchone()
            known = base.execute("select 1 from ExperimentProfile where id = ?", (identity,)).fetchone()
    except (OSError, ValueError, sqlite3.Error):
        return False
    return sound == "ok" and known is not None

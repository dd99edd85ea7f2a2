"""NNI's strategy around the evolution: it asks, NNI's engine runs the trials, their metrics are told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy.base import Strategy
from tqdm.auto import tqdm

from .evolution import Answer, Candidate, Evolution
from .folder import SearchFolder


class EvolutionStrategy(Strategy):
    """Evolutionary search under limits (paper section 3.4) as a strategy for `NasExperiment`.

    On a trained supernet, ``NasExperiment(supernet, SubnetEvaluator(images, mean, std),
    EvolutionStrategy(evolution))`` evaluates candidates with inherited weights, one after the other, in this
    process.

    Args:
        evolution: what is searched, under which limits, for how long.
        folder: where the state after every answer, all candidates and the best one go; None keeps them in
            memory. A search that the folder already holds goes on where it was.
        progress: show a progress bar.
    """

    def __init__(self, evolution: Evolution, folder: str | Path | None = None, progress: bool = True) -> None:
        super().__init__()
        self.evolution = evolution
        self.folder = None if folder is None else SearchFolder(folder, evolution)
        self._progress = progress
        self._running: dict[int, tuple[ExecutableModelSpace, Candidate]] = {}
        self._metrics: dict[int, Any] = {}
        self._bar: tqdm | None = None

    def extra_repr(self) -> str:
        """The limits, in NNI's logs."""
        return f"space={self.evolution.space.name}, limits={self.evolution.limits.to_dict()}"

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        if self.folder is not None:
            self.folder.resume()
        return model_space

    def _run(self) -> None:
        evolution = self.evolution
        with tqdm(
            total=evolution.planned, initial=evolution.told, desc="search", disable=not self._progress
        ) as self._bar:
            while (candidate := evolution.ask()) is not Answer.DONE:
                if isinstance(candidate, Candidate):
                    if not self.wait_for_resource():
                        break
                    self._submit(candidate)
                else:
                    time.sleep(0.05)
        if self.folder is not None:
            self.folder.write_best()

    def _submit(self, candidate: Candidate) -> None:
        sample = candidate.architecture.to_sample(self.evolution.space.max_depth)
        model = self.model_space.freeze(sample)
        self._running[id(model)] = (model, candidate)
        self.engine.submit_models(model)

    def _on_metric(self, event: FinalMetricEvent) -> None:
        self._metrics[id(event.model)] = event.metric

    def _on_end(self, event: TrainingEndEvent) -> None:
        _, candidate = self._running.pop(id(event.model), (None, None))
        metric = self._metrics.pop(id(event.model), None)
        if candidate is None or event.status != ModelStatus.Trained:
            return
        details = dict(metric) if isinstance(metric, dict) else {"default": metric}
        accuracy = float(details.pop("default"))
        self.evolution.tell(candidate.number, accuracy)
        if self.folder is not None:
            self.folder.record(candidate, accuracy, details)
        if self._bar is not None:
            self._bar.set_postfix(best=f"{self.evolution.best()[1]:.2f} %", refresh=False)
            self._bar.update()

    def _cleanup(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)

    def state_dict(self) -> dict[str, Any]:
        """What NNI stores of the strategy with its experiment."""
        return {"evolution": self.evolution.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what NNI stored."""
        self.evolution.load_state_dict(state_dict["evolution"])

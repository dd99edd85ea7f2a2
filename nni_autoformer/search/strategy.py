"""NNI's strategy around the evolution: it asks, NNI's engine runs the trials, their metrics are told."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from nni.nas.execution import ExecutionEngine, TrainingServiceExecutionEngine
from nni.nas.execution.event import (
    FinalMetricEvent,
    IntermediateMetricEvent,
    ModelEventType,
    TrainingEndEvent,
)
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy.base import Strategy
from tqdm.auto import tqdm

from ..architecture import Architecture
from ..errors import ConfigError
from ..experiment import fixes
from ..experiment.manager import Manager
from .driver import RETRIES, SearchDriver
from .evaluator import SubnetEvaluator, supernet_of
from .evolution import Answer, Candidate, Evolution
from .folder import SearchFolder
from .generation import Generations
from .racing import Racing

POLL = 0.05
"""Seconds between two looks at whether a trial has ended."""

LOOK = 2.0
"""Seconds between two looks at whether the experiment still runs."""


class EvolutionStrategy(Strategy):
    """Evolutionary search under limits (paper section 3.4) as a strategy for `NasExperiment`.

    On a trained supernet, ``NasExperiment(supernet, SubnetEvaluator(images, mean, std),
    EvolutionStrategy(evolution))`` evaluates candidates with inherited weights in this process, the images of
    a generation once for all of its candidates. On a model space, with a `TrialEvaluator`, NNI runs each as a
    trial in a process of its own and shows it in the web UI.

    Args:
        evolution: what is searched, under which limits, for how long.
        folder: where the state after every answer, all candidates and the best one go; None keeps them in
            memory. A search that the folder already holds goes on where it was.
        progress: show a progress bar.
        retries: how often a failing trial is run again before its candidate is given up.
        on_answer: called after every answer.
        racing: stop candidates that are out of the best before they have seen every image; needs a supernet
            and a `SubnetEvaluator`. None evaluates all on all images.
    """

    def __init__(
        self,
        evolution: Evolution,
        folder: str | Path | None = None,
        progress: bool = True,
        retries: int = RETRIES,
        on_answer: Callable[[Evolution], Any] | None = None,
        racing: Racing | None = None,
    ) -> None:
        super().__init__()
        fixes.apply()
        self.evolution = evolution
        self.driver = SearchDriver(evolution, folder, retries, on_answer)
        self.racing = racing
        self._progress = progress
        self._generations: Generations | None = None
        self._running: dict[int, tuple[ExecutableModelSpace, Candidate]] = {}
        self._ended: set[int] = set()  # models whose trial has ended well, before its result was there
        self._bar: tqdm | None = None

    @property
    def folder(self) -> SearchFolder | None:
        """What the search leaves on disk."""
        return self.driver.folder

    def extra_repr(self) -> str:
        """The limits, in NNI's logs."""
        return f"space={self.evolution.space.name}, limits={self.evolution.limits.to_dict()}"

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        engine.register_model_event_callback(ModelEventType.IntermediateMetric, self._on_progress)
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        self.driver.remember_proposals = isinstance(engine, TrainingServiceExecutionEngine)
        self.driver.resume()
        evaluator, supernet = model_space.evaluator, supernet_of(model_space)
        if isinstance(evaluator, SubnetEvaluator) and supernet is not None:
            self._generations = Generations(
                supernet,
                evaluator,
                self.evolution,
                None if self.folder is None else self.folder.folder,
                self.racing,
                self._progress,
            )
        elif self.racing is not None:
            raise ConfigError("racing: candidates can only race in one process, on a trained supernet.")
        return model_space

    def _run(self) -> None:
        evolution = self.evolution
        with tqdm(
            total=evolution.planned, initial=evolution.answered, desc="search", disable=not self._progress
        ) as self._bar:
            self._take_up_earlier_trials()
            looked = time.monotonic()
            while (step := self.driver.next()) is not Answer.DONE and not self.driver.hopeless:
                if isinstance(step, Candidate):
                    if not self._evaluate(step):
                        break
                    continue
                time.sleep(POLL)
                if time.monotonic() > looked + LOOK:  # NNI's manager may have been stopped
                    looked = time.monotonic()
                    if not self.engine.budget_available():
                        break
            if self.driver.hopeless:
                raise self.driver.hopeless_error(self._first_error())
        if self.folder is not None and evolution.told:
            self.folder.write_best()

    def _first_error(self) -> str:
        experiment = getattr(self.engine, "nodejs_binding", None)
        return "" if experiment is None else Manager(f"http://localhost:{experiment.port}").trial_error()

    def _evaluate(self, candidate: Candidate) -> bool:
        """Hand over a candidate, or the whole generation; False if NNI's budget is used up."""
        together = [candidate]
        if self._generations is not None:
            while isinstance(step := self.driver.next(), Candidate):
                together.append(step)
            evaluator = self._generations.evaluator
            evaluator.knows(self._generations.evaluate(together))
        # a generation's results are on the disk already, so writing the state once loses none
        with nullcontext() if self.folder is None or self._generations is None else self.folder.together():
            for candidate in together:
                if not self.wait_for_resource():
                    return False
                self._submit(candidate)
        return True

    def _submit(self, candidate: Candidate) -> None:
        model = self._model(candidate)
        self._running[id(model)] = (model, candidate)
        self.engine.submit_models(model)

    def _model(self, candidate: Candidate) -> ExecutableModelSpace:
        return self.model_space.freeze(candidate.architecture.to_sample(self.evolution.space.max_depth))

    def _take_up_earlier_trials(self) -> None:
        """After a resume: results that arrived while nobody listened, and trials that NNI runs again."""
        for number, sample, metric in fixes.earlier_trials(self.engine):
            candidate = self.driver.running(Architecture.from_sample(sample))
            if candidate is None:
                continue
            if metric is not None:
                self._answer(candidate, metric)
                continue
            model = self._model(candidate)
            self._running[id(model)] = (model, candidate)
            fixes.adopt_trial(self.engine, number, model)

    def _answer(self, candidate: Candidate, metric: Any) -> None:
        if self.driver.answer(candidate, metric) and self._bar is not None:
            self._bar.set_postfix(best=f"{self.evolution.best()[1]:.2f} %", refresh=False)
            self._bar.update()

    def _on_metric(self, event: FinalMetricEvent) -> None:
        _, candidate = self._running.get(id(event.model), (None, None))
        if candidate is None:
            return
        self._answer(candidate, event.metric)
        if id(event.model) in self._ended:
            self._forget(event.model)

    def _on_progress(self, event: IntermediateMetricEvent) -> None:
        _, candidate = self._running.get(id(event.model), (None, None))
        if candidate is None or not (isinstance(event.metric, dict) and event.metric.get("stopped")):
            return
        if self.driver.stopped(candidate, event.metric) and self._bar is not None:
            self._bar.update()

    def _on_end(self, event: TrainingEndEvent) -> None:
        # a result may still follow: NNI sends the two from different threads
        _, candidate = self._running.get(id(event.model), (None, None))
        if candidate is None:
            return
        success = event.status == ModelStatus.Trained
        self.driver.ended(candidate, success)
        if self.evolution.has_answer(candidate.number) or not success:
            self._forget(event.model)
        else:
            self._ended.add(id(event.model))

    def _forget(self, model: ExecutableModelSpace) -> None:
        self._running.pop(id(model), None)
        self._ended.discard(id(model))

    def _cleanup(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.unregister_model_event_callback(ModelEventType.IntermediateMetric, self._on_progress)
        self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)

    def state_dict(self) -> dict[str, Any]:
        """What NNI stores of the strategy with its experiment."""
        return {"evolution": self.evolution.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what NNI stored, unless the folder knows more."""
        stored = state_dict["evolution"]
        answered = sum(
            entry["accuracy"] is not None or entry["failed"] or entry.get("stopped", False)
            for entry in stored["candidates"]
        )
        if answered > self.evolution.answered:
            self.evolution.load_state_dict(stored)

"""NNI's strategy around a search algorithm: it asks, an engine runs what is submitted, its events answer."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from nni.nas.execution import (
    ExecutionEngine,
    SequentialExecutionEngine,
    TrainingServiceExecutionEngine,
)
from nni.nas.execution.event import FinalMetricEvent, ModelEvent, ModelEventType, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy.base import Strategy

from ..architecture import Architecture
from ..bars import TEN_MINUTES, Bar
from ..experiment import fixes
from ..experiment.manager import Manager
from ..model import AutoFormer
from .crew import Crew
from .digests import digest_of_images, digest_of_weights
from .driver import RETRIES, SearchDriver
from .engine import GenerationEngine
from .evaluator import SubnetEvaluator, supernet_of
from .folder import SearchFolder
from .generation import Generations
from .ledger import Candidate
from .searcher import Answer, Searcher

POLL = 0.05
"""Seconds between two looks at whether a trial has ended."""

LOOK = 2.0
"""Seconds between two looks at whether the experiment still runs."""


def _reported(callback: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Let an error in a thread of NNI's end the search: else it would end the thread, and the search would
    wait for ever.
    """

    @functools.wraps(callback)
    def wrapper(self: EvolutionStrategy, event: ModelEvent) -> None:
        try:
            callback(self, event)
        except Exception as error:
            if threading.get_ident() == self._thread:
                raise
            self._error = error

    return wrapper


class EvolutionStrategy(Strategy):
    """Evolutionary search under limits (paper section 3.4) as a strategy for `NasExperiment`.

    On a trained supernet, ``NasExperiment(supernet, SubnetEvaluator(images, mean, std),
    EvolutionStrategy(evolution))`` evaluates candidates with inherited weights in this process, the images of
    a generation once for all of its candidates, see `GenerationEngine`. On a model space, with a
    `TrialEvaluator`, NNI runs each as a trial in a process of its own and shows it in the web UI.

    Args:
        evolution: what proposes: an `Evolution`, or another search algorithm.
        folder: folder for the state after every answer, all candidates and the best one; None keeps them in
            memory. A search that the folder already holds goes on where it was.
        progress: show a progress bar.
        retries: how often a failing trial is run again before its candidate is given up.
        on_answer: called with the search algorithm after every answer.
        contents: digests of what candidates are evaluated with, see `SearchFolder`; where they are evaluated
            in this process, those of weights and images are taken of themselves.
        crew: the ranks that share the candidates of a generation, on a supernet with a `SubnetEvaluator`;
            None for this process alone.

    Attributes:
        evolution: the search algorithm.
    """

    def __init__(
        self,
        evolution: Searcher,
        folder: str | Path | None = None,
        progress: bool = True,
        retries: int = RETRIES,
        on_answer: Callable[[Any], Any] | None = None,
        contents: Mapping[str, str] | None = None,
        crew: Crew | None = None,
    ) -> None:
        super().__init__()
        fixes.apply()
        self.evolution = evolution
        self.driver = SearchDriver(evolution, folder, retries, on_answer, contents=contents)
        self.crew = crew
        self._progress = progress
        self._running: dict[int, tuple[ExecutableModelSpace, Candidate]] = {}
        self._ended: set[int] = set()  # models whose trial has ended well, before its result was there
        self._bar: Bar | None = None
        self._thread: int | None = None
        self._error: Exception | None = None

    @property
    def folder(self) -> SearchFolder | None:
        """What the search leaves on disk."""
        return self.driver.folder

    def extra_repr(self) -> str:
        """The limits, in NNI's logs."""
        return f"space={self.evolution.space.name}, limits={self.evolution.limits.to_dict()}"

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        self.driver.remember_proposals = isinstance(engine, TrainingServiceExecutionEngine)
        evaluator, supernet = model_space.evaluator, supernet_of(model_space)
        if (
            isinstance(evaluator, SubnetEvaluator)
            and supernet is not None
            and isinstance(engine, SequentialExecutionEngine)
        ):
            self._engine = engine = self._together(engine, supernet, evaluator)
        self.driver.resume()
        engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        return model_space

    def _together(
        self, engine: SequentialExecutionEngine, supernet: AutoFormer, evaluator: SubnetEvaluator
    ) -> GenerationEngine:
        """The engine that evaluates a generation together."""
        folder, contents = None, None
        if self.folder is not None:
            folder, contents = self.folder.folder, self.folder.contents
            contents["images"] = digest_of_images(evaluator.images)
            contents["supernet"] = digest_of_weights(supernet)
        generations = Generations(
            supernet, evaluator, self.evolution, folder, self._progress, contents, self.crew
        )
        return GenerationEngine(engine, generations)

    def _run(self) -> None:
        evolution, self._thread = self.evolution, threading.get_ident()
        with Bar(
            evolution.planned,
            "search",
            "candidates",
            initial=evolution.ledger.answered,
            shown=self._progress,
            interval=TEN_MINUTES,
        ) as self._bar:
            self._take_up_earlier_trials()
            looked = time.monotonic()
            while (step := self.driver.next()) is not Answer.DONE and not self.driver.hopeless:
                if self._error is not None:
                    raise self._error
                if isinstance(step, Candidate):
                    if not self._submit(step):
                        break
                    continue
                time.sleep(POLL)
                if time.monotonic() > looked + LOOK:  # NNI's manager may have been stopped
                    looked = time.monotonic()
                    if not self.engine.budget_available():
                        break
            if self.driver.hopeless:
                raise self.driver.hopeless_error(self._first_error())
        if self.folder is not None and evolution.ledger.told:
            self.folder.write_found()

    def _first_error(self) -> str:
        if isinstance(self.engine, GenerationEngine):
            return self.engine.error
        experiment = getattr(self.engine, "nodejs_binding", None)
        return "" if experiment is None else Manager(f"http://localhost:{experiment.port}").trial_error()

    def _submit(self, candidate: Candidate) -> bool:
        """Submit a candidate, or the whole generation; False if NNI's budget is used up."""
        if not self.wait_for_resource():
            return False
        if not isinstance(self.engine, GenerationEngine):
            self.engine.submit_models(self._model(candidate))
            return True
        candidates = [candidate]
        while isinstance(step := self.driver.next(), Candidate):
            candidates.append(step)
        models = [self._model(candidate) for candidate in candidates]
        # the engine keeps a generation's results on the disk, so writing the state once loses none
        with nullcontext() if self.folder is None else self.folder.together():
            self.engine.submit_models(*models)
        return True

    def _model(self, candidate: Candidate) -> ExecutableModelSpace:
        sample = candidate.architecture.to_sample(self.evolution.space.max_depth)
        model = self.model_space.freeze(sample)
        self._running[id(model)] = (model, candidate)
        return model

    def _take_up_earlier_trials(self) -> None:
        """After a resume: results that arrived while nobody listened, and trials that NNI runs again."""
        for number, sample, metric in fixes.earlier_trials(self.engine):
            candidate = self.driver.running(Architecture.from_sample(sample))
            if candidate is None:
                continue
            if metric is not None:
                self._answer(candidate, metric)
                continue
            fixes.adopt_trial(self.engine, number, self._model(candidate))

    def _answer(self, candidate: Candidate, metric: Any) -> None:
        bar, evolution = self._bar, self.evolution
        if not self.driver.answer(candidate, metric) or bar is None:
            return
        ledger, size = evolution.ledger, max(evolution.planned // evolution.generations, 1)
        bar.name = f"generation {candidate.generation + 1}/{evolution.generations}"
        if ledger.told:
            bar.note = f"best {ledger.best()[1]:.2f} %"
        bar.update(ledger.answered - bar.done)
        if ledger.answered % size == 0:
            bar.milestone()

    @_reported
    def _on_metric(self, event: FinalMetricEvent) -> None:
        _, candidate = self._running.get(id(event.model), (None, None))
        if candidate is None:
            return
        self._answer(candidate, event.metric)
        if id(event.model) in self._ended:
            self._forget(event.model)

    @_reported
    def _on_end(self, event: TrainingEndEvent) -> None:
        _, candidate = self._running.get(id(event.model), (None, None))
        if candidate is None:
            return
        if event.status is not ModelStatus.Interrupted:  # then the candidate stays as it is: without answer
            self.driver.ended(candidate, event.status == ModelStatus.Trained)
        # a result may still follow: NNI sends the two from different threads
        answered = self.evolution.ledger[candidate.number].status.answered
        if event.status == ModelStatus.Trained and not answered:
            self._ended.add(id(event.model))
        else:
            self._forget(event.model)

    def _forget(self, model: ExecutableModelSpace) -> None:
        self._running.pop(id(model), None)
        self._ended.discard(id(model))

    def list_models(self, sort: bool = True, limit: int | None = None) -> Iterator[ExecutableModelSpace]:
        """All models that were evaluated, best first, as the search ranks them: NNI compares accuracies
        alone.

        Args:
            sort: False for all models in the engine's order.
            limit: how many.
        """
        models = list(super().list_models(sort=sort))
        if sort:
            ranks = {c.architecture: place for place, (c, _) in enumerate(self.evolution.ledger.ranking())}
            models.sort(key=lambda model: ranks.get(Architecture.from_sample(model.sample or {}), len(ranks)))
        yield from models[:limit]

    def _cleanup(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)

    def state_dict(self) -> dict[str, Any]:
        """What NNI stores of the strategy with its experiment."""
        return {"evolution": self.evolution.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what NNI stored, unless the folder knows more."""
        stored = state_dict["evolution"]
        answered = sum(entry["accuracy"] is not None or entry["failed"] for entry in stored["candidates"])
        if answered > self.evolution.ledger.answered:
            self.evolution.load_state_dict(stored)

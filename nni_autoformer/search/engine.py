"""NNI's execution engine for candidates with inherited weights: it evaluates what is submitted together, and
answers with NNI's ordinary events.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict

from nni.nas.execution import Middleware, SequentialExecutionEngine
from nni.nas.execution.event import (
    FinalMetricEvent,
    ModelEvent,
    ModelEventType,
    TrainingEndEvent,
)
from nni.nas.space import ExecutableModelSpace, ModelStatus

from ..architecture import Architecture
from ..experiment import fixes
from .generation import Generations, Verdict

_logger = logging.getLogger("nni.autoformer")


class GenerationEngine(Middleware):
    """Wraps NNI's engine for one process, and runs models in its place: all that one call submits are
    evaluated together, see `Generations`, where NNI would run one after the other.

    Listeners, the list of models and the budget stay those of the wrapped engine, so an experiment sees no
    difference.

    Args:
        engine: NNI's engine.
        generations: evaluates.

    Attributes:
        error: why the first model failed that has; empty if none has.
    """

    def __init__(self, engine: SequentialExecutionEngine, generations: Generations) -> None:
        super().__init__(engine)
        self.generations = generations
        self.error = ""

    def submit_models(self, *models: ExecutableModelSpace) -> None:
        """Evaluate models, and answer for each in their order, as long as the budget lasts.

        Raises:
            ConfigError: the device has too little memory.
            RuntimeError: a model is not frozen, or has been run already.
        """
        for model in models:
            if not model.status.frozen() or model.status.completed():
                raise RuntimeError(f"A model must be frozen before it is submitted, but this is {model}.")
            model.status = ModelStatus.Training
        began = time.monotonic()
        try:
            verdicts = self.generations.evaluate([Architecture.from_sample(m.sample) for m in models])
        except BaseException as error:
            self._abandon(models, error)
            return
        share = (time.monotonic() - began) / len(models)
        for model, verdict in zip(models, verdicts):
            if not self.budget_available():
                return
            fixes.count_model(self.engine, model, share)
            self._answer(model, verdict)

    def _answer(self, model: ExecutableModelSpace, verdict: Verdict) -> None:
        if verdict.accuracy is None:
            self._note(verdict.error)
            self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Failed))
            return
        metric = {"default": verdict.accuracy.top1, **asdict(verdict.accuracy)}
        self.dispatch_model_event(FinalMetricEvent(model, metric))
        self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))

    def _note(self, error: str) -> None:
        _logger.error("A model has failed: %s", error)
        self.error = self.error or error

    def _abandon(self, models: Iterable[ExecutableModelSpace], error: BaseException) -> None:
        """Tell the end of all models, and raise the error unless NNI's configuration says to survive it."""
        survives = isinstance(error, Exception) and self.engine.continue_on_failure
        for model in models:
            fixes.count_model(self.engine, model)
            # an error that ends the search says nothing about its candidates
            status = ModelStatus.Failed if survives else ModelStatus.Interrupted
            self.dispatch_model_event(TrainingEndEvent(model, status))
        if not survives:
            raise error
        _logger.error("The models have failed.", exc_info=error)
        self.error = self.error or f"{type(error).__name__}: {error}"

    # What NNI's engine does

    def register_model_event_callback(
        self, event_type: ModelEventType, callback: Callable[..., None]
    ) -> None:
        """Listen to the wrapped engine."""
        self.engine.register_model_event_callback(event_type, callback)

    def unregister_model_event_callback(
        self, event_type: ModelEventType, callback: Callable[..., None]
    ) -> None:
        """Stop listening to the wrapped engine."""
        self.engine.unregister_model_event_callback(event_type, callback)

    def dispatch_model_event(self, event: ModelEvent) -> None:  # type: ignore[override]
        """Tell all who listen to the wrapped engine."""
        self.engine.dispatch_model_event(event)

    def list_models(self, status: ModelStatus | None = None) -> Iterable[ExecutableModelSpace]:
        """All models that were run."""
        return self.engine.list_models(status)

    def idle_worker_available(self) -> bool:
        """Always True: a call returns when its models have been run."""
        return self.engine.idle_worker_available()

    def budget_available(self) -> bool:
        """Whether the experiment may run more models, and for longer."""
        return self.engine.budget_available()

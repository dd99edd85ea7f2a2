"""The engine for one process: it answers what was submitted with NNI's ordinary events, in order."""

import threading

import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import ExecutionEngine, SequentialExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.space import ModelStatus, RawFormatModelSpace, SimplifiedModelSpace

from nni_autoformer import (
    AutoFormer,
    ConfigError,
    Evolution,
    EvolutionConfig,
    EvolutionStrategy,
    SearchSpace,
    SubnetEvaluator,
)
from nni_autoformer.experiment import run_experiment
from nni_autoformer.search.accuracy import Accuracy
from nni_autoformer.search.engine import GenerationEngine
from nni_autoformer.search.folder import SearchFolder
from nni_autoformer.search.generation import Generations, Verdict
from nni_autoformer.search.ledger import Status

SPACE = SearchSpace.load("digits")
CONFIG = EvolutionConfig(10, 3, 5, 3, 3, seed=2)


class Judge:
    """In place of `Generations`: verdicts in turn, and who was judged together."""

    def __init__(self, *verdicts):
        self.verdicts, self.together = list(verdicts), []

    def evaluate(self, architectures):
        self.together.append(architectures)
        found = [self.verdicts.pop(0) for _ in architectures]
        if any(isinstance(verdict, BaseException) for verdict in found):
            raise found[0]
        return found


def done(top1):
    return Verdict(Accuracy(top1, 100.0, 10, 0.5))


def models(supernet, count):
    evolution = Evolution(SPACE, config=CONFIG)
    space = RawFormatModelSpace(supernet, None)
    return [space.freeze(evolution.ask().architecture.to_sample(SPACE.max_depth)) for _ in range(count)]


def listening(base):
    heard = []
    for kind in ("final_metric", "training_end"):
        base.register_model_event_callback(kind, heard.append)
    return heard


def test_what_is_submitted_together_is_evaluated_together_and_answered_in_order(supernet):
    base = SequentialExecutionEngine()
    heard, judge = listening(base), Judge(done(50.0), Verdict(None, "NaN"), done(70.0))
    first, second, third = models(supernet, 3)
    GenerationEngine(base, judge).submit_models(first, second, third)
    assert [len(together) for together in judge.together] == [3]
    assert heard == [
        FinalMetricEvent(first, {"default": 50.0, "top1": 50.0, "top5": 100.0, "images": 10, "loss": 0.5}),
        TrainingEndEvent(first, ModelStatus.Trained),
        TrainingEndEvent(second, ModelStatus.Failed),
        FinalMetricEvent(third, {"default": 70.0, "top1": 70.0, "top5": 100.0, "images": 10, "loss": 0.5}),
        TrainingEndEvent(third, ModelStatus.Trained),
    ]
    assert (first.metric, second.metric, third.metric) == (50.0, None, 70.0)
    assert list(base.list_models(ModelStatus.Trained)) == [first, third]
    with pytest.raises(RuntimeError, match="must be frozen"):
        GenerationEngine(base, judge).submit_models(first)


def test_the_budget_of_the_experiment_counts(supernet):
    base = SequentialExecutionEngine(max_model_count=2)
    heard, engine = listening(base), GenerationEngine(base, Judge(done(1.0), done(2.0), done(3.0)))
    engine.submit_models(*models(supernet, 3))
    assert [event.metric["default"] for event in heard if isinstance(event, FinalMetricEvent)] == [1.0, 2.0]
    assert not engine.budget_available()
    assert base.state_dict()["model_count"] == 2


@pytest.mark.parametrize("survives", [False, True])
def test_an_error_ends_the_models_and_the_search_unless_nni_is_told_to_go_on(supernet, survives):
    base = SequentialExecutionEngine(continue_on_failure=survives)
    heard, engine = listening(base), GenerationEngine(base, Judge(ValueError("no memory"), None))
    chosen = models(supernet, 2)
    if survives:
        engine.submit_models(*chosen)
    else:
        with pytest.raises(ValueError, match="no memory"):
            engine.submit_models(*chosen)
    status = ModelStatus.Failed if survives else ModelStatus.Interrupted
    assert heard == [TrainingEndEvent(model, status) for model in chosen]


def test_an_error_of_the_device_gives_no_candidate_up(supernet, images, tmp_path, monkeypatch):
    def fails(self, architectures):
        raise RuntimeError("the device has gone")

    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), 64, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(Generations, "evaluate", fails)
        strategy = EvolutionStrategy(
            Evolution(SPACE, config=CONFIG), tmp_path / "s", progress=False, retries=0
        )
        with pytest.raises(RuntimeError, match="the device has gone"):
            run_experiment(supernet, evaluator, strategy, tmp_path / "s")
    ledger = strategy.evolution.ledger
    assert (len(ledger), ledger.answered) == (10, 0)
    again = EvolutionStrategy(Evolution(SPACE, config=CONFIG), tmp_path / "s", progress=False, retries=0)
    run_experiment(supernet, evaluator, again, tmp_path / "s")
    assert (again.evolution.told, again.evolution.failed) == (30, 0)


def test_the_budget_of_a_plain_experiment_ends_a_search(supernet, images, tmp_path):
    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), 64, device="cpu")
    strategy = EvolutionStrategy(Evolution(SPACE, config=CONFIG), progress=False)
    config = NasExperimentConfig.default(supernet, evaluator, strategy)
    config.execution_engine.max_model_count = 4
    config.experiment_working_directory = tmp_path
    experiment = NasExperiment(supernet, evaluator, strategy, config)
    experiment.run()
    experiment.stop()
    assert strategy.evolution.told == 4
    assert [model.metric for model in experiment.export_top_models(4)] == [
        accuracy for _, accuracy in strategy.evolution.ranking()
    ]


class Threaded(ExecutionEngine):
    """Answers from a thread of its own, as NNI's training service does."""

    def __init__(self):
        super().__init__()
        self.models = []

    def submit_models(self, *models):
        self.models += models
        for model in models:
            threading.Thread(target=self.answer, args=(model,), daemon=True).start()

    def answer(self, model):
        self.dispatch_model_event(FinalMetricEvent(model, 10.0 * model.sample["depth"]))
        self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))

    def list_models(self, status=None):
        return self.models

    def idle_worker_available(self):
        return True

    def budget_available(self):
        return True


def test_answers_from_another_thread(tmp_path):
    space = SimplifiedModelSpace.from_model(AutoFormer(SPACE), FunctionalEvaluator(print))
    strategy = EvolutionStrategy(Evolution(SPACE, config=CONFIG), tmp_path, progress=False)
    strategy(space, Threaded())
    assert strategy.evolution.told == 30


def test_a_result_that_is_no_number_ends_no_thread(tmp_path):
    class Broken(Threaded):
        def answer(self, model):
            depth = model.sample["depth"]
            metric = "high" if model is self.models[0] else float("nan") if depth == 4 else float(depth)
            self.dispatch_model_event(FinalMetricEvent(model, metric))
            self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))

        def default_callback(self, event):
            pass  # NNI's own refuses the word

    space = SimplifiedModelSpace.from_model(AutoFormer(SPACE), FunctionalEvaluator(print))
    strategy = EvolutionStrategy(Evolution(SPACE, config=CONFIG), tmp_path)
    strategy(space, Broken())
    entries = list(strategy.evolution.ledger)
    deep = {entry.candidate.number for entry in entries if entry.candidate.architecture.depth == 4}
    assert {e.candidate.number for e in entries if e.status is Status.FAILED} == deep | {0}


def test_an_error_in_another_thread_ends_the_search(tmp_path, monkeypatch):
    def full(self, entry):
        raise ConfigError("the disk is full")

    monkeypatch.setattr(SearchFolder, "record", full)
    space = SimplifiedModelSpace.from_model(AutoFormer(SPACE), FunctionalEvaluator(print))
    strategy = EvolutionStrategy(Evolution(SPACE, config=CONFIG), tmp_path, progress=False)
    with pytest.raises(ConfigError, match="the disk is full"):
        strategy(space, Threaded())

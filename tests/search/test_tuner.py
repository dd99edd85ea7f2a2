"""The NNI tuner, called as NNI's dispatcher calls it; real experiments are in tests/experiments."""

import json
import random

import pytest
from nni import NoMoreTrialError
from nni.runtime.msg_dispatcher import MsgDispatcher

from nni_autoformer import Architecture, Evolution, EvolutionConfig, EvolutionTuner, SearchSpace
from nni_autoformer.complexity import params
from nni_autoformer.errors import ConfigError
from nni_autoformer.search.evolution import Candidate
from nni_autoformer.search.tuner import EvolutionClassArgsValidator

SPACE = SearchSpace.load("digits")
SETTINGS = {
    "population_size": 6,
    "num_parents": 3,
    "num_mutations": 3,
    "num_crossovers": 2,
    "generations": 3,
    "max_params": 0.3,
    "seed": 1,
}


def accuracy(sample):
    return params(Architecture.from_sample(sample), SPACE.model) % 9973 / 100


def through_javascript(value):
    """What NNI's manager makes of a record: 2.0 comes back as 2."""
    return json.loads(
        json.dumps(value), parse_float=lambda text: float(text) if float(text) % 1 else int(float(text))
    )


def reference():
    limits = {"max_params": SETTINGS["max_params"]}
    from nni_autoformer import Limits

    config = EvolutionConfig(**{key: value for key, value in SETTINGS.items() if key not in limits})
    evolution = Evolution(SPACE, Limits(**limits), config)
    while isinstance(candidate := evolution.ask(), Candidate):
        evolution.tell(candidate.number, accuracy(candidate.architecture.to_sample()))
    return evolution


class Nni:
    """The part of NNI that a tuner sees: asks for parameters, runs trials, ends them in any order."""

    def __init__(self, tuner, concurrency, seed=0, first=0):
        self.tuner, self.rng, self.number = tuner, random.Random(seed), first
        self.running, self.evaluated = {}, []
        tuner.update_search_space(through_javascript(SPACE.to_nni()))
        self.request(concurrency)

    def callback(self, number, parameters):
        self.running[number] = through_javascript(parameters)

    def request(self, count):
        numbers = list(range(self.number, self.number + count))
        self.number += count
        for number, parameters in zip(
            numbers, self.tuner.generate_multiple_parameters(numbers, st_callback=self.callback)
        ):
            self.callback(number, parameters)

    def step(self, fails=False):
        number = self.rng.choice(sorted(self.running))
        sample = self.running.pop(number)
        if fails:
            self.tuner.trial_end(number, False)
        else:
            self.evaluated.append(Architecture.from_sample(sample))
            result = {"default": accuracy(sample), "top5": 100}
            calls = [
                lambda: self.tuner.receive_trial_result(number, sample, result, trial_job_id="x"),
                lambda: self.tuner.trial_end(number, True),
            ]
            for call in calls if self.rng.random() < 0.5 else reversed(calls):
                call()
        self.request(1)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """The environment of a tuner in an experiment whose folder is `tmp_path`."""
    monkeypatch.setenv("NNI_LOG_DIRECTORY", str(tmp_path / "log"))
    monkeypatch.delenv("NNI_TUNER_COMMAND_CHANNEL", raising=False)
    return tmp_path


@pytest.mark.parametrize("concurrency", [1, 2, 5, 9])
def test_the_search_is_the_same_at_any_concurrency(experiment, concurrency):
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    nni = Nni(tuner, concurrency, seed=concurrency)
    while nni.running:
        nni.step(fails=nni.rng.random() < 0.2)
    assert tuner.evolution.ranking() == reference().ranking()
    assert len(set(nni.evaluated)) == len(nni.evaluated) == 18
    best = Architecture.from_yaml(experiment / "search" / "best.yaml")
    assert best == reference().best()[0].architecture


@pytest.mark.parametrize("steps", [0, 1, 5, 6, 11, 17])
@pytest.mark.parametrize("state_is_lost", [False, True])
def test_a_killed_experiment_goes_on(experiment, monkeypatch, steps, state_is_lost):
    """As `nnictl resume` does: the history comes back, unfinished trials run again without being asked."""
    before = Nni(EvolutionTuner(space="digits", **SETTINGS), 2, seed=steps)
    for _ in range(steps):
        before.step()
    history = [
        {"parameter": through_javascript(a.to_sample(5)), "value": {"default": accuracy(a.to_sample())}}
        for a in before.evaluated
    ]
    unfinished = list(before.running.values())
    if state_is_lost:
        for file in (experiment / "search").iterdir():
            file.unlink()
    monkeypatch.setenv("NNI_MODE", "resume")
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    dispatcher = MsgDispatcher("ws://_unittest_", tuner)
    if history:
        dispatcher.handle_import_data([dict(entry, value=json.dumps(entry["value"])) for entry in history])
    records = [{"parameter_id": 100 + i, "parameters": sample} for i, sample in enumerate(unfinished)]
    dispatcher.handle_add_customized_trial(records)
    after = Nni(tuner, 2, seed=steps, first=200)
    if unfinished:  # the first of them fails, and is run again once more
        dispatcher.handle_trial_end(
            {"trial_job_id": "a", "event": "FAILED", "hyper_params": json.dumps(records[0])}
        )
    for record in records[1:]:
        value = json.dumps({"default": accuracy(record["parameters"])})
        dispatcher.handle_report_metric_data(
            {"parameter_id": record["parameter_id"], "type": "FINAL", "value": value}
        )
        after.evaluated.append(Architecture.from_sample(record["parameters"]))
    while after.running:
        after.step()
    assert tuner.evolution.ranking() == reference().ranking()
    assert len(before.evaluated) + len(after.evaluated) == 18
    assert set(before.evaluated).isdisjoint(after.evaluated)


def test_another_algorithm(experiment):
    tuner = EvolutionTuner(space="digits", algorithm="random", population_size=4, generations=2)
    nni = Nni(tuner, 3)
    while nni.running:
        nni.step()
    assert len(set(nni.evaluated)) == tuner.evolution.ledger.told == 8
    assert (experiment / "search" / "best.yaml").is_file()


def test_a_search_that_trades(experiment):
    nni = Nni(EvolutionTuner(space="digits", pareto="params,macs", **SETTINGS), 4)
    while nni.running:
        nni.step()
    folder = experiment / "search"
    rows = (folder / "front.csv").read_text().splitlines()
    assert len(rows) - 1 == len(list((folder / "front").iterdir())) > 1
    with pytest.raises(
        ConfigError, match=r"classArgs: pareto is 'flops'; it should be one to three of params"
    ):
        EvolutionTuner(space="digits", pareto="flops", output="other", **SETTINGS)


def test_a_new_experiment_does_not_take_an_old_ones_folder(experiment):
    EvolutionTuner(space="digits", output=str(experiment / "mine"), **SETTINGS)
    Nni(EvolutionTuner(space="digits", output=str(experiment / "other"), **SETTINGS), 1)
    with pytest.raises(ConfigError, match="holds a search already"):
        EvolutionTuner(space="digits", output=str(experiment / "other"), **SETTINGS)


def test_one_parameter_at_a_time(experiment):
    tuner = EvolutionTuner(space="digits", population_size=1, num_mutations=0, num_crossovers=0)
    assert "embed_dim" in tuner.generate_parameters(0)
    with pytest.raises(NoMoreTrialError):
        tuner.generate_parameters(1)


def test_another_search_space_is_refused(experiment):
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    other = SPACE.to_nni()
    other["depth"]["_value"] = [3, 4]
    with pytest.raises(ConfigError, match=r"'depth' is \[3, 4\], and \[3, 4, 5\] in the space 'digits'"):
        tuner.update_search_space(other)
    with pytest.raises(ConfigError, match="'num_head_9'"):
        tuner.update_search_space({**SPACE.to_nni(), "num_head_9": {"_type": "choice", "_value": [1]}})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "'checkpoint' or 'space' is needed"),
        ({"space": "digit"}, "no packaged space of this name"),
        ({"checkpoint": "nothere.safetensors"}, "there is no such checkpoint"),
        ({"space": "digits", "populaton_size": 3}, "unknown argument 'populaton_size'"),
        (
            {"space": "digits", "algorithm": "tpe"},
            "it should be one of evolution, random",
        ),
        ({"space": "digits", "algorithm": "random", "num_parents": 3}, "unknown argument 'num_parents'"),
        (
            {"space": "digits", "population_size": "many"},
            "population_size is 'many'; it should be a whole number",
        ),
        ({"space": "digits", "max_params": 0.01}, "no subnet meets this limit"),
        ({"space": "digits", "optimize_mode": "minimize"}, "accuracy can only be maximized"),
        ({"space": "digits", "population_size": 0}, "it should be at least 1"),
    ],
)
def test_wrong_class_arguments(experiment, arguments, words):
    with pytest.raises(ConfigError, match=words):
        EvolutionTuner(**arguments)
    with pytest.raises(ConfigError, match=words):
        EvolutionClassArgsValidator().validate_class_args(**arguments)


def test_the_validator_accepts_what_the_tuner_does(experiment):
    EvolutionClassArgsValidator().validate_class_args(space="digits", output="x", retries=1, **SETTINGS)


def test_the_space_comes_from_the_checkpoint(experiment, toy):
    tuner = EvolutionTuner(checkpoint=str(toy / "run" / "supernet.safetensors"))
    assert tuner.evolution.space.name == "toy"
    with pytest.raises(ConfigError, match="is of another search space than 'digits'"):
        EvolutionTuner(checkpoint=str(toy / "run" / "supernet.safetensors"), space="digits")

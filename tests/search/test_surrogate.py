"""An evolution that a Gaussian process guides: the same at any concurrency, better at equal evaluations."""

import builtins
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from statistics import median

import numpy
import pytest

from nni_autoformer import Architecture, ConfigError, SearchSpace
from nni_autoformer.complexity import params
from nni_autoformer.search import guidance
from nni_autoformer.search.class_args import ClassArgs
from nni_autoformer.search.evolution import Answer, Candidate, Evolution, EvolutionConfig, Limits
from nni_autoformer.search.front import hypervolume
from nni_autoformer.search.surrogate import Surrogate, features

DIGITS = SearchSpace.load("digits")
SHORT = EvolutionConfig(
    population_size=12, num_parents=4, generations=3, seed=3, surrogate=True, surrogate_children=3
)
LIMITS = Limits(min_params=0.15, max_params=0.3)
TOY = SearchSpace.from_dict(
    {
        "name": "toy",
        "choices": {"embed_dim": [16], "depth": [1, 2], "num_heads": [1], "mlp_ratio": [1.0, 2.0]},
        "model": {"img_size": 8, "patch_size": 4},
    }
)


def score(architecture):
    """An accuracy: what is wider and deeper is better, every layer has a taste, and some of it is noise."""
    taste = random.Random(5)
    value = 60 + architecture.embed_dim / 16 + architecture.depth
    for heads, ratio in zip(architecture.num_heads, architecture.mlp_ratio):
        value += heads * taste.gauss(0.3, 0.6) + ratio * taste.gauss(0.2, 0.4)
        value += heads * ratio * taste.gauss(0, 0.1)
    return value + random.Random(str(architecture)).gauss(0, 0.2)


def finish(evolution, in_flight=1, shuffle=None, answer=score):
    """Drive a search to its end with several candidates out at a time; the candidates in the order asked."""
    asked, out = [], []
    while True:
        step = evolution.ask() if len(out) < in_flight else Answer.WAIT
        if isinstance(step, Candidate):
            asked.append(step)
            out.append(step)
            continue
        if step is Answer.DONE:
            return asked
        candidate = out.pop(shuffle.randrange(len(out)) if shuffle else 0)
        accuracy = answer(candidate.architecture)
        if accuracy is None:
            evolution.fail(candidate.number)
        else:
            evolution.tell(candidate.number, accuracy)


def best_of(evolution, answer=score):
    return max(answer(candidate.architecture) for candidate in finish(evolution, answer=answer))


def test_candidates_are_new_and_within_the_limits_and_most_are_the_models():
    asked = finish(Evolution(DIGITS, LIMITS, SHORT))
    assert len(asked) == 36 == len({candidate.architecture for candidate in asked})
    for candidate in asked:
        assert candidate.architecture in DIGITS
        assert 0.15e6 <= params(candidate.architecture, DIGITS.model) <= 0.3e6
    for generation in (1, 2):
        origins = Counter(c.origin for c in asked if c.generation == generation)
        assert origins == {"surrogate": 11, "random": 1}
    plain = finish(Evolution(DIGITS, LIMITS, replace(SHORT, surrogate=False, surrogate_children=20)))
    assert asked[:12] == plain[:12]


@pytest.mark.parametrize(("in_flight", "seed"), [(5, 1), (12, 2)])
def test_the_same_search_at_any_concurrency_and_order_of_answers(in_flight, seed):
    one, many = Evolution(DIGITS, LIMITS, SHORT), Evolution(DIGITS, LIMITS, SHORT)
    assert finish(one) == finish(many, in_flight, random.Random(seed))
    assert one.ranking() == many.ranking()


@pytest.mark.parametrize("stop", [5, 12, 17, 30])
def test_a_search_that_stops_anywhere_goes_on_through_json(stop):
    whole = Evolution(DIGITS, LIMITS, SHORT)
    expected = finish(whole)
    first, out = Evolution(DIGITS, LIMITS, SHORT), []
    while first.told < stop:
        step = first.ask()
        if isinstance(step, Candidate) and len(out) < 3:
            out.append(step)
            continue
        if isinstance(step, Candidate):
            out.append(step)
        candidate = out.pop()
        first.tell(candidate.number, score(candidate.architecture))
    second = Evolution(DIGITS, LIMITS, SHORT)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    finish(second)
    assert [entry.candidate for entry in second.ledger] == expected
    assert second.ranking() == whole.ranking()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_decides_nothing(threads):
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads):
        asked = finish(Evolution(DIGITS, LIMITS, SHORT))
    assert asked == finish(Evolution(DIGITS, LIMITS, SHORT))


def test_it_is_better_than_the_evolution_at_equal_evaluations():
    config = EvolutionConfig(population_size=16, num_parents=5, generations=4)
    guided, plain = [], []
    for seed in range(5):
        guided.append(
            best_of(
                Evolution(DIGITS, LIMITS, replace(config, seed=seed, surrogate=True, surrogate_children=5))
            )
        )
        plain.append(best_of(Evolution(DIGITS, LIMITS, replace(config, seed=seed))))
    assert median(guided) > median(plain) + 0.3
    assert sum(ours > theirs for ours, theirs in zip(guided, plain)) >= 4


def test_a_front_is_better_than_the_evolutions_at_equal_evaluations():
    config = EvolutionConfig(population_size=16, generations=3, pareto="params")

    def volume(evolution):
        asked = finish(evolution)
        points = [[params(c.architecture, DIGITS.model) / 1e6, -score(c.architecture)] for c in asked]
        return hypervolume(points, (0.6, -60.0))

    modelled = replace(config, surrogate=True, surrogate_children=5)
    guided = [volume(Evolution(DIGITS, config=replace(modelled, seed=s))) for s in range(3)]
    plain = [volume(Evolution(DIGITS, config=replace(config, seed=s))) for s in range(3)]
    assert median(guided) > median(plain)


@pytest.mark.parametrize(
    "answer", [lambda a: 50.0, lambda a: None if a.depth > 4 else score(a), lambda a: 100.0 * (a.depth == 5)]
)
def test_equal_accuracies_and_failed_candidates_break_nothing(answer):
    evolution = Evolution(DIGITS, LIMITS, SHORT)
    asked = finish(evolution, answer=answer)
    assert len({candidate.architecture for candidate in asked}) == 36


def test_too_few_answers_leave_the_evolution_to_itself():
    config = replace(SHORT, population_size=3, num_parents=1, num_mutations=2, num_crossovers=1)
    asked = finish(Evolution(DIGITS, LIMITS, config))
    assert {c.origin for c in asked if c.generation == 1} <= {"mutation", "crossover", "random"}
    assert "surrogate" in {c.origin for c in asked if c.generation == 2}


def test_a_space_that_runs_dry_ends_the_search():
    config = EvolutionConfig(population_size=4, generations=5, surrogate=True)
    assert {c.architecture for c in finish(Evolution(TOY, config=config))} == set(TOY)


def test_what_was_expected_stands_beside_the_answer_and_its_quality_is_told(caplog):
    caplog.set_level("INFO", "nni_autoformer")
    evolution = Evolution(DIGITS, LIMITS, SHORT)
    finish(evolution)
    entries = list(evolution.ledger)
    assert all("predicted" not in entry.details for entry in entries[:12])
    assert all(isinstance(entry.details["predicted"], float) for entry in entries[12:])
    second, third = guidance.qualities(evolution.ledger)
    pairs = [(entry.details["predicted"], entry.accuracy) for entry in entries[12:24]]
    assert second.error == pytest.approx(numpy.sqrt(numpy.mean([(a - b) ** 2 for a, b in pairs])))
    assert (second.generation, second.candidates) == (1, 12) and -1 <= second.tau <= 1
    assert [record.getMessage() for record in caplog.records] == [
        f"Generation {quality.generation + 1}: the surrogate's predictions for 12 candidates have "
        f"{quality.told}."
        for quality in (second, third)
    ]


def test_a_model_knows_what_it_has_seen_and_spreads_its_choice():
    rng = random.Random(0)
    seen, others = ([DIGITS.sample(rng) for _ in range(60)] for _ in range(2))
    model = Surrogate(DIGITS, seen, [score(architecture) for architecture in seen])
    mean, deviation = model.predict(others)
    truth = [score(architecture) for architecture in others]
    assert numpy.corrcoef(mean, truth)[0, 1] > 0.8
    assert model.predict(seen)[1].mean() < deviation.mean()
    best = int(numpy.argmax(mean + 20 * deviation))
    chosen = model.apart([others[best], *others], 3, 20.0)
    assert chosen[0] == 0 and chosen[1] != best + 1  # the same subnet once more tells nothing


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"surrogate_children": 5}, "--surrogate-children needs --surrogate"),
        ({"surrogate_spread": 2.0}, "--surrogate-spread needs --surrogate"),
        ({"surrogate": True, "rank_by": "loss"}, "--surrogate goes with --rank-by top1"),
    ],
)
def test_what_a_surrogate_does_not_take(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        EvolutionConfig(**settings)


def test_features_are_padded_to_the_deepest():
    shallow = Architecture(64, (1, 2, 3), (2.0, 3.0, 4.0))
    row = features([shallow], DIGITS)[0]
    assert len(row) == 6 + 2 * DIGITS.max_depth
    assert row[:4].tolist() == [64, 3, 2, 3]
    assert row[6:].tolist() == [
        1,
        2,
        3,
        *[0] * (DIGITS.max_depth - 3),
        2,
        3,
        4,
        *[0] * (DIGITS.max_depth - 3),
    ]


def test_a_thousand_candidates_are_fitted_in_little_time():
    rng = random.Random(0)
    many = list({DIGITS.sample(rng) for _ in range(1100)})[:1000]
    from time import process_time

    start = process_time()
    Surrogate(DIGITS, many, [score(architecture) for architecture in many])
    assert process_time() - start < 10


def test_without_scikit_learn_it_is_a_sentence(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError("No module named 'sklearn'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"--surrogate needs scikit-learn.*pip install scikit-learn"):
        finish(Evolution(DIGITS, LIMITS, SHORT))


def test_bad_settings_name_the_flag():
    with pytest.raises(ConfigError, match="--surrogate-children is 0"):
        EvolutionConfig(surrogate_children=0)
    with pytest.raises(ConfigError, match="--surrogate-spread is -1"):
        EvolutionConfig(surrogate_spread=-1.0)


def test_the_tuner_takes_it_and_loads_no_torch(tmp_path):
    assert ClassArgs.of({"space": "digits", "surrogate": True}).searcher(tmp_path).config.surrogate
    script = (
        "import sys\n"
        "from nni_autoformer.search.class_args import ClassArgs\n"
        "from pathlib import Path\n"
        "arguments = {'space': 'digits', 'surrogate': True, 'population_size': 5, 'generations': 2}\n"
        "search = ClassArgs.of(arguments).searcher(Path('.'))\n"
        "print('sklearn' in sys.modules)\n"
        "while hasattr(candidate := search.ask(), 'number'): search.tell(candidate.number, 50.0)\n"
        "print('sklearn' in sys.modules, 'torch' in sys.modules, 'nni' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True", "False", "False"]


def test_the_command_searches_with_it_and_goes_on_from_the_middle(toy, tmp_path, capsys):
    from nni_autoformer.cli import main

    files = f"--checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    flags = f"search {files} --population-size 6 --num-parents 3 --generations 3 --seed 1 --surrogate"
    assert main([*flags.split(), "--output", str(tmp_path / "whole")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "whole" / "candidates.jsonl").read_text().splitlines()]
    assert {row["origin"] for row in rows[6:]} <= {"surrogate", "random"}
    assert all(("predicted" in row) == (row["generation"] > 0) for row in rows)
    summary = (tmp_path / "whole" / "summary.txt").read_text()
    assert "surrogate's predictions" in summary and "Kendall tau" in summary
    assert "Generation 2: the surrogate's predictions for 6 candidates have" in "".join(capsys.readouterr())


def test_the_files_of_a_search_that_was_killed_keep_the_predictions(tmp_path):
    from nni_autoformer.search.driver import SearchDriver

    whole = Evolution(DIGITS, LIMITS, SHORT)
    finish(whole)
    first = SearchDriver(Evolution(DIGITS, LIMITS, SHORT), tmp_path, remember_proposals=True)
    for _ in range(17):
        candidate = first.next()
        first.answer(candidate, score(candidate.architecture))
    first.next()
    second = SearchDriver(Evolution(DIGITS, LIMITS, SHORT), tmp_path, remember_proposals=True)
    assert second.resume()
    while isinstance(candidate := second.next(), Candidate):
        second.answer(candidate, score(candidate.architecture))
    assert [(e.candidate, e.details) for e in second.ledger] == [
        (e.candidate, e.details) for e in whole.ledger
    ]

"""A further search algorithm behind the same protocol."""

import json
import random
from collections import Counter

import pytest

from nni_autoformer import Architecture, Evolution, EvolutionConfig, Limits, SearchSpace
from nni_autoformer.complexity import params
from nni_autoformer.errors import ConfigError
from nni_autoformer.search.algorithms import SEARCHERS, algorithm_of
from nni_autoformer.search.driver import SearchDriver
from nni_autoformer.search.ledger import Candidate
from nni_autoformer.search.random_search import RandomConfig, RandomSearch
from nni_autoformer.search.searcher import Answer

SPACE = SearchSpace.load("digits")
CONFIG = RandomConfig(population_size=6, generations=3, seed=4)


def accuracy(candidate):
    return params(candidate.architecture, SPACE.model) % 9973 / 100


def finish(searcher, in_flight=1, rng=None):
    out = []
    while True:
        step = searcher.ask() if len(out) < in_flight else Answer.WAIT
        if isinstance(step, Candidate):
            out.append(step)
        elif step is Answer.DONE:
            return searcher
        else:
            candidate = out.pop(rng.randrange(len(out)) if rng else 0)
            searcher.ledger.tell(candidate.number, accuracy(candidate))


def test_it_draws_new_subnets_within_the_limits_whatever_the_answers_are():
    limits = Limits(max_params=0.3)
    search = finish(RandomSearch(SPACE, limits, CONFIG))
    drawn = [entry.candidate for entry in search.ledger]
    assert Counter(candidate.generation for candidate in drawn) == {0: 6, 1: 6, 2: 6}
    assert {candidate.origin for candidate in drawn} == {"random"}
    assert len({candidate.architecture for candidate in drawn}) == 18 == search.planned
    assert all(limits.allows(candidate.architecture, SPACE.model) for candidate in drawn)
    other = RandomSearch(SPACE, limits, CONFIG)
    while isinstance(step := other.ask(), Candidate):
        other.tell(step.number, 1.0)
    assert [entry.candidate for entry in other.ledger] == drawn


def test_its_first_generation_is_that_of_an_evolution_with_the_same_seed():
    evolution = finish(Evolution(SPACE, config=EvolutionConfig(6, 3, 3, 2, 2, seed=4)))
    search = finish(RandomSearch(SPACE, config=CONFIG))
    first, second = ([entry.candidate for entry in searcher.ledger][:6] for searcher in (evolution, search))
    assert first == second


def test_the_same_search_at_any_concurrency_and_after_a_resume():
    whole = finish(RandomSearch(SPACE, config=CONFIG))
    many = finish(RandomSearch(SPACE, config=CONFIG), 5, random.Random(1))
    assert many.ranking() == whole.ranking()
    first = RandomSearch(SPACE, config=CONFIG)
    for _ in range(8):
        candidate = first.ask()
        first.tell(candidate.number, accuracy(candidate))
    second = RandomSearch(SPACE, config=CONFIG)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert finish(second).ranking() == whole.ranking()


def test_the_algorithms_by_name():
    assert {"evolution": Evolution, "random": RandomSearch} == SEARCHERS
    assert algorithm_of("random").configuration is RandomConfig
    with pytest.raises(
        ConfigError, match="--algorithm is 'annealing'; it should be one of evolution, random"
    ):
        algorithm_of("annealing")


def test_the_state_of_another_algorithm_is_refused(tmp_path):
    SearchDriver(RandomSearch(SPACE, config=CONFIG), tmp_path, remember_proposals=True).next()
    with pytest.raises(ConfigError, match="the algorithm was random and is evolution now"):
        SearchDriver(Evolution(SPACE), tmp_path).resume()
    with pytest.raises(ConfigError, match=r"random\.seed was 4 and is 5 now"):
        SearchDriver(RandomSearch(SPACE, config=RandomConfig(6, 3, seed=5)), tmp_path).resume()


def test_a_bad_configuration_names_the_flag():
    for name in ("population_size", "generations"):
        with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} is 0; it should be at least 1"):
            RandomConfig(**{name: 0})


def test_the_driver_leaves_the_same_files(tmp_path):
    driver = SearchDriver(RandomSearch(SPACE, config=CONFIG), tmp_path)
    while isinstance(candidate := driver.next(), Candidate):
        driver.answer(candidate, {"default": accuracy(candidate), "images": 3})
    driver.folder.write_best()
    rows = [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()]
    assert [row["number"] for row in rows] == list(range(18))
    best = max(rows, key=lambda row: (row["accuracy"], -row["number"]))
    assert Architecture.from_yaml(tmp_path / "best.yaml").to_dict() == best["architecture"]

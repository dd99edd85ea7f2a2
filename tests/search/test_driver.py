"""The driver: trials that fail, answers in any order, and the same search all the same."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_autoformer import Evolution, EvolutionConfig, SearchSpace
from nni_autoformer.complexity import params
from nni_autoformer.errors import ConfigError
from nni_autoformer.search.driver import SearchDriver
from nni_autoformer.search.evolution import Answer, Candidate

SPACE = SearchSpace.load("digits")
CONFIG = EvolutionConfig(6, 3, 3, 2, 3, seed=4)


def accuracy(architecture):
    return params(architecture, SPACE.model) % 9973 / 100


def reference():
    evolution = Evolution(SPACE, config=CONFIG)
    while isinstance(candidate := evolution.ask(), Candidate):
        evolution.tell(candidate.number, accuracy(candidate.architecture))
    return evolution


def drive(driver, concurrency, rng, fails=lambda candidate, attempt: False):
    """Run trials as NNI would: some at a time, ending in any order, the end sometimes before the result."""
    running, attempts = [], {}
    while True:
        step = driver.next()
        if isinstance(step, Candidate) and len(running) < concurrency:
            running.append(step)
            if len(running) < concurrency:
                continue
        elif isinstance(step, Candidate):
            raise AssertionError("more proposals than workers were asked for")
        if not running:
            assert step is Answer.DONE or driver.hopeless
            return
        candidate = running.pop(rng.randrange(len(running)))
        attempts[candidate.number] = attempts.get(candidate.number, 0) + 1
        if fails(candidate, attempts[candidate.number]):
            driver.ended(candidate, success=False)
            continue
        calls = [
            lambda c=candidate: driver.answer(c, {"default": accuracy(c.architecture), "top5": 100.0}),
            lambda c=candidate: driver.ended(c, success=True),
        ]
        for call in calls if rng.random() < 0.5 else reversed(calls):
            call()


@settings(max_examples=25, deadline=None)
@given(concurrency=st.integers(1, 7), seed=st.integers(0, 1000), often=st.sampled_from([0, 0.2, 0.5]))
def test_failures_that_are_retried_leave_no_trace(concurrency, seed, often):
    rng = random.Random(seed)
    evolution = Evolution(SPACE, config=CONFIG)
    driver = SearchDriver(evolution, retries=2)
    drive(driver, concurrency, rng, lambda _, attempt: attempt <= 2 and rng.random() < often)
    assert evolution.ranking() == reference().ranking()
    assert evolution.failed == 0


def test_a_candidate_that_always_fails_is_given_up_and_the_search_goes_on(tmp_path):
    evolution = Evolution(SPACE, config=CONFIG)
    tries = []

    def fails(candidate, attempt):
        if candidate.number in (1, 8):
            tries.append(candidate.number)
        return candidate.number in (1, 8)

    drive(SearchDriver(evolution, tmp_path, retries=1), 2, random.Random(0), fails)
    assert sorted(tries) == [1, 1, 8, 8]
    assert (evolution.told, evolution.failed) == (16, 2)
    assert {1, 8} & {candidate.number for candidate, _ in evolution.ranking()} == set()
    rows = [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()]
    assert [row["number"] for row in rows if row.get("failed")] == [1, 8]
    again = SearchDriver(Evolution(SPACE, config=CONFIG), tmp_path)
    assert again.resume()
    assert again.next() is Answer.DONE
    assert again.searcher.state_dict() == evolution.state_dict()


def test_when_all_fail_it_ends_with_the_trials_error():
    driver = SearchDriver(Evolution(SPACE, config=CONFIG), retries=0)
    count = 0
    while not driver.hopeless:
        driver.ended(driver.next(), success=False)
        count += 1
    assert count == 3
    error = driver.hopeless_error("CUDA is out of memory")
    assert isinstance(error, ConfigError)
    assert "3 candidates" in str(error) and str(error).endswith("CUDA is out of memory")


def test_a_trial_that_ends_well_without_a_result_is_run_again(monkeypatch):
    import nni_autoformer.search.driver as module

    monkeypatch.setattr(module, "GRACE", 0.0)
    driver = SearchDriver(Evolution(SPACE, config=CONFIG), retries=1)
    candidate = driver.next()
    driver.ended(candidate, success=True)
    assert driver.next() is candidate
    driver.answer(candidate, 50.0)
    assert driver.searcher.told == 1


def test_a_second_answer_does_not_count():
    driver = SearchDriver(Evolution(SPACE, config=CONFIG))
    candidate = driver.next()
    assert driver.answer(candidate, 50.0)
    assert not driver.answer(candidate, 60.0)
    assert driver.searcher.best()[1] == 50.0


def test_negative_retries_are_refused():
    with pytest.raises(ConfigError, match="--retries is -1"):
        SearchDriver(Evolution(SPACE, config=CONFIG), retries=-1)

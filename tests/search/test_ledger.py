"""The ledger: one status per candidate, from its proposal to its answer."""

import json
import random

import pytest

from nni_autoformer import ConfigError, SearchSpace
from nni_autoformer.search.ledger import Ledger, Status

SPACE = SearchSpace.load("digits")


def proposed(count):
    ledger, rng = Ledger(), random.Random(0)
    while len(ledger) < count:
        architecture = SPACE.sample(rng)
        if architecture not in ledger:
            ledger.add(len(ledger) // 2, architecture, "random")
    return ledger


def test_a_candidates_way():
    ledger = proposed(2)
    assert [entry.status for entry in ledger] == [Status.OPEN, Status.OPEN]
    candidate = ledger.start(1)
    assert (candidate.number, candidate.generation, ledger[1].status) == (1, 0, Status.RUNNING)
    ledger.reopen(1)
    assert ledger.of(Status.OPEN) == list(ledger)
    entry = ledger.tell(1, 50, {"images": 12})
    assert (entry.status, entry.accuracy, entry.details) == (Status.DONE, 50.0, {"images": 12})
    assert ledger.of(Status.DONE) == [entry] and ledger.of(Status.RUNNING) == []
    assert ledger.find(candidate.architecture) is entry


def test_each_answer_counts_once_and_only_accuracies_rank():
    ledger = proposed(5)
    ledger.tell(3, 10.0)
    ledger.tell(0, 10.0)
    ledger.tell(1, 20.0)
    ledger.fail(2)
    ledger.fail(4)
    assert (ledger.told, ledger.failed, ledger.answered) == (3, 2, 5)
    assert [(candidate.number, accuracy) for candidate, accuracy in ledger.ranking()] == [
        (1, 20.0),
        (0, 10.0),
        (3, 10.0),
    ]
    for number in range(5):
        for write in (ledger.start, ledger.reopen, ledger.fail):
            with pytest.raises(ValueError, match=f"Candidate {number} has an answer already"):
                write(number)
    with pytest.raises(ValueError, match="No candidate has the number 5"):
        ledger.tell(5, 1.0)
    assert ledger.answered == 5


def test_it_comes_back_from_json_with_what_ran_open_again():
    ledger = proposed(4)
    ledger.tell(0, 12.5)
    ledger.fail(1)
    ledger.start(2)
    again = Ledger.from_state(json.loads(json.dumps(ledger.state())))
    assert [entry.candidate for entry in again] == [entry.candidate for entry in ledger]
    assert [entry.status for entry in again] == [
        Status.DONE,
        Status.FAILED,
        Status.OPEN,
        Status.OPEN,
    ]
    assert again.ranking() == ledger.ranking()


def test_states_of_versions_that_raced_are_read_unless_a_candidate_was_stopped():
    state = [{**entry, "stopped": False} for entry in proposed(2).state()]
    assert [entry.status for entry in Ledger.from_state(state)] == [Status.OPEN, Status.OPEN]
    state[1]["stopped"] = True
    with pytest.raises(ConfigError, match="candidate 1 was stopped early by --racing, which this version"):
        Ledger.from_state(state)

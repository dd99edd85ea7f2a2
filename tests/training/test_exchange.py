"""What ranks tell each other, here threads over a store of one process."""

import threading
import time

import pytest
import torch

from nni_autoformer import ConfigError
from nni_autoformer.training import exchange as module
from nni_autoformer.training.exchange import Exchange
from nni_autoformer.training.ranks import Ranks


def together(action, size=3):
    """Let ranks act at the same time; what each returns or raises."""
    store, results = torch.distributed.HashStore(), [None] * size

    def run(rank):
        ranks = Ranks(rank, size, rank, size)
        object.__setattr__(ranks, "exchange", Exchange(store, rank, size))
        try:
            results[rank] = action(ranks)
        except ConfigError as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def test_everybody_has_what_everybody_gives():
    assert (
        together(lambda ranks: [ranks.gathered(ranks.rank), ranks.gathered("x")])
        == [[[0, 1, 2], ["x"] * 3]] * 3
    )


def test_a_value_may_be_larger_than_the_store_takes(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 7)
    value = list(range(1000))
    assert together(lambda ranks: ranks.on_main(lambda: value), 2) == [value] * 2


def test_a_value_that_all_have_read_is_let_go():
    store = torch.distributed.HashStore()
    one, other = Exchange(store, 0, 2), Exchange(store, 1, 2)
    before = store.num_keys()
    one.put("task", "do")
    assert other.get("task", 0) == "do"
    other.delete("task")
    assert store.num_keys() == before


def test_nobody_goes_on_where_one_cannot_and_one_tells_it():
    def act(ranks):
        if ranks.rank > 0:
            raise ConfigError(f"{ranks.rank} cannot read it")
        return ranks.rank

    results = together(lambda ranks: ranks.agree(lambda: act(ranks)))
    assert [str(error) for error in results] == ["1 cannot read it"] * 3
    assert [error.told for error in results] == [True, False, True]
    assert together(lambda ranks: ranks.agree(lambda: ranks.rank)) == [0, 1, 2]


def test_one_of_a_machine_acts_before_the_others():
    times = {}

    def act(ranks):
        time.sleep(0.05)
        times[ranks.rank] = time.monotonic()

    together(lambda ranks: ranks.agree(lambda: act(ranks), one_first=True))
    assert times[0] + 0.05 <= min(times[1], times[2])


def test_what_the_main_process_finds_all_know():
    assert together(lambda ranks: ranks.on_main(lambda: ranks.rank + 40)) == [40] * 3

    def refuse():
        raise ConfigError("no")

    results = together(lambda ranks: ranks.on_main(refuse))
    assert [str(error) for error in results] == ["no"] * 3
    assert [error.told for error in results] == [False, True, True]


def test_a_process_of_another_machine_that_has_died_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.02)
    monkeypatch.setattr(module, "SILENCE", 0.3)
    store = torch.distributed.HashStore()
    one, other = Exchange(store, 0, 2), Exchange(store, 1, 2)
    began = time.monotonic()
    with other.alive():
        threading.Timer(0.8, lambda: other.put("late", 1)).start()
        assert one.get("late", 1) == 1
    assert time.monotonic() > began + 0.7
    with pytest.raises(RuntimeError, match="rank 1 has died"):
        one.get("never", 1)


def test_a_waiting_process_can_be_interrupted(monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Exchange(torch.distributed.HashStore(), 0, 2).get("nothing", 1)

"""A generation together gives what each candidate gives alone, and can be killed at any moment."""

import json
import random

import numpy as np
import pytest
import torch

from nni_autoformer import (
    Architecture,
    Evolution,
    EvolutionConfig,
    EvolutionStrategy,
    SearchSpace,
    SubnetEvaluator,
)
from nni_autoformer.errors import ConfigError
from nni_autoformer.experiment import run_experiment
from nni_autoformer.nn import block
from nni_autoformer.search import generation as module
from nni_autoformer.search.accuracy import Accuracy
from nni_autoformer.search.batch_size import Batches, auto_batch_size
from nni_autoformer.search.correctness import Correctness
from nni_autoformer.search.shared_forward import SharedForward, Slices, half_layers

SPACE = SearchSpace.load("digits")
CONFIG = EvolutionConfig(10, 3, 5, 3, 3, seed=2)


def search(supernet, images, folder):
    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), 64, device="cpu")
    evolution = Evolution(SPACE, config=CONFIG)
    strategy = EvolutionStrategy(evolution, folder, progress=False)
    run_experiment(supernet, evaluator, strategy, folder)
    return evolution, [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]


def sampled(count, seed=0):
    rng = random.Random(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def test_together_they_give_bit_for_bit_what_each_gives_alone(supernet):
    images = torch.rand(7, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    architectures = sampled(30)
    architectures.append(Architecture(48, (1, 2, 3), (2, 3, 4)))
    architectures.append(Architecture(48, (1, 2, 3, 1), (2, 3, 4, 2)))  # goes on where the one above ends
    with torch.inference_mode():
        together = dict(SharedForward(Slices(supernet), architectures).logits(images))
        assert sorted(together) == list(range(32))
        for number, architecture in enumerate(architectures):
            supernet.set_architecture(architecture)
            assert torch.equal(together[number], supernet(images))


def test_what_subnets_have_in_common_is_computed_once(supernet, monkeypatch):
    one = Architecture(64, (1, 2, 3), (2, 3, 4))
    other = Architecture(64, (1, 2, 3), (2, 3, 2))
    assert half_layers(one)[:5] == half_layers(other)[:5]
    calls = []
    attend = block.attend
    monkeypatch.setattr(block, "attend", lambda *a: calls.append(1) or attend(*a))
    with torch.inference_mode():
        list(SharedForward(Slices(supernet), [one, other, one]).logits(torch.rand(2, 1, 16, 16)))
    assert len(calls) == 3


def test_an_architecture_of_another_space_is_refused(supernet):
    with pytest.raises(ConfigError):
        SharedForward(Slices(supernet), [Architecture(50, (1, 2, 3), (2, 3, 4))])


@pytest.fixture(scope="module")
def full(supernet, images, tmp_path_factory):
    return search(supernet, images, tmp_path_factory.mktemp("full"))


def test_the_metrics_do_not_depend_on_evaluating_together(supernet, images, full, monkeypatch, tmp_path):
    monkeypatch.setattr("nni_autoformer.search.strategy.supernet_of", lambda model: None)  # one by one
    evolution, rows = search(supernet, images, tmp_path)
    assert rows == full[1] and all(0 < row["loss"] < 20 for row in rows)
    assert evolution.ranking() == full[0].ranking()


@pytest.mark.parametrize("when", [1, 6, 11])
def test_a_generation_that_is_killed_goes_on_as_if_it_had_not_been(
    supernet, images, full, tmp_path, monkeypatch, when
):
    monkeypatch.setattr(module, "SAVE_INTERVAL", 0)
    evaluated, killed = [], []
    evaluate = module.Generations._evaluate

    def interrupted(self, population, rows, start, stop, bar):
        if len(evaluated) == when - 1 and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        evaluated.append(len(rows) * (stop - start))
        evaluate(self, population, rows, start, stop, bar)

    monkeypatch.setattr(module.Generations, "_evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(supernet, images, tmp_path)
    _, rows = search(supernet, images, tmp_path)
    assert rows == full[1]
    assert sum(evaluated) == sum(row["images"] for row in rows)  # nothing was evaluated twice


def test_a_search_interrupted_between_answers_goes_on(supernet, images, full, tmp_path, monkeypatch):
    from nni_autoformer.search.folder import SearchFolder

    record = SearchFolder.record

    def stop(self, entry):
        record(self, entry)
        if self.searcher.ledger.answered == 15:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SearchFolder, "record", stop)
        with pytest.raises(KeyboardInterrupt):
            search(supernet, images, tmp_path)
    assert search(supernet, images, tmp_path)[1] == full[1]


def test_without_its_outcomes_a_generation_is_evaluated_again(supernet, images, full, tmp_path, monkeypatch):
    from nni_autoformer.search.folder import SearchFolder

    save = SearchFolder.save

    def stop(self):
        save(self)
        if self.searcher.ledger.answered == 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SearchFolder, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            search(supernet, images, tmp_path)
    (tmp_path / "outcomes.npz").write_bytes(b"damaged")
    assert search(supernet, images, tmp_path)[1] == full[1]


def test_outcomes_come_back_from_a_file_of_the_same_setting(tmp_path):
    rng = np.random.default_rng(0)
    outcomes = Correctness(13, {"precision": "fp32", "of": (1, 2)})
    architectures = sampled(4)
    rows = outcomes.rows(architectures[:3])
    outcomes.first[rows], outcomes.seen[rows] = rng.random((3, 13)) < 0.5, [13, 5, 0]
    outcomes.five |= outcomes.first
    outcomes.losses[0], outcomes.losses[1, :5] = rng.random(13), [0.25, 0.5, 1, 2, 0.125]
    outcomes.broken[1] = True
    outcomes.keep(architectures[1:])
    outcomes.save(tmp_path / "o.npz")
    again = Correctness(13, {"precision": "fp32", "of": (1, 2)})
    assert again.load(tmp_path / "o.npz")
    assert again.architectures == architectures[1:3]
    for name in ("first", "five", "losses", "seen", "broken"):
        assert np.array_equal(getattr(again, name), getattr(outcomes, name))
    assert again.rows([architectures[3], architectures[1]]).tolist() == [2, 0]
    assert again.broken.tolist() == [True, False, False]
    right, among_five = 20.0 * again.first[0].sum(), 20.0 * again.five[0].sum()
    assert again.accuracy(0) == Accuracy(right, among_five, 5, 0.775)
    assert not Correctness(13, {"precision": "bf16", "of": (1, 2)}).load(tmp_path / "o.npz")
    assert not Correctness(13).load(tmp_path / "missing.npz")


def test_a_batch_that_does_not_fit_is_halved_unless_the_user_chose_it():
    done = []

    def step(start, end):
        if end - start > 3:
            raise torch.OutOfMemoryError
        done.append((start, end))

    Batches(16, fixed=False).run(step, 0, 5)
    assert done == [(0, 2), (2, 4), (4, 5)]
    with pytest.raises(ConfigError, match=r"--batch-size 16: the device has too little memory"):
        Batches(16).run(step, 0, 5)


def test_the_automatic_batch_size_shrinks_with_the_network():
    sizes = []
    for name in ("digits", "cifar", "tiny", "base"):
        space = SearchSpace.load(name)
        sizes.append(auto_batch_size(space.architecture("largest"), space.model, torch.device("cpu")))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 256 and sizes[-1] >= 1 and all(size & (size - 1) == 0 for size in sizes)

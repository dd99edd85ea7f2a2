"""A generation together gives what each candidate gives alone; a race can be killed at any moment."""

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
from nni_autoformer.cli import main
from nni_autoformer.errors import ConfigError
from nni_autoformer.experiment import run_experiment
from nni_autoformer.nn import block
from nni_autoformer.search import generation as module
from nni_autoformer.search.batch_size import Batches, auto_batch_size
from nni_autoformer.search.correctness import Correctness
from nni_autoformer.search.racing import Racing
from nni_autoformer.search.shared_forward import SharedForward, Slices, half_layers

SPACE = SearchSpace.load("digits")
CONFIG = EvolutionConfig(10, 3, 5, 3, 3, seed=2)


def search(supernet, images, folder, racing=None, batch_size=64):
    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), batch_size, device="cpu")
    evolution = Evolution(SPACE, config=CONFIG)
    strategy = EvolutionStrategy(evolution, folder, progress=False, racing=racing)
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


@pytest.fixture(scope="module")
def raced(supernet, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raced")
    return *search(supernet, images, folder, Racing(0.9)), folder


def test_the_metrics_do_not_depend_on_evaluating_together(supernet, images, full, monkeypatch, tmp_path):
    monkeypatch.setattr("nni_autoformer.search.strategy.supernet_of", lambda model: None)  # one by one
    evolution, rows = search(supernet, images, tmp_path)
    assert rows == full[1]
    assert evolution.ranking() == full[0].ranking()


def test_a_race_spares_images_and_finds_the_same(full, raced):
    evolution, rows, _ = raced
    assert [row["architecture"] for row in rows] == [row["architecture"] for row in full[1]]
    stopped = [row for row in rows if row.get("stopped")]
    assert len(stopped) == evolution.stopped > 3
    for row in stopped:
        assert row["accuracy"] is None and 0 < row["images"] < 320 and 0 <= row["top1"] <= row["top5"]
    for row in rows:
        assert row.get("stopped") or row["images"] == 320
    # the winner and the parents to be, measured on all images
    assert evolution.ranking()[:3] == full[0].ranking()[:3]
    numbers = {candidate.number for candidate, _ in evolution.ranking()}
    assert not numbers & {row["number"] for row in stopped}


@pytest.mark.parametrize("when", [1, 6, 17, 30])
def test_a_race_that_is_killed_goes_on_as_if_it_had_not_been(
    supernet, images, raced, tmp_path, monkeypatch, when
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
        search(supernet, images, tmp_path, Racing(0.9))
    _, rows = search(supernet, images, tmp_path, Racing(0.9))
    assert rows == raced[1]
    assert sum(evaluated) == sum(row["images"] for row in rows)  # nothing was evaluated twice


def test_a_race_interrupted_between_answers_goes_on(supernet, images, raced, tmp_path, monkeypatch):
    from nni_autoformer.search.folder import SearchFolder

    record = SearchFolder.record

    def stop(self, entry):
        record(self, entry)
        if self.searcher.ledger.answered == 15:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SearchFolder, "record", stop)
        with pytest.raises(KeyboardInterrupt):
            search(supernet, images, tmp_path, Racing(0.9))
    (tmp_path / "outcomes.npz").read_bytes()
    assert search(supernet, images, tmp_path, Racing(0.9))[1] == raced[1]


def test_without_its_outcomes_a_search_evaluates_the_best_again(
    supernet, images, raced, tmp_path, monkeypatch
):
    from nni_autoformer.search.folder import SearchFolder

    save = SearchFolder.save

    def stop(self):
        save(self)
        if self.searcher.ledger.answered == 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SearchFolder, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            search(supernet, images, tmp_path, Racing(0.9))
    (tmp_path / "outcomes.npz").write_bytes(b"damaged")
    assert search(supernet, images, tmp_path, Racing(0.9))[1] == raced[1]


def test_racing_needs_a_supernet_in_this_process(images, tmp_path):
    from nni_autoformer import AutoFormer

    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), device="cpu")
    strategy = EvolutionStrategy(Evolution(SPACE, config=CONFIG), progress=False, racing=Racing())
    with pytest.raises(ConfigError, match="racing: candidates can only race in one process"):
        run_experiment(AutoFormer(SPACE), evaluator, strategy, tmp_path)


def test_outcomes_come_back_from_a_file_of_the_same_setting(tmp_path):
    rng = np.random.default_rng(0)
    outcomes = Correctness(13, {"precision": "fp32", "of": (1, 2)})
    architectures = sampled(4)
    rows = outcomes.rows(architectures[:3])
    outcomes.first[rows], outcomes.seen[rows] = rng.random((3, 13)) < 0.5, [13, 5, 0]
    outcomes.five |= outcomes.first
    outcomes.stopped[1] = True
    outcomes.keep(architectures[1:])
    outcomes.save(tmp_path / "o.npz")
    again = Correctness(13, {"precision": "fp32", "of": (1, 2)})
    assert again.load(tmp_path / "o.npz")
    assert again.architectures == architectures[1:3]
    for name in ("first", "five", "seen", "stopped"):
        assert np.array_equal(getattr(again, name), getattr(outcomes, name))
    assert again.rows([architectures[3], architectures[1]]).tolist() == [2, 0]
    assert again.stopped.tolist() == [True, False, False]
    assert again.shares(0) == (20.0 * again.first[0].sum(), 20.0 * again.five[0].sum(), 5)
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


def test_racing_on_the_command_line(toy, tmp_path, capsys):
    flags = f"search --data {toy}/images --checkpoint {toy}/run/supernet.safetensors --device cpu --seed 1"
    small = "--population-size 5 --num-mutations 2 --num-crossovers 1 --num-parents 2 --generations 2"
    command = [*flags.split(), *small.split(), "--output", str(tmp_path / "s")]
    assert main([*command, "--racing", "--racing-confidence", "0.5"]) == 0
    text = (tmp_path / "s" / "summary.txt").read_text()
    assert "out of the best 2 with 50 % confidence" in text
    rows = [json.loads(line) for line in (tmp_path / "s" / "candidates.jsonl").read_text().splitlines()]
    seen = sum(row["images"] for row in rows)
    assert f"image evaluations              {seen} of 120 (" in text
    capsys.readouterr()
    assert main([*command, "--resume"]) == 2
    assert "racing was 0.5 when the run began and is None now" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, sentence",
    [
        ("--racing-confidence 0.9", "--racing-confidence needs --racing."),
        (
            "--racing --racing-confidence 1",
            "--racing-confidence is 1.0; it should be at least 0.5",
        ),
        ("--racing --engine nni", "--racing needs --engine sequential"),
    ],
)
def test_racing_flags_that_cannot_be(toy, tmp_path, capsys, flags, sentence):
    base = f"search --data {toy}/images --checkpoint {toy}/run/supernet.safetensors --output {tmp_path}/s"
    assert main([*base.split(), *flags.split()]) == 2
    assert sentence in capsys.readouterr().err

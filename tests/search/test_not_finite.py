"""A network whose logits are NaN or infinite has no accuracy: it is never crowned, and nobody's parent."""

import json

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
from nni_autoformer.data import DecodedImages
from nni_autoformer.errors import ConfigError
from nni_autoformer.experiment import run_experiment
from nni_autoformer.model import build_supernet
from nni_autoformer.search.accuracy import measure
from nni_autoformer.search.correctness import Correctness
from nni_autoformer.search.driver import SearchDriver
from nni_autoformer.search.ledger import Status

SPACE = SearchSpace.load("digits")
CONFIG = EvolutionConfig(6, 2, 2, 2, 2, seed=4)


@pytest.fixture
def broken(supernet):
    """A supernet whose widest subnets overflow."""
    net = build_supernet(SPACE, seed=1)
    net.load_state_dict(supernet.state_dict())
    with torch.no_grad():
        net.norm.weight[-1] = float("inf")
    return net.eval()


def widest(architecture):
    return architecture.embed_dim == max(SPACE.embed_dim)


def test_such_candidates_fail_and_the_search_goes_on(broken, images, tmp_path):
    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), 64, device="cpu")
    strategy = EvolutionStrategy(Evolution(SPACE, config=CONFIG), tmp_path, progress=False)
    run_experiment(broken, evaluator, strategy, tmp_path)
    entries = list(strategy.evolution.ledger)
    assert len(entries) == 12 and all(entry.status.answered for entry in entries)
    wide = [entry for entry in entries if widest(entry.candidate.architecture)]
    assert 0 < len(wide) < 12
    assert {entry.status for entry in wide} == {Status.FAILED}
    assert not any(entry.status is Status.FAILED for entry in entries if entry not in wide)
    rows = [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()]
    failed = [row["number"] for row in rows if row.get("failed")]
    assert sorted(failed) == [entry.candidate.number for entry in wide]
    assert not widest(Architecture.from_yaml(tmp_path / "best.yaml"))
    assert "NaN or infinite, so it has no accuracy" in strategy.engine.error


def test_when_no_candidate_has_an_accuracy_the_sentence_says_why(broken, images, tmp_path):
    with torch.no_grad():
        broken.norm.weight.fill_(float("nan"))
    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), 64, device="cpu", precision="bf16")
    strategy = EvolutionStrategy(Evolution(SPACE, config=CONFIG), progress=False)
    with pytest.raises(
        ConfigError, match=r"every trial has failed .* logits are NaN or infinite, so it has no"
    ):
        run_experiment(broken, evaluator, strategy, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [(0, 0), (4, 6)])
def test_a_single_logit_that_is_not_finite(value, place):
    images = DecodedImages(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2, 6, 6]))
    logits = torch.arange(35.0).reshape(5, 7)
    logits[place] = value
    seen = iter(logits.split(2))
    with pytest.raises(ConfigError, match="the network's logits are NaN or infinite, so it has no accuracy"):
        measure(lambda x: next(seen), images, (0.0,), (1.0,), batch_size=2)


def test_a_hint_where_another_precision_may_help(broken):
    images = DecodedImages(torch.zeros(2, 1, 16, 16, dtype=torch.uint8), torch.tensor([0, 1]))
    broken.set_architecture(SPACE.architecture("largest"))
    with pytest.raises(ConfigError, match="no accuracy; --precision bf16 or fp32 may help"):
        measure(broken, images, (0.5,), (0.5,), precision="fp16")


@pytest.mark.parametrize(
    "metric",
    [
        float("nan"),
        float("inf"),
        {"default": float("nan")},
        {},
        {"default": "high"},
        None,
        "high",
        [1.0],
        True,
        10**400,
    ],
)
def test_a_trials_result_that_is_no_finite_number_gives_the_candidate_up(metric, tmp_path):
    driver = SearchDriver(Evolution(SPACE, config=CONFIG), tmp_path)
    candidate = driver.next()
    assert driver.answer(candidate, metric)
    assert driver.ledger[candidate.number].status is Status.FAILED
    driver.ended(candidate, success=True)
    assert driver.next().number == 1
    again = SearchDriver(Evolution(SPACE, config=CONFIG), tmp_path)
    assert again.resume() and again.ledger.failed == 1


def test_details_are_written_as_json_has_them(tmp_path):
    driver = SearchDriver(Evolution(SPACE, config=CONFIG), tmp_path)
    metric = {
        "default": np.float32(50.5),
        "loss": float("nan"),
        "images": np.int64(12),
        "list": [1],
        "name": "a",
    }
    driver.answer(driver.next(), metric)
    (line,) = (tmp_path / "candidates.jsonl").read_text().splitlines()
    row = json.loads(line, parse_constant=pytest.fail)
    assert (row["accuracy"], row["loss"], row["images"], row["name"]) == (50.5, None, 12, "a")
    assert "list" not in row
    driver.answer(driver.next(), {"default": 1, "images": float("nan")})
    driver.answer(driver.next(), {"default": 1, "images": "all"})
    again = SearchDriver(Evolution(SPACE, config=CONFIG), tmp_path)
    assert again.resume() and again.ledger.told == 3


def test_damage_to_outcomes_is_noticed_and_means_evaluating_again(tmp_path):
    outcomes, rng = Correctness(13, {"precision": "fp32"}), np.random.default_rng(0)
    rows = outcomes.rows([SPACE.architecture("largest"), SPACE.smallest])
    outcomes.first[rows], outcomes.seen[rows] = rng.random((2, 13)) < 0.5, [13, 5]
    outcomes.broken[1] = True
    outcomes.save(tmp_path / "o.npz")
    whole = (tmp_path / "o.npz").read_bytes()
    refused = 0
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "o.npz").write_bytes(damaged)
        again = Correctness(13, {"precision": "fp32"})
        if again.load(tmp_path / "o.npz"):
            for name in ("first", "five", "losses", "seen", "broken"):
                assert np.array_equal(getattr(again, name), getattr(outcomes, name))
        else:
            refused += 1
            assert again.architectures == [] and len(again.seen) == 0
    assert refused > 100
    (tmp_path / "o.npz").write_bytes(whole)
    assert Correctness(13, {"precision": "fp32"}).load(tmp_path / "o.npz")

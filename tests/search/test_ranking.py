"""The one order of candidates: by accuracy, then loss, then cost, then the order of asking."""

import json
import random

import pytest

from nni_autoformer import Architecture, ConfigError, Evolution, EvolutionConfig, SearchSpace, jobs
from nni_autoformer.cli import main
from nni_autoformer.complexity import macs, params
from nni_autoformer.report.results import read_series
from nni_autoformer.search.driver import SearchDriver
from nni_autoformer.search.evaluation import Evaluation
from nni_autoformer.search.evolution import Candidate, Limits
from nni_autoformer.search.random_search import RandomConfig, RandomSearch
from nni_autoformer.search.tuner import EvolutionTuner

SPACE = SearchSpace.load("digits")
SMALL = {"population_size": 6, "num_parents": 2, "num_mutations": 3, "num_crossovers": 2, "generations": 3}


def told(answers, rank_by="top1", limits=Limits()):
    """A search whose first candidates have these answers: accuracy, and loss or None."""
    search = RandomSearch(SPACE, limits, RandomConfig(len(answers), 1, rank_by=rank_by))
    asked = [search.ask() for _ in answers]
    for candidate, (accuracy, loss) in reversed([*zip(asked, answers)]):
        search.tell(candidate.number, accuracy, None if loss is None else {"loss": loss})
    return search


def numbers(search):
    return [candidate.number for candidate, _ in search.ranking()]


def test_accuracy_then_loss_and_what_is_not_known_last():
    answers = [(90.0, 0.5), (91.0, 0.9), (90.0, None), (90.0, 0.4), (91.0, 0.8)]
    assert numbers(told(answers)) == [4, 1, 3, 0, 2]
    assert numbers(told(answers, "loss")) == [3, 0, 4, 1, 2]


@pytest.mark.parametrize(
    ("limits", "costs"),
    [
        (Limits(), [params]),
        (Limits(max_params=0.4), [params]),
        (Limits(max_macs=0.02), [macs]),
        (Limits(min_macs=0.0001, max_params=0.4), [params, macs]),
    ],
)
def test_equal_ones_by_what_is_limited(limits, costs):
    search = told([(50.0, 0.25)] * 20, limits=limits)
    keys = [(*(cost(c.architecture, SPACE.model) for cost in costs), c.number) for c, _ in search.ranking()]
    assert keys == sorted(keys) and len({key[0] for key in keys}) > 10


@pytest.mark.parametrize("loss", ["low", float("nan"), float("inf"), True, 10**400, [1.0]])
def test_a_trial_may_report_anything_as_its_loss(loss, tmp_path):
    driver = SearchDriver(Evolution(SPACE, config=EvolutionConfig(**SMALL)), tmp_path)
    driver.answer(driver.next(), {"default": 50.0, "loss": loss})
    driver.answer(driver.next(), {"default": 50.0, "loss": 0.5})
    assert driver.ledger[0].loss is None and driver.ledger.best()[0].number == 1
    again = SearchDriver(Evolution(SPACE, config=EvolutionConfig(**SMALL)), tmp_path)
    assert again.resume() and again.ledger.ranking() == driver.ledger.ranking()


def answer(architecture):
    """Many equal accuracies, and losses that differ."""
    rng = random.Random(repr(architecture))
    return {"default": float(rng.randrange(3)), "loss": round(rng.random(), 1), "images": 9}


def drive(folder, rank_by, concurrency=1, until=100):
    driver = SearchDriver(Evolution(SPACE, config=EvolutionConfig(**SMALL, rank_by=rank_by)), folder)
    driver.resume()
    rng, out = random.Random(concurrency), []
    while until:
        while len(out) < concurrency and isinstance(step := driver.next(), Candidate):
            out.append(step)
        if not out:
            break
        candidate = out.pop(rng.randrange(len(out)))
        driver.answer(candidate, answer(candidate.architecture))
        until -= 1
    return driver


@pytest.mark.parametrize("rank_by", ["top1", "loss"])
def test_the_same_search_at_any_concurrency_and_after_a_kill(tmp_path, rank_by):
    whole = drive(tmp_path / "1", rank_by).ledger.ranking()
    assert drive(tmp_path / "4", rank_by, concurrency=4).ledger.ranking() == whole
    drive(tmp_path / "cut", rank_by, concurrency=3, until=8)
    assert drive(tmp_path / "cut", rank_by).ledger.ranking() == whole
    other = drive(tmp_path / "other", {"top1": "loss", "loss": "top1"}[rank_by]).ledger.ranking()
    assert [c.architecture for c, _ in other] != [c.architecture for c, _ in whole]
    # what NNI's strategy stores has no details, and still the losses
    again = Evolution(SPACE, config=EvolutionConfig(**SMALL, rank_by=rank_by))
    again.load_state_dict(json.loads(json.dumps(drive(tmp_path / "1", rank_by).searcher.state_dict())))
    assert again.ranking() == whole


def test_parents_are_those_of_the_ranking(tmp_path):
    driver = drive(None, "loss", until=6)
    driver.next()
    best = sorted((answer(e.candidate.architecture)["loss"], -e.accuracy) for e in list(driver.ledger)[:6])
    parents = [driver.ledger.find(parent) for parent in driver.searcher.parents()]
    assert [(entry.loss, -entry.accuracy) for entry in parents] == best[:2]


def test_a_wrong_word_names_the_flag():
    for config in (EvolutionConfig, RandomConfig):
        with pytest.raises(ConfigError, match="--rank-by is size; it should be one of top1, loss"):
            config(rank_by="size")
    with pytest.raises(ConfigError, match="classArgs: rank_by is 'size'; it should be one of top1, loss"):
        EvolutionTuner(space="digits", rank_by="size")
    assert EvolutionTuner(space="digits", rank_by="loss").evolution.config.rank_by == "loss"


# A real search


@pytest.fixture(scope="module")
def by_loss(toy, tmp_path_factory):
    output = tmp_path_factory.mktemp("by-loss") / "s"
    flags = f"search --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    small = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in SMALL.items())
    assert main(f"{flags} {small} --rank-by loss --output {output}".split()) == 0
    return output


def test_summary_winner_and_figure_are_of_one_ranking(by_loss):
    rows = [json.loads(line) for line in (by_loss / "candidates.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: (row["loss"], -row["accuracy"], row["params"], row["number"]))
    assert best["accuracy"] < max(row["accuracy"] for row in rows)  # else it shows nothing
    assert Architecture.from_yaml(by_loss / "best.yaml").to_dict() == best["architecture"]
    assert f"{best['loss']:.4f}" in (by_loss / "summary.txt").read_text()
    assert read_series(str(by_loss)).best().costs["params"] == best["params"]


def test_a_trial_measures_the_same_loss(toy, by_loss):
    """In other batches: twelve images together, and a plain subnet on five at a time."""
    rows = [json.loads(line) for line in (by_loss / "candidates.jsonl").read_text().splitlines()]
    for row in rows[::5]:
        tested = jobs.test(
            toy / "run" / "supernet.safetensors",
            toy / "images",
            architecture=Architecture.from_dict(row["architecture"]),
            split="selection",
            evaluation=Evaluation(device="cpu", batch_size=5),
        )
        assert tested.loss == row["loss"]
        assert tested.metric["loss"] == row["loss"]

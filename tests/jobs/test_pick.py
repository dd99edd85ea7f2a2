"""Picking from what a search or a sample has left, with made-up accuracies: nothing is evaluated."""

import json
import shutil

import pytest

from nni_autoformer import ConfigError, SearchSpace
from nni_autoformer.cli import main
from nni_autoformer.costs import COSTS
from nni_autoformer.deployment import Deployment
from nni_autoformer.jobs import pick
from nni_autoformer.jobs.sample_folder import SampleFolder
from nni_autoformer.search.driver import SearchDriver
from nni_autoformer.search.evolution import Candidate, Evolution, EvolutionConfig, Limits
from nni_autoformer.search.random_subnets import SampledSubnet, draw_subnets

DIGITS = SearchSpace.load("digits")
CONFIG = EvolutionConfig(population_size=10, generations=3)


def accuracy_of(architecture):
    """Grows with the size, in steps, so that candidates tie."""
    return float(COSTS["params"].value(architecture, DIGITS.model) // 25_000)


def loss_of(architecture):
    """The other way round, so that a ranking by loss picks another one."""
    return COSTS["params"].value(architecture, DIGITS.model) / 1e6


def searched(folder, answers=30, config=CONFIG):
    """The folder of a search with so many answers."""
    searcher = Evolution(DIGITS, Limits(), config)
    driver = SearchDriver(searcher, folder)
    for _ in range(answers):
        candidate = driver.next()
        assert isinstance(candidate, Candidate)
        found = {"default": accuracy_of(candidate.architecture), "loss": loss_of(candidate.architecture)}
        driver.answer(candidate, {**found, "images": 60})
    return searcher


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pick") / "search"
    folder.mkdir()
    return folder, searched(folder)


@pytest.fixture
def copied(search, tmp_path):
    folder, searcher = search
    return shutil.copytree(folder, tmp_path / "search"), searcher


def within(searcher, name, low, high):
    entries = [
        (COSTS[name].value(entry.candidate.architecture, DIGITS.model) / COSTS[name].scale, entry)
        for entry in searcher.ledger
    ]
    return [entry for value, entry in entries if low <= value <= high]


@pytest.mark.parametrize(
    ("name", "low", "high"), [("params", 0, 0.2), ("params", 0.15, 0.22), ("memory", 0, 1.2)]
)
def test_it_is_the_best_within_the_limits(copied, name, low, high):
    folder, searcher = copied
    picked = pick(folder, limits=Limits(**{f"min_{name}": low, f"max_{name}": high}))
    members = within(searcher, name, low, high)
    assert 0 < len(members) < 30 and picked.chosen_from == len(members)
    best = max(entry.accuracy for entry in members)
    ties = [entry for entry in members if entry.accuracy == best]
    expected = min(ties, key=lambda entry: entry.details["loss"]).candidate
    assert (picked.number, picked.architecture, picked.accuracy) == (
        expected.number,
        expected.architecture,
        best,
    )
    assert picked.complete and picked.split == "selection"
    assert picked.costs["params"] == COSTS["params"].value(expected.architecture, DIGITS.model)
    assert picked.file == folder / "picked" / f"{expected.number}.yaml"
    assert DIGITS.architecture(picked.file) == expected.architecture
    assert pick(folder, limits=Limits(**{f"max_{name}": high, f"min_{name}": low})) == picked


def test_without_limits_it_is_the_winner_and_by_loss_another(copied):
    folder, searcher = copied
    assert pick(folder).accuracy == searcher.ledger.best()[1]
    losses = {entry.candidate.number: entry.details["loss"] for entry in searcher.ledger}
    assert pick(folder, rank_by="loss").number == min(losses, key=losses.get)


def test_the_memory_is_that_of_the_deployment_that_is_asked_for(copied):
    folder, _ = copied
    one = pick(folder).costs["memory"]
    assert pick(folder, deployment=Deployment(8, "fp32")).costs["memory"] > one
    run = {
        "job": "search",
        "status": "finished",
        "config": {"deployment": {"deploy_batch_size": 8, "deploy_precision": None}},
    }
    (folder / "run.json").write_text(json.dumps(run))
    assert pick(folder).costs["memory"] == pick(folder, deployment=Deployment(8, "fp32")).costs["memory"]


def test_the_command_tells_all_of_it_and_names_the_next_one(copied, capsys, tmp_path):
    folder, _ = copied
    (folder / "supernet.safetensors").write_text("")
    file = tmp_path / "mine.yaml"
    assert main(["pick", "--search", str(folder), "--max-params", "0.2", "--output", str(file)]) == 0
    told = capsys.readouterr()
    assert (
        "top-1 on the selection images  7.00 %" in told.out and "MACs" in told.out and str(file) in told.out
    )
    assert f"Next: nni-autoformer test --checkpoint {folder}/supernet.safetensors --architecture {file}" in (
        told.err
    )
    assert file.read_text().startswith("# Best of ")
    assert main(["pick", "--search", str(folder), "--output", str(file)]) == 2
    assert "mine.yaml exists already; give another name" in capsys.readouterr().err


def test_an_unfinished_search_says_so(tmp_path, capsys):
    searched(tmp_path, answers=14)
    assert main(["pick", "--search", str(tmp_path)]) == 0
    assert "the search is not complete: 14 of 30 subnets have an accuracy so far" in capsys.readouterr().err


def test_limits_that_none_meets_name_the_nearest(copied, capsys):
    folder, searcher = copied
    sizes = [COSTS["params"].value(e.candidate.architecture, DIGITS.model) / 1e6 for e in searcher.ledger]
    assert main(["pick", "--search", str(folder), "--max-params", "0.05"]) == 2
    told = capsys.readouterr().err
    assert "none of its 30 evaluated subnets meets the limits" in told
    assert (
        f"has {min(sizes):.6g} M parameters, and --max-params is 0.05 (they have {min(sizes):.6g} to" in told
    )
    assert main(["pick", "--search", str(folder), "--max-params", "0.1", "--min-macs", "0.002"]) == 2
    told = capsys.readouterr().err
    assert "--max-params" in told or "--min-macs" in told
    assert not (folder / "picked").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--max-params", "-1"], "--max-params is -1.0; it should be a finite number, 0 or more"),
        (["--max-latency", "3"], "--max-latency needs a latency table"),
        (["--max-latency", "3", "--latency-table", "missing.yaml"], "missing.yaml"),
        (["--rank-by", "size"], "should be one of top1, loss"),
    ],
)
def test_bad_input_is_a_sentence(copied, capsys, flags, sentence):
    try:
        status = main(["pick", "--search", str(copied[0]), *flags])
    except SystemExit as error:  # argparse's own
        status = error.code
    told = capsys.readouterr().err
    assert status == 2 and sentence in told and "Traceback" not in told


def test_latencies_that_the_search_has_listed_are_limits_too(copied):
    folder, searcher = copied
    rows = [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]
    listed = [{**row, "latency": 1 + row["number"] / 10} for row in rows]
    text = "".join(json.dumps(row) + "\n" for row in listed)
    (folder / "candidates.jsonl").write_text(text + '{"number": 3')  # a kill has cut the last line
    picked = pick(folder, limits=Limits(max_latency=1.9))
    assert picked.chosen_from == 10 and picked.costs["latency"] == 1 + picked.number / 10
    assert picked.accuracy == max(entry.accuracy for entry in list(searcher.ledger)[:10])
    (folder / "candidates.jsonl").write_text(text.split("\n", 1)[1])
    with pytest.raises(ConfigError, match="--max-latency needs a latency table"):
        pick(folder, limits=Limits(max_latency=1.9))


def test_folders_that_hold_nothing_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="there is no such folder"):
        pick(tmp_path / "none")
    with pytest.raises(ConfigError, match="neither the state of a search"):
        pick(tmp_path)
    searched(tmp_path, answers=0).ask()
    SearchDriver(Evolution(DIGITS, Limits(), CONFIG), tmp_path).folder.save()
    with pytest.raises(ConfigError, match="none of its subnets has an accuracy yet"):
        pick(tmp_path)


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("choices", {"embed_dim": []}, "embed_dim"),
        ("model", {"img_size": "x"}, "img_size"),
        ("evolution", {"generations": "many"}, "generations is 'many'"),
    ],
)
def test_a_damaged_setting_is_a_sentence(copied, part, value, sentence):
    folder, _ = copied
    state = json.loads((folder / "search.json").read_text())
    del state["checksum"]
    state["evolution"]["setting"][part].update(value)
    (folder / "search.json").write_text(json.dumps(state))
    with pytest.raises(ConfigError, match=sentence):
        pick(folder)


def test_it_picks_from_a_sample_too(tmp_path):
    subnets = [SampledSubnet(i, architecture, "") for i, architecture in enumerate(draw_subnets(DIGITS, 9))]
    files = SampleFolder(tmp_path, subnets, DIGITS)
    for subnet in subnets:
        top1 = accuracy_of(subnet.architecture)
        files.record(subnet.number % 2, subnet, {"top1": top1, "top5": 99.0, "images": 60, "split": "test"})
    running = pick(tmp_path, limits=Limits(max_params=0.2))
    assert not running.complete
    files.collect()
    picked = pick(tmp_path, limits=Limits(max_params=0.2))
    assert picked.complete and picked.split == "test" and picked.number == running.number
    allowed = [s for s in subnets if COSTS["params"].value(s.architecture, DIGITS.model) <= 200_000]
    assert picked.accuracy == max(accuracy_of(subnet.architecture) for subnet in allowed)
    with pytest.raises(ConfigError, match="does not say the latency of its subnets"):
        pick(tmp_path, limits=Limits(max_latency=3))

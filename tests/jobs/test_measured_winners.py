"""A search by a latency table: its winner is measured as a whole, and gives way when it is too slow."""

import csv
import json
from dataclasses import replace

import pytest
import yaml

from nni_autoformer import (
    Architecture,
    ConfigError,
    Evaluation,
    Evolution,
    EvolutionConfig,
    Limits,
    SearchSpace,
    jobs,
)
from nni_autoformer.checkpoints import Checkpoint
from nni_autoformer.cli import build_parser, main
from nni_autoformer.cli.search import algorithm_of
from nni_autoformer.deployment import Target
from nni_autoformer.jobs.measured_winners import MEASURED_FILE, MOST_MEASURED, MeasuredWinners, elsewhere
from nni_autoformer.latency.machine import machine
from nni_autoformer.latency_table import Measured

from ..latency_tables import invented

DIGITS = SearchSpace.load("digits")
SHORT = "--population-size 4 --num-mutations 2 --num-crossovers 1 --generations 2 --device cpu"


def table_of(space, here=True):
    table = invented(space)
    return replace(table, machine=machine(table.conditions)) if here else table


def complete(limit, table, count=12):
    """A search by a table with so many answers, each better than the one before; the best is the last."""
    target = Target(table=table, path="latency.yaml")
    limits = Limits(max_latency=limit)
    searcher = Evolution(DIGITS, limits, EvolutionConfig(count, 3, 0, 0, 1), target.costs(DIGITS))
    for number in range(count):
        candidate = searcher.ask()
        searcher.tell(candidate.number, 50 + number)
    return searcher, target


class Clock:
    """Measures what it was told; the others are fast."""

    def __init__(self, slow=()):
        self.slow, self.asked = set(slow), []

    def __call__(self, table, architectures):
        self.asked.append(len(architectures))
        return [
            Measured(99.0, 98.0, 100.0) if entry in self.slow else Measured(2.0, 1.9, 2.1)
            for entry in architectures
        ]


def architectures(searcher, *numbers):
    return [searcher.ledger[number].candidate.architecture for number in numbers]


def test_a_winner_within_the_limit_stays(tmp_path):
    searcher, target = complete(4.0, table_of(DIGITS))
    clock = Clock()
    found = MeasuredWinners.take(searcher, target, tmp_path, measure=clock)
    assert found.winner.number == 11 and clock.asked == [1] and not found.replaced
    ((name, text),) = found.rows()
    predicted = target.table.predicted(found.winner.architecture)
    assert name == "latency measured" and text.startswith("2.00 ms (1.90 to 2.10); predicted ")
    assert f"predicted {predicted:.2f} ms" in text and "torch on cpu, batch size 1" in text


def test_a_winner_above_the_limit_gives_way_to_the_best_that_is_not(tmp_path):
    searcher, target = complete(4.0, table_of(DIGITS))
    clock = Clock(architectures(searcher, 11, 10))
    found = MeasuredWinners.take(searcher, target, tmp_path, measure=clock)
    assert found.winner.number == 9 and found.replaced and clock.asked == [1, 1, 1]
    rows = dict(found.rows())
    assert rows["limit of latency"] == (
        "candidate 9 is the best that measures within --max-latency 4; above it: 11 (99.00 ms), 10 (99.00 ms)"
    )
    assert rows["candidate 10"].startswith("99.00 ms")


def test_when_none_is_within_the_limit_that_is_said(tmp_path):
    searcher, target = complete(4.0, table_of(DIGITS))
    clock = Clock(architectures(searcher, *range(12)))
    found = MeasuredWinners.take(searcher, target, tmp_path, measure=clock)
    assert len(clock.asked) == MOST_MEASURED and found.winner.number == 11 and found.above
    assert dict(found.rows())["limit of latency"] == (
        "none of the best 10 candidates measures within --max-latency 4; the best one is reported. Search "
        "again with a lower limit."
    )


def test_every_member_of_a_front_is_measured_at_once(tmp_path):
    searcher, target = complete(4.0, table_of(DIGITS))
    members = [searcher.ledger[number].candidate for number in (1, 5, 11)]
    clock = Clock()
    found = MeasuredWinners.take(searcher, target, tmp_path, members, clock)
    assert clock.asked == [3] and set(found.times) == {1, 5, 11}
    assert [name for name, _ in found.rows()] == ["latency measured", "candidate 1", "candidate 5"]


def test_what_was_measured_before_a_kill_is_not_measured_again(tmp_path):
    searcher, target = complete(4.0, table_of(DIGITS))

    class Killed(Clock):
        def __call__(self, table, architectures):
            if self.asked:
                raise KeyboardInterrupt
            return super().__call__(table, architectures)

    slow = architectures(searcher, 11)
    with pytest.raises(KeyboardInterrupt):
        MeasuredWinners.take(searcher, target, tmp_path, measure=Killed(slow))
    clock = Clock(slow)
    found = MeasuredWinners.take(searcher, target, tmp_path, measure=clock)
    assert clock.asked == [1] and set(found.times) == {10, 11} and found.winner.number == 10
    again = MeasuredWinners.read(searcher, target, tmp_path)
    assert again.times == found.times and again.rows() == found.rows()


@pytest.mark.parametrize(
    ("key", "value"), [("candidate", 99), ("ms", "fast"), ("low", 1e9), ("architecture", {}), (None, 7)]
)
def test_a_damaged_file_of_measurements_is_an_error(tmp_path, key, value):
    searcher, target = complete(4.0, table_of(DIGITS))
    MeasuredWinners.take(searcher, target, tmp_path, measure=Clock())
    content = yaml.safe_load((tmp_path / MEASURED_FILE).read_text())
    if key is None:
        content["subnets"] = value
    else:
        content["subnets"][0][key] = value
    (tmp_path / MEASURED_FILE).write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=rf"{MEASURED_FILE}: subnets.* is .*; the file is damaged"):
        MeasuredWinners.read(searcher, target, tmp_path)


def test_on_another_machine_nothing_is_measured_and_it_says_what_to_do(tmp_path, caplog):
    searcher, target = complete(4.0, table_of(DIGITS, here=False))
    clock = Clock()
    found = MeasuredWinners.take(searcher, target, tmp_path, measure=clock)
    assert not clock.asked and found.winner.number == 11 and "processor here: " in elsewhere(target.table)
    ((_, text),) = found.rows()
    assert text.startswith("not measured, because processor here: ")
    assert "nni-autoformer latency --table latency.yaml --architecture" in text
    assert text in caplog.text
    assert not (tmp_path / MEASURED_FILE).exists()


# On the command line, with a real measurement


@pytest.fixture(scope="module")
def measured(toy, tmp_path_factory):
    """A finished search of the toy by a table of this machine, and the table's file."""
    root = tmp_path_factory.mktemp("measured")
    space = Checkpoint(toy / "run" / "supernet.safetensors").header.space
    table_of(space).save(root / "latency.yaml")
    assert main(command(toy, root, root / "search").split()) == 0
    return root


def command(toy, root, output, table="latency.yaml", limit="--max-latency 0.55"):
    checkpoint = f"search --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --output {output}"
    return f"{checkpoint} {SHORT} {limit} --latency-table {root}/{table}"


def test_a_search_by_a_table_measures_its_winner(toy, measured):
    output = measured / "search"
    rows = [json.loads(line) for line in (output / "candidates.jsonl").read_text().splitlines()]
    assert rows and all(0 < row["latency"] <= 0.55 for row in rows)
    (first, *_) = yaml.safe_load((output / MEASURED_FILE).read_text())["subnets"]
    assert first["low"] <= first["ms"] <= first["high"]
    summary = (output / "summary.txt").read_text()
    assert "latency measured" in summary and f"predicted {first['predicted']:.2f} ms" in summary
    best = Architecture.from_yaml(output / "best.yaml")
    assert best in [Architecture.from_dict(row["architecture"]) for row in rows]


def test_a_finished_search_opened_again_shows_the_same(toy, measured, capsys):
    output = measured / "search"
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    found = jobs.search(
        toy / "run" / "supernet.safetensors",
        toy / "images",
        output,
        limits=Limits(max_latency=0.55),
        latency_table=measured / "latency.yaml",
        algorithm=algorithm_of(build_parser().parse_args(command(toy, measured, output).split())),
        evaluation=Evaluation(device="cpu"),
        resume=True,
    )
    assert not found.fresh and found.deployed.times and found.winner == found.deployed.winner
    assert found.best.architecture == Architecture.from_yaml(output / "best.yaml")
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


def test_a_resume_with_another_table_is_refused(toy, measured, capsys):
    table = invented(Checkpoint(toy / "run" / "supernet.safetensors").header.space)
    replace(table, offset=0.26).save(measured / "other.yaml")
    words = command(toy, measured, measured / "search", "other.yaml").split()
    assert main([*words, "--resume"]) == 2
    assert "cannot be resumed: deployment.latency table was " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("damage", "checksum does not fit the content"),
        ("foreign", "the table is of another space"),
        ("no table", "format is None; a latency table"),
        ("--max-latency 0.1", "--max-latency 0.1: no subnet meets this limit; the subnets of 'toy' have "),
        ("--deploy-batch-size 4", "--deploy-batch-size is 4, and"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error(toy, measured, tmp_path, capsys, change, words):
    text = (measured / "latency.yaml").read_text()
    (tmp_path / "latency.yaml").write_text(text)
    if change == "damage":
        (tmp_path / "latency.yaml").write_text(text.replace("offset: 0.25", "offset: 0.24"))
    if change == "foreign":
        invented(DIGITS).save(tmp_path / "latency.yaml")
    if change == "no table":
        (tmp_path / "latency.yaml").write_text("name: toy\n")
    flags = change if change.startswith("--") else ""
    assert main([*command(toy, tmp_path, tmp_path / "out").split(), *flags.split()]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


def test_every_member_of_a_search_that_trades_latency_is_measured(toy, measured, tmp_path):
    flags = "--max-latency 0.55 --pareto latency"
    assert main(command(toy, measured, tmp_path / "front", limit=flags).split()) == 0
    content = yaml.safe_load((tmp_path / "front" / MEASURED_FILE).read_text())
    numbers = {int(path.stem) for path in (tmp_path / "front" / "front").iterdir()}
    times = {row["candidate"]: row["ms"] for row in content["subnets"]}
    assert numbers <= set(times)
    rows = list(csv.DictReader((tmp_path / "front" / "front.csv").read_text().splitlines()))
    assert {int(row["number"]): float(row["measured_ms"]) for row in rows} == {
        number: times[number] for number in numbers
    }
    shown = (tmp_path / "front" / "summary.txt").read_text().split("\n\n")[1].splitlines()
    assert shown[0].split()[-2:] == ["latency", "measured"] and len(shown) == 1 + len(numbers)
    assert all(f"{float(row['measured_ms']):.2f} ms" in line for row, line in zip(rows, shown[1:]))


def test_a_test_and_a_sample_know_latency_too(toy, measured, tmp_path, capsys):
    best = measured / "search" / "best.yaml"
    data = f"--checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    table = f"--latency-table {measured}/latency.yaml"
    assert main(f"test {data} {table} --architecture {best} --json".split()) == 0
    printed = json.loads(capsys.readouterr().out)
    predicted = Target.of(path=measured / "latency.yaml").table.predicted(Architecture.from_yaml(best))
    assert printed["latency_ms"] == predicted and printed["memory_mb"] > 0
    limit = f"--max-latency 0.55 -n 3 --output {tmp_path}/sample"
    assert main(f"sample {data} {table} {limit}".split()) == 0
    rows = [json.loads(line) for line in (tmp_path / "sample" / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and all(row["latency"] <= 0.55 for row in rows)
    assert "latency" in (tmp_path / "sample" / "samples.csv").read_text().splitlines()[0]

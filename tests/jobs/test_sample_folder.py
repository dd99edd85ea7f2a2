"""The files of a sample: answers of several processes, cut off by kills."""

import csv
import json

import pytest

from nni_autoformer import Architecture, ConfigError, SearchSpace
from nni_autoformer.jobs.sample_folder import SampleFolder
from nni_autoformer.search.random_subnets import SampledSubnet, draw_subnets

SPACE = SearchSpace.load("digits")
SUBNETS = [SampledSubnet(number, architecture) for number, architecture in enumerate(draw_subnets(SPACE, 12))]
SUBNETS.append(SampledSubnet(12, SPACE.smallest, "small one"))


def answer(subnet):
    top1 = 50.0 + 3 * subnet.number % 7
    return {"top1": top1, "top5": 100.0, "images": 40, "split": "selection"}


@pytest.fixture
def folder(tmp_path):
    return SampleFolder(tmp_path, SUBNETS, SPACE)


def record(folder, size):
    for rank in range(size):
        for subnet in SUBNETS[rank::size]:
            folder.record(rank, subnet, answer(subnet))


@pytest.mark.parametrize("size", [1, 2, 3, 11])
def test_any_number_of_processes_gives_the_same_file(folder, tmp_path, size):
    record(folder, size)
    rows = folder.collect()
    assert [row["number"] for row in rows] == list(range(13))
    assert [row["accuracy"] for row in rows] == [answer(subnet)["top1"] for subnet in SUBNETS]
    assert [file.name for file in tmp_path.iterdir()] == ["samples.jsonl"]
    assert folder.collect() == rows
    other = tmp_path / "one"
    other.mkdir()
    one = SampleFolder(other, SUBNETS, SPACE)
    record(one, 1)
    one.collect()
    assert (other / "samples.jsonl").read_bytes() == (tmp_path / "samples.jsonl").read_bytes()


def test_every_cut_costs_at_most_the_answer_that_was_being_written(folder, tmp_path):
    record(folder, 2)
    part = tmp_path / "samples.1.jsonl"
    whole = part.read_bytes()
    first, second = (whole.index(b"\n") + 1, whole.index(b"\n", whole.index(b"\n") + 1) + 1)
    for length in range(first, second + 1, 7):
        part.write_bytes(whole[:length])
        (tmp_path / "samples.0.jsonl").unlink(missing_ok=True)
        (tmp_path / "samples.jsonl").unlink(missing_ok=True)
        expected = [1] if length < second else [1, 3]
        assert [row["number"] for row in folder.collect()] == expected


def test_a_kill_between_merging_and_deleting_does_no_harm(folder, tmp_path):
    record(folder, 2)
    part = (tmp_path / "samples.0.jsonl").read_bytes()
    rows = folder.collect()
    (tmp_path / "samples.0.jsonl").write_bytes(part)
    assert folder.collect() == rows


def test_damage_and_answers_of_other_subnets_are_sentences(folder, tmp_path):
    record(folder, 1)
    part = tmp_path / "samples.0.jsonl"
    text = part.read_text()
    part.write_text(text.replace("{", "?", 1))
    with pytest.raises(ConfigError, match=r"samples\.0\.jsonl, line 1: the answers are damaged here"):
        folder.collect()
    part.write_text(text)
    others = [SampledSubnet(s.number, a) for s, a in zip(SUBNETS, draw_subnets(SPACE, 12, seed=1))]
    for subnets in (others, SUBNETS[:5]):
        with pytest.raises(ConfigError, match="the answers are of other subnets than this run's"):
            SampleFolder(tmp_path, subnets, SPACE).collect()


def test_the_tables_say_what_the_answers_say(folder, tmp_path):
    record(folder, 1)
    rows = folder.collect()
    best, front = folder.tables(rows, 4)
    folder.write(rows, best, front)
    table = list(csv.DictReader((tmp_path / "samples.csv").read_text().splitlines()))
    assert [int(row["number"]) for row in table] == list(range(13))
    for line, row in zip(table, rows):
        assert float(line["top1"]) == row["top1"] and int(line["params"]) == row["params"]
        assert [int(heads) for heads in line["num_heads"].split()] == row["architecture"]["num_heads"]
    assert json.loads((tmp_path / "sizes.json").read_text()) == best
    assert json.loads((tmp_path / "pareto.json").read_text()) == front
    sizes = list(csv.DictReader((tmp_path / "sizes.csv").read_text().splitlines()))
    assert [int(row["number"]) for row in sizes] == [entry["best"]["number"] for entry in best]
    assert len(list(csv.DictReader((tmp_path / "pareto.csv").read_text().splitlines()))) == len(front)
    for row in [*(entry["best"] for entry in best), *front]:
        file = tmp_path / "architectures" / f"{row['number']}.yaml"
        assert Architecture.from_yaml(file).to_dict() == row["architecture"]
        assert f"{row['top1']:.2f} % with inherited weights on 40 selection images" in file.read_text()


def test_a_flipped_bit_is_noticed_or_changes_nothing(folder, tmp_path):
    record(folder, 1)
    rows = folder.collect()
    file = tmp_path / "samples.jsonl"
    whole = file.read_bytes()
    line = whole[: whole.index(b"\n") + 1]
    for place in range(0, 8 * len(line), 7):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        file.write_bytes(content)
        try:
            assert folder.collect() == rows
        except ConfigError as error:
            assert "samples.jsonl" in str(error)


@pytest.mark.parametrize(
    "line",
    ["[1]", "{}", "null", '{"number": true}', "[" * 5000, '{"number": 1e400}', '{"number": 0, "top1": 500}'],
)
def test_what_is_no_answer_is_a_sentence(folder, tmp_path, line):
    (tmp_path / "samples.0.jsonl").write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"samples\.0\.jsonl, line 1: the answers are damaged here"):
        folder.collect()


def test_answers_of_earlier_versions_have_no_checksum(folder, tmp_path):
    record(folder, 1)
    rows = folder.collect()
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert folder.collect() == rows

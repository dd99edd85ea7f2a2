"""A search for the whole trade-off through the command line, on real images: what it leaves, and that it goes
on after a stop.
"""

import csv
import json
from pathlib import Path

import pytest

from nni_autoformer.cli import main
from nni_autoformer.jobs import pick
from nni_autoformer.search.folder import SearchFolder
from nni_autoformer.search.limits import Limits
from tests.processes import finish, kill, start, wait_for
from tests.search.test_search import slowly

LEFT = ("candidates.jsonl", "best.yaml", "front.csv", "front.png", "candidates.png", "summary.txt")


def front_command(toy, output, *more):
    flags = f"search --space {toy}/space.yaml --data {toy}/images --checkpoint {toy}/run/supernet.safetensors"
    pace = f"--device cpu --population-size 6 --generations 3 --seed 1 --output {output}"
    return [*flags.split(), *pace.split(), "--pareto", "params", *more]


def content(folder):
    files = [*(folder / name for name in LEFT), *sorted((folder / "front").iterdir())]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def searched(toy, tmp_path_factory):
    output = tmp_path_factory.mktemp("front") / "s"
    assert main(front_command(toy, output)) == 0
    return output


def candidates(folder):
    return [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]


def test_it_leaves_the_front_of_its_candidates(searched):
    points = [(row["params"], -row["accuracy"]) for row in candidates(searched)]
    best = {
        point
        for point in points
        if not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)
    }
    rows = list(csv.DictReader((searched / "front.csv").open()))
    assert [(round(float(row["params_m"]) * 1e6), -float(row["accuracy"])) for row in rows] == sorted(best)
    for row in rows:
        candidate = candidates(searched)[int(row["number"])]
        share = candidate["accuracy"] / 100
        assert float(row["standard_error"]) == pytest.approx(100 * (share * (1 - share) / 12) ** 0.5)
        assert float(row["top5"]) == candidate["top5"]
        assert float(row["memory_mb"]) * 1e6 == pytest.approx(candidate["memory"])
        assert (searched / row["file"]).is_file()
    assert (searched / "front.png").read_bytes().startswith(b"\x89PNG")
    told = (searched / "summary.txt").read_text()
    head, *lines = told.split("\n\n")[1].splitlines()
    assert head.split() == ["front", "top-1", "%", "parameters", "MACs", "memory"]
    assert max(map(len, [head, *lines])) <= 80
    for row, line in zip(rows, lines, strict=True):
        assert line.split()[:3] == [row["file"], f"{float(row['accuracy']):.2f}", "±"]


def test_picking_from_it_needs_the_folder_alone(searched, tmp_path, capsys):
    rows = list(csv.DictReader((searched / "front.csv").open()))
    picked = pick(searched, limits=Limits(max_params=float(rows[0]["params_m"])), output=tmp_path / "p.yaml")
    assert picked.number == int(rows[0]["number"])
    capsys.readouterr()
    assert main(["plot", str(searched / "front.csv"), "--output", str(tmp_path / "f.png")]) == 0
    assert f"{max(float(row['accuracy']) for row in rows):.2f}" in capsys.readouterr().out


def test_a_stopped_one_goes_on_to_the_same_files(toy, searched, tmp_path, monkeypatch):
    record = SearchFolder.record

    def record_and_stop(self, entry):
        record(self, entry)
        if entry.candidate.number == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SearchFolder, "record", record_and_stop)
        assert main(front_command(toy, tmp_path / "s")) == 130
    assert not (tmp_path / "s" / "front.csv").exists()
    assert main(front_command(toy, tmp_path / "s", "--resume")) == 0
    assert content(tmp_path / "s") == content(searched)


@pytest.mark.parametrize("pareto", ["params,flops", "params,params", "params,macs,memory,latency", "latency"])
def test_what_cannot_be_traded_ends_before_any_work(toy, tmp_path, capsys, pareto):
    status = main(front_command(toy, tmp_path / "s", "--pareto", pareto))
    told = capsys.readouterr().err
    assert status == 2 and "--pareto" in told and "Traceback" not in told
    assert (
        "latency table" if pareto == "latency" else "one to three of params, macs, memory, latency"
    ) in told


@pytest.mark.slow
def test_a_killed_one_goes_on_to_the_same_files(toy, searched, tmp_path):
    output = tmp_path / "s"
    listed = output / "candidates.jsonl"
    process = start(front_command(toy, output), prepare=slowly)
    wait_for(lambda: listed.is_file() and len(candidates(output)) >= 8, process)
    kill(process)
    assert json.loads((output / "run.json").read_text())["status"] == "running"
    assert finish(start([*front_command(toy, output), "--resume"])) == 0
    assert content(output) == content(Path(searched))

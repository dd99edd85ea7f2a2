"""The replay benchmark runs on a table that takes no training, and the committed table is whole."""

import json

import numpy
import pytest

from benchmarks import replay
from benchmarks.replay_table import write
from nni_autoformer import SearchSpace


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A complete table of a small space."""
    folder = tmp_path_factory.mktemp("replay")
    content = SearchSpace.load(replay.SPACE).to_dict() | {"name": "small"}
    content["choices"] |= {"depth": [4]}
    space = SearchSpace.from_dict(content)
    space.to_yaml(folder / "space.yaml")
    rng = numpy.random.default_rng(0)
    top1 = [50 + a.embed_dim / 4 + sum(a.num_heads) - a.mlp_ratio[0] + rng.normal() for a in space]
    write(folder / "table.csv.gz", space, numpy.array(top1), numpy.ones(len(top1)))
    return folder


def test_every_searcher_is_played(table, tmp_path, capsys):
    file, figure = tmp_path / "result.json", tmp_path / "replay.png"
    flags = f"--tiny --rounds 1 --threads 1 --max-params 0.15 --json {file} --figure {figure}"
    where = ["--table", str(table / "table.csv.gz"), "--space", str(table / "space.yaml")]
    assert replay.main([*flags.split(), *where]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert {row["searcher"] for row in rows if "searcher" in row} == set(replay.SEARCHERS)
    best = rows[0]["best"]
    assert all(max(row["found"]) <= best for row in rows if "found" in row)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "evaluations until the median is" in capsys.readouterr().out


def test_the_committed_table_holds_every_subnet():
    task = replay.Task.load(replay.LIMITS[0])
    assert set(task.top1) == set(task.space)
    assert 0 < len(task.feasible) < len(task.top1)
    assert replay.TABLE.stat().st_size < 300_000

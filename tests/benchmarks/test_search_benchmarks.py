"""The benchmarks of search and loader run, at sizes that measure nothing."""

import json

import pytest


@pytest.mark.parametrize("name", ["search", "loader"])
def test_it_runs_and_writes_what_it_measured(name, tmp_path):
    module = pytest.importorskip(f"benchmarks.{name}")
    file = tmp_path / "result.json"
    assert module.main(["--tiny", "--rounds", "1", "--threads", "1", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["benchmark"] == name and result["tiny"]
    assert all(value > 0 for row in result["rows"] for case in row.get("s", {}).values() for value in case)
    if name == "search":
        assert [row["same"] for row in result["rows"] if "same" in row] == [True]
        assert sum("predicted" in row for row in result["rows"]) == 5

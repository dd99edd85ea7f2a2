"""The benchmarks that start processes of their own run, at sizes that measure nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import finish, start

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(*words):
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_what_a_trial_costs(tmp_path):
    flags = ("--way", "nnictl", "--trials", 1, "--json", tmp_path / "result.json")
    said = run("benchmarks.trial_cost", *flags)
    result = json.loads((tmp_path / "result.json").read_text())
    assert all(len(result["nnictl"][kind]) == 1 for kind in ("ours", "constant"))
    assert "nnictl         ours " in said
    assert "import torch" in result["split"]


def test_what_the_search_for_unused_parameters_costs(tmp_path):
    flags, said = "--space digits --batch-size 2 --blocks 1 --steps 1", tmp_path / "said"
    process = start(flags.split(), module="benchmarks.unused_parameters", output=said)
    assert finish(process) == 0 and "without " in said.read_text()

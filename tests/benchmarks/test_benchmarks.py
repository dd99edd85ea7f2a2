"""Every benchmark runs at a size that shows nothing but that, and writes what it prints."""

import importlib
import json
import pkgutil

import pytest
import torch

import benchmarks

NAMES = ["train_step", "eval_forward", "relative_position", "sampling", "growth"]


def run(name, tmp_path, capsys, *more):
    file = tmp_path / "result.json"
    arguments = ["--tiny", "--rounds", "1", "--threads", "1", "--json", str(file), *more]
    assert importlib.import_module(f"benchmarks.{name}").main(arguments) == 0
    printed = capsys.readouterr().out
    content = json.loads(file.read_text())
    assert content["benchmark"] == name
    assert content["versions"]["torch"] in printed
    assert content["rows"]
    assert all(row["text"] in printed for row in content["rows"])
    return content


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", NAMES)
def test_runs_and_writes_what_it_prints(name, tmp_path, capsys):
    content = run(name, tmp_path, capsys)
    for row in content["rows"]:
        assert all(len(values) == 1 for values in row.get("s", {}).values())


@pytest.mark.slow
def test_memory_runs_in_processes_of_its_own(tmp_path, capsys, monkeypatch):
    """Two of the networks; the other two are measured in this one."""
    from benchmarks import memory

    measured = ("ours", "hub")
    others = set(memory.NETWORKS) - set(measured)
    assert others == {"plain", "timm"}
    monkeypatch.setattr(memory, "NETWORKS", measured)
    (row,) = run("memory", tmp_path, capsys)["rows"]
    assert set(row["bytes"]) == set(measured)
    assert all(values["step"][0] > 0 for values in row["bytes"].values())
    assert all(memory.measure(name, "digits", row["subnet"], 8)["step"] > 0 for name in others)


def test_growth_draws_a_figure(tmp_path, capsys):
    run("growth", tmp_path, capsys, "--figure", str(tmp_path / "growth.png"))
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_gpus_says_that_there_is_none(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    from benchmarks import gpu

    assert gpu.main([]) == 2
    assert "needs a GPU" in capsys.readouterr().out


def test_every_benchmark_is_here():
    modules = {module.name for module in pkgutil.iter_modules(benchmarks.__path__)}
    helpers = {"common", "networks", "replay_table"}
    others = {
        "latency",
        "replay",
        "search",
        "loader",
        "trial_cost",
        "unused_parameters",
    }  # tested in the other files
    assert modules - helpers - others == {*NAMES, "memory", "gpu"}


def test_latency_is_measured_once_and_printed_again(tmp_path, capsys):
    from benchmarks import latency

    words = ["--work", str(tmp_path), "--space", "digits", "--runtime", "torch", "--batch-size", "1"]
    words += ["--rounds", "1", "--subnets", "5", "--threads", "1"]
    assert latency.main(words) == 0
    first = capsys.readouterr().out.splitlines()[-1]
    assert first.startswith("| torch | 1 |")
    assert latency.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == first

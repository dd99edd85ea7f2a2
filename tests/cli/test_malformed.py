"""Malformed values of every flag of every command: a sentence and exit code 2, or they are valid; never a
traceback, and nothing begins.
"""

import argparse
import contextlib
import io

import pytest

from nni_autoformer.cli import build_parser, main

VALUES = (
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "",
    " ",
    "none",
    "n" * 300,
    "[" * 5000,
    "$x_{$",
    "a\nb",
    "é\udcff",
)

BASES = {
    "train": "--space {toy}/space.yaml --data {toy}/images --output {out}",
    "retrain": "--space {toy}/space.yaml --architecture smallest --data {toy}/images --output {out}",
    "finetune": "--checkpoint {super} --architecture smallest --data {toy}/images --output {out}",
    "search": "--checkpoint {super} --data {toy}/images --output {out}",
    "sample": "--checkpoint {super} --data {toy}/images --output {out} -n 2",
    "test": "--checkpoint {super} --architecture smallest --data {toy}/images",
    "export": "--checkpoint {super} --architecture smallest --format safetensors --output {out}",
    "convert": "--checkpoint {super} --to supernet --output {out}",
    "info": "{super}",
    "space": "--space {toy}/space.yaml",
    "plot": "table.csv --output {out}.png",
    "launch": "{toy}/config.yml",
    "demo": "--output {out}",
}


def flags_of(command):
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    for action in commands[command]._actions:
        if action.option_strings and action.nargs != 0 and "--help" not in action.option_strings:
            yield next(name for name in action.option_strings if name.startswith("--")), action.nargs


@pytest.fixture
def nothing_begins(monkeypatch):
    """What costs time is left out; what is checked before it is not."""
    from nni_autoformer.jobs import evaluate, sample_subnets, search_supernet, whole_job
    from nni_autoformer.jobs.preparation import TrainJob

    def begun(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainJob, "run", begun)
    monkeypatch.setattr(search_supernet.Search, "into", begun)
    monkeypatch.setattr(sample_subnets.SampleJob, "evaluate", begun)
    monkeypatch.setattr(evaluate, "evaluated", begun)
    monkeypatch.setattr(whole_job, "open_splits", begun)


SOME = 2
"""Values that each flag gets outside of the slow tests; flags that follow each other get other ones."""


@pytest.mark.parametrize("command", BASES)
@pytest.mark.parametrize("first, last", [(0, SOME), pytest.param(SOME, len(VALUES), marks=pytest.mark.slow)])
def test_malformed_values(command, first, last, toy, tmp_path, nothing_begins, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some values are names of folders
    (tmp_path / "table.csv").write_text("name,params_m,macs_g,top1\na,5.9,1.2,76\nb,23,4.6,82\n")
    names = {"toy": toy, "super": toy / "run" / "supernet.safetensors"}
    wrong = []
    for number, (flag, nargs) in enumerate(flags_of(command)):
        for place in range(number * SOME + first, number * SOME + last):
            value = VALUES[place % len(VALUES)]
            base = BASES[command].format(out=tmp_path / f"{number}-{place}", **names).split()
            words = [command, *base, *([f"{flag}={value}"] if nargs != 2 else [flag, value, value])]
            said, told = io.StringIO(), io.StringIO()
            try:
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
                    code = main(words)
            except SystemExit as end:  # argparse's own complaint
                code = end.code
            except Exception as error:  # what a user would see as a traceback
                wrong.append(f"{flag} {value[:20]!r}: {type(error).__name__}: {str(error)[:100]}")
                continue
            error = told.getvalue()
            if code not in (0, 2, 130) or (code == 2 and ("Traceback" in error or "error: " not in error)):
                wrong.append(f"{flag} {value[:20]!r}: exit code {code}: {error[-200:]}")
    assert not wrong, "\n".join(wrong)

"""Help of one screen, mistakes that name what was meant, and completion."""

import subprocess

import pytest

from nni_autoformer.cli import build_parser, main

COMMANDS = {command.prog: command for command in build_parser().commands()}


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def printed(capsys, words):
    with pytest.raises(SystemExit) as ending:
        main(words.split())
    captured = capsys.readouterr()
    return captured.out if ending.value.code == 0 else captured.err


@pytest.mark.parametrize("prog", COMMANDS)
def test_help_is_one_screen_and_help_all_is_everything(prog, capsys):
    name = prog.removeprefix("nni-autoformer ")
    short = printed(capsys, f"{name} --help")
    assert short.count("\n") <= 40 and max(map(len, short.splitlines())) <= 80
    whole = printed(capsys, f"{name} --help-all")
    for action in COMMANDS[prog]._actions:
        assert not action.option_strings or action.option_strings[-1] in whole
        if action.required and action.option_strings:
            assert action.option_strings[-1] in short
    assert all(flag in short for flag in COMMANDS[prog].common)
    assert "-v, --verbose" in short and "-q, --quiet" in short and "--help-all" in short


def test_the_demo_comes_first(capsys):
    listed = printed(capsys, "--help").split("  COMMAND\n")[1]
    assert listed.split()[0] == "demo" and "    train " in listed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train --spce cifar", "nni-autoformer train: error: there is no flag --spce; did you mean --space?"),
        ("train --spce=cifar --output x", "there is no flag --spce; did you mean --space?"),
        ("data chek", "nni-autoformer data: error: there is no command 'chek'; did you mean check?"),
        ("data subset --rot x", "there is no flag --rot; did you mean --root?"),
        ("trian --space x", "nni-autoformer: error: there is no command 'trian'; did you mean train?"),
        ("frobnicate", "there is no command 'frobnicate'; nni-autoformer --help lists the commands."),
        ("space --zzz x", "there is no flag --zzz; nni-autoformer space --help-all shows all flags."),
        ("search --engine nnni", "argument --engine: 'nnni' is not known; did you mean nni?"),
        ("space --space tiny --format x", "'x' is not known; it should be one of table, yaml, nnictl, nas."),
        ("train", "required: --output. nni-autoformer train --help shows the common flags."),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, capsys):
    said = printed(capsys, words)
    assert said.count("\n") == 1 and sentence in said


@pytest.mark.parametrize("words", ["space --spa digits", "space --space=digits"])
def test_flags_may_be_cut_as_before(words, capsys):
    assert main(words.split()) == 0
    assert "digits" in capsys.readouterr().out


def test_quiet_and_verbose_exclude_each_other(capsys):
    assert "not allowed with" in printed(capsys, "space --space digits -q -v")


def test_shells_complete_commands_and_flags(capsys, tmp_path):
    script = printed(capsys, "--print-completion bash")
    assert "--max-params" in script and "finetune" in script
    (tmp_path / "completion").write_text(script)
    subprocess.run(["bash", "-n", tmp_path / "completion"], check=True)
    assert "#compdef nni-autoformer" in printed(capsys, "--print-completion zsh")


@pytest.mark.parametrize("columns", ["wide", "", "0", "-4", "5", "100000"])
def test_a_help_for_any_width(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as end:
        main(["train", "--help-all"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 60 and max(map(len, lines)) <= 80

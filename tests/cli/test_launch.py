"""What `launch` finds before NNI starts, in the example's files with one thing wrong at a time."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from nni_autoformer.cli import main
from nni_autoformer.cli.launch import start  # noqa: F401  (replaced below)
from nni_autoformer.jobs.shell_command import command_words

EXAMPLE = Path(__file__).parents[2] / "examples" / "nnictl_search"


@pytest.fixture
def folder(tmp_path, toy):
    """The example's folder for the toy's checkpoint and images."""
    import json

    from nni_autoformer import SearchSpace

    shutil.copytree(EXAMPLE, tmp_path / "example")
    space = SearchSpace.load(toy / "space.yaml")
    (tmp_path / "example" / "search_space.json").write_text(json.dumps(space.to_nni()))
    for name in ("config.yml", "config_detailed.yml"):
        path = tmp_path / "example" / name
        text = path.read_text().replace("--dataset digits", f"--data {toy}/images")
        path.write_text(
            text.replace("../../runs/demo/supernet.safetensors", f"{toy}/run/supernet.safetensors")
        )
    return tmp_path / "example"


@pytest.fixture(autouse=True)
def program(tmp_path_factory, monkeypatch):
    """nni-autoformer on the PATH, whether the package is installed or not; only its place is looked at."""
    place = tmp_path_factory.mktemp("bin")
    (place / "nni-autoformer").write_text("#!/bin/sh\n")
    (place / "nni-autoformer").chmod(0o755)
    monkeypatch.setenv("PATH", str(place), prepend=os.pathsep)
    return place


@pytest.fixture
def check(folder, capsys, monkeypatch):
    """Change the configuration and launch it; what was said. Nothing may be started."""
    import nni_autoformer.cli.launch as module

    def refuse(*_):
        raise AssertionError("NNI was started")

    monkeypatch.setattr(module, "start", refuse)

    def run(*changes, name="config.yml", port="0"):
        path = folder / name
        text = path.read_text()
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path.write_text(text)
        if port == "0":
            with socket.socket() as probe:
                probe.bind(("localhost", 0))
                port = str(probe.getsockname()[1])
        assert main(["launch", str(path), "--port", port]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("nni-autoformer: error: ") and "Traceback" not in captured.err
        return captured.err

    return run


@pytest.mark.parametrize("name", ["config.yml", "config_detailed.yml"])
def test_the_example_is_right(folder, capsys, name):
    assert main(["launch", str(folder / name), "--check-only"]) == 0
    assert "nothing wrong was found" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nnictl_supernet", "remote"])
def test_the_other_examples_are_right_but_for_their_paths(check, folder, capsys, name, tmp_path):
    shutil.copytree(EXAMPLE.parent / name, tmp_path / name)
    shutil.copytree(EXAMPLE, tmp_path / "nnictl_search")
    path = tmp_path / name / "config.yml"
    if name == "remote":
        assert main(["launch", str(path), "--check-only"]) == 2
        assert "SSH key file" in capsys.readouterr().err
    else:
        assert main(["launch", str(path), "--check-only"]) == 0


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("EvolutionTuner", "EvolutionTunr", "there is no class 'nni_autoformer.search.tuner.EvolutionTunr'"),
        ("nni_autoformer.search.tuner", "nni_autoformer.search.tunr", "there is no class"),
        ("max_params: 0.25", "max_param: 0.25", "unknown argument 'max_param'"),
        ("max_params: 0.25", "max_params: 0.001", "no subnet meets this limit"),
        ("checkpoint: ", "checkpoint: x", "there is no such checkpoint"),
        ("--checkpoint ", "--checkpoint x", "there is no such checkpoint"),
        ("--data ", "--data /nowhere", "--data /nowhere"),
        ("--split selection", "--splt selection", "there is no flag --splt; did you mean --split?"),
        ("searchSpaceFile: search_space.json", "searchSpaceFile: none.json", "NNI does not accept it"),
        ("trialConcurrency: 2", "trialConcurency: 2", "NNI does not accept it"),
        ("platform: local", "platform: lokal", "NNI does not accept it"),
        (
            "--data ",
            "--dataset digit --data ",
            "trialCommand: --dataset digit: there is no such data set; known",
        ),
        (
            "nni-autoformer test",
            "nni-autoformr test",
            "trialCommand: there is no program 'nni-autoformr'; did",
        ),
        ("nni-autoformer test", "no-such-program", "the program 'no-such-program' is not on the PATH"),
        ("nni-autoformer test", "./no-such-script.sh", "./no-such-script.sh: there is no such program"),
        (
            "nni-autoformer test",
            "nni-autoformer tset",
            "trialCommand: there is no command 'tset'; did you mean test?",
        ),
        ("test --split selection", "test", "trialCommand: nni-autoformer test evaluates on the test images"),
        ("--split selection", "--split selection --batch-size 0", "trialCommand: --batch-size is 0"),
        ("--split selection", "--split selection --selection 9-per", "trialCommand: --selection"),
        ("--split selection", "--split selection --device cuda:99", "trialCommand: --device"),
        ("--split selection", "--split 'selection", "trialCommand: 'nni-autoformer test"),
        (
            "trialConcurrency: 2",
            "trialConcurrency: 2\nmaxTrialNumber: 9",
            "maxTrialNumber is 9, and the tuner",
        ),
        ("max_params: 0.25", "max_params: 0.25\n    output: ..", "tuner: classArgs: output .. is not empty"),
        (
            "trainingService:\n",
            "trialGpuNumber: 1\ntrainingService:\n  useActiveGpu: false\n",
            "NNI finds no GPU",
        ),
    ],
)
def test_one_thing_wrong(check, before, after, words, monkeypatch, program):
    if "GpuNumber" in after:
        monkeypatch.setenv("PATH", str(program))
    assert words in check((before, after))


def test_the_images_may_be_those_of_the_checkpoint(folder, toy, capsys):
    path = folder / "config.yml"
    path.write_text(path.read_text().replace(f" --data {toy}/images", ""))
    assert main(["launch", str(path), "--check-only"]) == 0
    assert "The images are those of the checkpoint's training" in capsys.readouterr().err


def test_the_tuner_and_the_trials_have_one_checkpoint(check, toy, folder, capsys):
    other = folder.parent / "other.safetensors"
    shutil.copy(toy / "run" / "supernet.safetensors", other)
    shutil.copy(toy / "run" / "selection.txt", folder.parent)
    path = folder / "config.yml"
    text = path.read_text()
    before = f"--checkpoint {toy}/run/supernet.safetensors"
    path.write_text(text.replace(before, f"--checkpoint {other}"))
    assert main(["launch", str(path), "--check-only"]) == 0  # the same bytes
    capsys.readouterr()
    other.unlink()
    shutil.copy(toy / "run" / "best.safetensors", other)
    assert "is another supernet than the tuner's (tuner: classArgs: checkpoint)" in check()


TRAIN = """
searchSpace: {space}
trialCommand: nni-autoformer train --data {toy}/images --output runs {flags}
trialConcurrency: 1
maxTrialNumber: 2
tuner: {{name: Random}}
trainingService: {{platform: local}}
"""


@pytest.mark.parametrize(
    ("space", "flags", "words"),
    [
        (
            "{lr: {_type: choice, _value: [0.1, -1]}}",
            "",
            "searchSpace: lr = -1: --lr is -1.0; it should be above",
        ),
        (
            "{speed: {_type: choice, _value: [1]}}",
            "",
            "trialCommand: the NNI parameter 'speed' is no flag of",
        ),
        (
            "{lr: {_type: chioce, _value: [1]}}",
            "",
            "searchSpace: the _type of lr is 'chioce'; known are choice",
        ),
        ("{lr: {_type: uniform, _value: [1, 0]}}", "", "searchSpace: the _value of lr is [1, 0]; it should"),
        ("{lr: [1, 0]}", "", "searchSpace: lr is [1, 0]; it should be a mapping with _type and _value"),
        ("{mixup: {_type: uniform, _value: [0, -1.5]}}", "", "searchSpace: the _value of mixup"),
        (
            "{drop_path: {_type: uniform, _value: [0, 1.5]}}",
            "",
            "searchSpace: drop_path = 1.5: --drop-path is",
        ),
        ("{lr: {_type: choice, _value: [0.1]}}", "--recipe nowhere", "trialCommand: "),
        ("{lr: {_type: choice, _value: [0.1]}}", "--recipe elastic", "trialCommand: --teacher original"),
        ("{lr: {_type: choice, _value: [0.1]}}", "--from no.pth", "trialCommand: --from no.pth is neither"),
        ("{lr: {_type: choice, _value: [0.1]}}", "--importance none", "trialCommand: --importance is about"),
        ("{lr: {_type: choice, _value: [0.1]}}", "--selection 99-per-class", "trialCommand: "),
        ("{space: {_type: choice, _value: [TOY, nowhere]}}", "", "searchSpace: space = 'nowhere': "),
    ],
)
def test_what_the_tuner_may_choose_is_tried(tmp_path, toy, capsys, space, flags, words):
    if "space:" not in space:
        flags += f" --space {toy}/space.yaml"
    space = space.replace("TOY", f"{toy}/space.yaml")
    (tmp_path / "config.yml").write_text(TRAIN.format(space=space, toy=toy, flags=flags))
    assert main(["launch", str(tmp_path / "config.yml"), "--check-only"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("nni-autoformer: error: ") and words in said


def test_a_command_of_somebody_else_is_taken_and_said(folder, capsys):
    path = folder / "config.yml"
    text = path.read_text()
    (folder / "own.sh").write_text("exit 0\n")
    ours = text.split("trialCommand: ")[1].splitlines()[0]
    for command in ("sh own.sh", "cd .. && sh own.sh", f"{ours} --splt | tee log", 'X="$HOME" sh own.sh'):
        path.write_text(text.replace(ours, f"'{command}'"))
        assert main(["launch", str(path), "--check-only"]) == 0
        captured = capsys.readouterr()
        assert "is no command of nni-autoformer alone, so what it does was not checked" in captured.err
        assert "nothing wrong was found" in captured.out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nni-autoformer test -x", ["test", "-x"]),
        ("A=1 B='2 3' exec nni-autoformer test 'a b'", ["test", "a b"]),
        ("python -m nni_autoformer test", ["test"]),
        ("/usr/bin/python3 -m nni_autoformer test", ["test"]),
        ("nni-autoformer test \\\n --seed 1 > log 2>&1", ["test", "--seed", "1"]),
        ("sh prepare.sh && nni-autoformer test", ["test"]),
        ("nni-autoformer test || true", None),
        ("nni-autoformer test; sh own.sh", None),
        ("python train.py", None),
        ("for i in 1 2; do nni-autoformer test; done", None),
    ],
)
def test_the_words_of_a_shells_text(tmp_path, command, words):
    assert command_words(command, tmp_path, local=False) == words


def test_nnis_tuners_look_for_the_highest(check, folder, capsys):
    path = folder / "config.yml"
    head = path.read_text().split("tuner:")[0]
    path.write_text(f"{head}tuner: {{name: TPE}}\ntrainingService: {{platform: local}}\n")
    assert main(["launch", str(path), "--check-only"]) == 0
    assert "TPE looks for the lowest accuracy unless told" in capsys.readouterr().err
    mode = "classArgs: {optimize_mode: minimize}"
    path.write_text(f"{head}tuner: {{name: TPE, {mode}}}\ntrainingService: {{platform: local}}\n")
    assert "optimize_mode is minimize; the trials report accuracies" in check()


def test_a_search_space_that_differs_from_the_checkpoints(check, folder):
    import json

    path = folder / "search_space.json"
    content = json.loads(path.read_text())
    content["depth"]["_value"] = [1]
    path.write_text(json.dumps(content))
    assert "has [1] for 'depth', and the space 'toy' of the checkpoint [1, 2]" in check()


def test_an_unknown_tuner_of_nni(check):
    names = (
        "  codeDirectory: .\n  className: nni_autoformer.search.tuner.EvolutionTuner\n",
        "  name: Evolutoin\n",
    )
    assert "NNI has no tuner of the name 'Evolutoin'" in check(names)


def test_nnis_tuners_and_their_arguments(check, folder, capsys):
    path = folder / "config.yml"
    text = path.read_text()
    head = text[: text.index("tuner:")]
    for name, arguments in (("Evolution", "{optimize_mode: maximize}"), ("TPE", "{}"), ("Random", "{}")):
        path.write_text(
            f"{head}tuner: {{name: {name}, classArgs: {arguments}}}\ntrainingService: {{platform: local}}\n"
        )
        assert main(["launch", str(path), "--check-only"]) == 0
    capsys.readouterr()
    path.write_text(
        f"{head}tuner: {{name: Evolution, classArgs: {{speed: 3}}}}\ntrainingService: {{platform: local}}\n"
    )
    assert "'Evolution' refuses its classArgs" in check()


def test_a_taken_port(check):
    with socket.socket() as server:
        server.bind(("localhost", 0))
        server.listen()
        assert "another program listens on this port" in check(port=str(server.getsockname()[1]))


def test_a_missing_file(capsys):
    assert main(["launch", "nowhere.yml", "--check-only"]) == 2
    assert "nowhere.yml: there is no such file" in capsys.readouterr().err


def test_an_unwritable_home(check, monkeypatch, tmp_path):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert "cannot be written, and NNI keeps its list of experiments there" in check()

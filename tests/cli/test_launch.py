"""What `launch` finds before NNI starts, in the example's files with one thing wrong at a time."""

import shutil
import socket
from pathlib import Path

import pytest

from nni_autoformer.cli import main
from nni_autoformer.cli.launch import start  # noqa: F401  (replaced below)

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
    ],
)
def test_one_thing_wrong(check, before, after, words):
    assert words in check((before, after))


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

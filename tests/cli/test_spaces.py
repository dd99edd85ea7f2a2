"""The space for every consumer."""

import json

import pytest
import yaml
from nni.experiment.config import ExperimentConfig

from nni_autoformer import AutoFormer, SearchSpace
from nni_autoformer.cli import main


def printed(capsys, *words):
    assert main(["space", *words]) == 0
    return capsys.readouterr().out


def test_as_yaml_it_is_the_same_space(capsys, tmp_path):
    text = printed(capsys, "--space", "tiny", "--format", "yaml")
    (tmp_path / "mine.yaml").write_text(text)
    assert SearchSpace.load(tmp_path / "mine.yaml") == SearchSpace.load("tiny")
    assert yaml.safe_load(text)["choices"]["mlp_ratio"] == [3, 3.5, 4]


@pytest.mark.parametrize("name", ["tiny", "small", "base", "cifar", "digits"])
def test_nnictl_and_nas_have_the_labels_of_the_model_space(capsys, name):
    space = SearchSpace.load(name)
    nnictl = json.loads(printed(capsys, "--space", name, "--format", "nnictl"))
    assert nnictl == space.to_nni()
    assert len(nnictl) == 2 + 2 * space.max_depth
    config = ExperimentConfig("local", search_space=nnictl, trial_command="x", trial_concurrency=1)
    config.tuner.name = "Random"
    assert config.canonical_copy().search_space == nnictl
    if name == "digits":
        nas = json.loads(printed(capsys, "--space", name, "--format", "nas"))
        assert nas == {label: entry["_value"] for label, entry in nnictl.items()}
        assert set(nas) == set(AutoFormer(space).simplify())


def test_the_table_says_how_large_it_is(capsys):
    table = printed(capsys, "--space", "small")
    assert f"{SearchSpace.load('small').size:,} (7.7e+13)" in table
    assert "published" in table and "22.891 M parameters" in table


def test_the_examples_search_space_is_the_digits(capsys):
    from pathlib import Path

    file = Path(__file__).parents[2] / "examples" / "nnictl_search" / "search_space.json"
    assert json.loads(file.read_text()) == SearchSpace.load("digits").to_nni()

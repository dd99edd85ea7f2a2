"""The flags of loading, in real trainings and evaluations."""

import json
import shutil

import pytest
import torch

from nni_autoformer.cli import main


@pytest.fixture
def spoilt(toy, tmp_path):
    """The toy's images, with a bad one in each split; and the toy's space."""
    shutil.copytree(toy / "images", tmp_path / "images")
    shutil.copy(toy / "space.yaml", tmp_path)
    for name in ("train/one/05.png", "val/two/01.png"):
        (tmp_path / "images" / name).write_bytes(b"bad")
    return tmp_path


def weights(path):
    from safetensors.torch import load_file

    return load_file(path / "supernet.safetensors")


def test_bad_images_end_a_training_or_are_left_out(spoilt, toy_command, capfd):
    command = toy_command(spoilt, spoilt / "run", "--epochs", "2", "--selection", "none")
    assert main(command) == 2
    assert "val/two/01.png: the file cannot be read as an image" in capfd.readouterr().err
    assert main([*command, "--overwrite", "--skip-bad-images"]) == 0
    errors = capfd.readouterr().err
    assert "train/one/05.png: the file cannot be read as an image" in errors
    assert "2 bad images were left out: train/one/05.png, val/two/01.png." in errors
    other = toy_command(spoilt, spoilt / "other", "--epochs", "2", "--selection", "none", "--skip-bad-images")
    assert main([*other, "--workers", "2", "--no-persistent-workers", "--no-pin-memory"]) == 0
    one, two = weights(spoilt / "run"), weights(spoilt / "other")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_bad_selection_image_is_not_in_the_list(spoilt, toy_command, capfd):
    for path in (spoilt / "images" / "train" / "six").glob("1*.png"):
        path.write_bytes(b"bad")
    command = toy_command(spoilt, spoilt / "run", "--epochs", "2", "--selection", "9-per-class")
    assert main([*command, "--skip-bad-images"]) == 0
    listed = (spoilt / "run" / "selection.txt").read_text().split()
    assert 0 < len(listed) < 27
    assert not any(name.startswith("train/six/1") for name in listed)
    search = (
        f"search --checkpoint {spoilt}/run/supernet.safetensors --data {spoilt}/images --output {spoilt}/s"
    )
    evolution = "--population-size 2 --num-parents 1 --num-mutations 1 --num-crossovers 0 --generations 1"
    assert main([*search.split(), *evolution.split(), "--device", "cpu"]) == 0
    header = json.loads((spoilt / "s" / "run.json").read_text())
    assert header["status"] == "finished"

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


def test_a_named_set_from_training_to_test(toy, tmp_path, capsys):
    """Scanned digits in Fashion-MNIST's files."""
    import struct

    import numpy as np
    from sklearn.datasets import load_digits

    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    digits = load_digits()
    for prefix, part in (("train", slice(0, 100)), ("t10k", slice(100, 150))):
        images = np.kron(digits.images[part] * 15, np.ones((1, 3, 3))).astype(np.uint8)
        images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
        head = struct.pack(">4I", 0x0803, *images.shape)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        labels = bytes(digits.target[part].tolist())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, len(labels)) + labels)
    data = f"--dataset fashion-mnist --data {tmp_path}/data --device cpu"
    train = f"train --space {toy}/space.yaml {data} --output {tmp_path}/run --epochs 2 --batch-size 16"
    assert main([*train.split(), "--aa", "rand-m9-mstd0.5-inc1", "--aug-repeats", "2"]) == 0
    test = f"test --checkpoint {tmp_path}/run/supernet.safetensors --architecture largest {data}"
    assert main(test.split()) == 0
    assert "test images    50" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--dataset imagenet --data x", "--dataset imagenet: there is no such data set; known are folder,"),
        ("--dataset cars --data x", "--data x: there is no such folder"),
        ("--dataset pets", "--data is missing: --dataset pets needs the folder"),
        ("--dataset hfids/a/b --data x", "hfids/ can only be streamed"),
        ("--dataset digits --workers -1", "--workers is -1; it should be at least 0"),
    ],
)
def test_bad_flags_are_sentences(toy, tmp_path, capsys, flags, words, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without a folder 'x', which another worker's test may make
    command = f"train --space {toy}/space.yaml --output {tmp_path}/run {flags}"
    assert main(command.split()) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

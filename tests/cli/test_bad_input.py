"""Bad input: a sentence, exit code 2, no traceback, and before any heavy work."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nni_autoformer import SearchSpace, build_supernet, save_supernet
from nni_autoformer.cli import main


@pytest.fixture
def fails(capsys):
    """Run a command that must end with a sentence; the sentence."""

    def run(command):
        assert main([str(word) for word in (command if isinstance(command, list) else command.split())]) == 2
        captured = capsys.readouterr()
        *_, error = captured.err.splitlines()
        assert error.startswith("nni-autoformer: error: ") and captured.err.count("error: ") == 1
        assert "Traceback" not in captured.err
        return error

    return run


@pytest.fixture(autouse=True)
def no_heavy_work(monkeypatch):
    """Nothing here may get as far as training or evaluating."""
    from nni.nas.experiment import NasExperiment

    def refuse(*_, **__):
        raise AssertionError("an experiment was started")

    monkeypatch.setattr(NasExperiment, "run", refuse)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no such file"),
        ("choices: [", "not valid YAML"),
        ("name: x\nname: y\n", "duplicate key 'name'"),
        ("chioces: {}\n", "unknown key 'chioces'"),
        ("choices: {embed_dim: [8], depth: [1], num_heads: [1]}\n", "the key 'choices.mlp_ratio' is missing"),
        (
            "choices: {embed_dim: [], depth: [1], num_heads: [1], mlp_ratio: [1]}\n",
            r"choices.embed_dim is []",
        ),
        (
            "choices: {embed_dim: [8], depth: [1], num_heads: [0], mlp_ratio: [1]}\n",
            "choices.num_heads holds 0",
        ),
        (
            "choices: {embed_dim: [-8], depth: [1], num_heads: [1], mlp_ratio: [1]}\n",
            "choices.embed_dim holds -8",
        ),
        (
            "choices: {embed_dim: [8], depth: [1.5], num_heads: [1], mlp_ratio: [1]}\n",
            "choices.depth holds 1.5",
        ),
    ],
)
def test_a_bad_space(tmp_path, fails, text, words):
    path = tmp_path / "space.yaml"
    if text is not None:
        path.write_text(text)
    error = fails(f"train --space {path} --dataset digits --output {tmp_path / 'run'}")
    assert words in error and str(path) in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--epochs 0", "--epochs is 0"),
        ("--lr -1", "--lr is -1.0"),
        ("--warmup-epochs 100", "--warmup-epochs is 100"),
        ("--hflip 2", "--hflip is 2.0"),
        ("--crop-pct 0", "--crop-pct is 0.0"),
        ("--workers -1", "--workers is -1"),
        ("--selection many", "--selection many"),
        ("--selection 500-per-class", "leaves nothing to train on"),
        ("--device cuda:99", "--device cuda:99: there is no such device here"),
        ("--device nonsense", "--device nonsense"),
        ("--resume --overwrite", "exclude each other"),
        ("--dataset folder", "--data is missing"),
        ("--dataset cifar10", "--data is missing"),
        ("--space huge", "no packaged space of this name"),
        ("--precision fp16 --device cpu", "fp16 cannot train on a CPU"),
    ],
)
def test_a_bad_flag_of_train(tmp_path, fails, flags, words):
    assert words in fails(f"train --space digits --dataset digits --output {tmp_path / 'run'} {flags}")
    assert not (tmp_path / "run").exists()


def test_bad_data(tmp_path, fails, toy, image_folder):
    command = f"train --space {toy}/space.yaml --output {tmp_path / 'run'} --data"
    assert "there is no such folder" in fails(f"{command} {tmp_path / 'nowhere'}")
    (image_folder / "val" / "six").rename(image_folder / "val" / "nine")
    assert "only in train/: six; only in val/: nine" in fails(f"{command} {image_folder}")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    (tmp_path / "empty" / "val").mkdir()
    assert "/ holds no class folders" in fails(f"{command} {tmp_path / 'empty'}")
    assert "cifar-10-batches-py and is not there" in fails(
        f"train --space cifar --dataset cifar10 --data {tmp_path} --output {tmp_path / 'run'}"
    )
    assert not (tmp_path / "run").exists()


def test_one_class_is_not_enough(tmp_path, fails, toy, make_image_folder):
    root = make_image_folder(tmp_path / "one", classes=("six",))
    error = fails(f"train --space {toy}/space.yaml --data {root} --output {tmp_path / 'run'}")
    assert "only the class 'six'" in error


class Code:
    """Pickles to a call of os.mkdir."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def damaged_checkpoints(toy, folder):
    whole = (toy / "run" / "supernet.safetensors").read_bytes()
    (folder / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "header.safetensors").write_bytes(whole[:100])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "noise.safetensors").write_bytes(bytes(range(256)) * 20)
    torch.save({"model": torch.zeros(3), "x": Code(folder / "executed")}, folder / "code.pth")
    (folder / "code.pkl").write_bytes(pickle.dumps(Code(folder / "executed")))
    torch.save({"model": {"a": torch.zeros(3)}}, folder / "tensors.pth")
    return {
        "missing.safetensors": "there is no such checkpoint",
        "truncated.safetensors": "damaged or truncated",
        "header.safetensors": "damaged or truncated",
        "empty.safetensors": "damaged or truncated",
        "noise.safetensors": "damaged or truncated",
        "code.pth": "refused",
        "code.pkl": "refused",
        "tensors.pth": "no network that is known here",
    }


@pytest.mark.parametrize("job", ["search", "test", "finetune", "sample"])
def test_names_that_lead_nowhere(tmp_path, fails, toy, job):
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    more = "--architecture smallest" if job in ("test", "finetune") else ""
    more += "" if job == "test" else f" --output {tmp_path / 'run'}"
    for name in ("loop", "pipe", "gone"):
        error = fails(f"{job} --data {toy}/images --checkpoint {tmp_path / name} {more}")
        assert f"{name}: there is no such checkpoint" in error
        base = f"{job} --checkpoint {toy}/run/supernet.safetensors {more} --data"
        assert "there is no such folder" in fails(f"{base} {tmp_path / name}")
    words = f"{job} --data {toy}/images {more} --checkpoint".split()
    assert "a NUL character" in fails([*words, "a\0b"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("job", "flag", "name"),
    [
        ("search", "--space", "space.yaml"),
        ("search", "--selection", "selection.txt"),
        ("sample", "--space", "space.yaml"),
        ("sample", "--architecture", "best.yaml"),
        ("finetune", "--space", "space.yaml"),
        ("finetune", "--architecture", "best.yaml"),
        ("finetune", "--recipe", "recipe.yaml"),
    ],
)
def test_no_input_in_the_folder_is_deleted(tmp_path, fails, toy, job, flag, name):
    import shutil

    shutil.copytree(toy / "run", tmp_path / "R")
    shutil.copy(toy / "space.yaml", tmp_path / "R")
    (tmp_path / "R" / "best.yaml").write_text("{embed_dim: 16, depth: 1, num_heads: 1, mlp_ratio: 1}")
    before = (tmp_path / "R" / name).read_text()
    base = f"{job} --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --output {tmp_path}/R"
    base += " --architecture smallest" if job == "finetune" and flag != "--architecture" else ""
    error = fails(f"{base} --overwrite --device cpu {flag} {tmp_path}/R/../R/{name}")
    assert "--overwrite would delete" in error and name in error
    assert (tmp_path / "R" / name).read_text() == before


@pytest.mark.parametrize("job", ["search", "test"])
def test_bad_checkpoints(tmp_path, fails, toy, job):
    more = f"--output {tmp_path / 'run'}" if job == "search" else "--architecture smallest"
    for name, words in damaged_checkpoints(toy, tmp_path).items():
        error = fails(
            f"{job} --space {toy}/space.yaml --data {toy}/images --checkpoint {tmp_path / name} {more}"
        )
        assert words in error and name in error, name
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_space(tmp_path, fails, toy):
    flags = f"--data {toy}/images --checkpoint {toy}/run/supernet.safetensors"
    error = fails(f"search --space digits {flags} --output {tmp_path / 'run'}")
    assert "choices.embed_dim is [48, 64, 80] here and [16, 32] there" in error
    error = fails(f"test --space digits {flags} --architecture smallest")
    assert "another search space than 'digits'" in error


def test_a_checkpoint_with_a_wrong_tensor(tmp_path, fails, toy):
    space = SearchSpace.load(toy / "space.yaml").with_model(num_classes=3)
    supernet = build_supernet(space)
    supernet.space = space.with_model(max_relative_position=2)
    save_supernet(tmp_path / "wrong.safetensors", supernet, {"mean": [0], "std": [1]})
    error = fails(
        f"test --data {toy}/images --checkpoint {tmp_path}/wrong.safetensors --architecture smallest"
    )
    assert "embeddings_table_v' has shape [4, 64]; the space 'toy' needs [6, 64]" in error


def test_data_with_other_classes_than_the_checkpoint(tmp_path, fails, toy, make_image_folder):
    other = make_image_folder(tmp_path / "other", classes=("four", "one", "two"))
    flags = f"--checkpoint {toy}/run/supernet.safetensors --data {other}"
    assert "other classes: 'one' where the data has 'four'" in fails(f"test {flags} --architecture smallest")
    two = make_image_folder(tmp_path / "two", classes=("one", "two"))
    flags = f"--checkpoint {toy}/run/supernet.safetensors --data {two}"
    assert "trained on 3 classes; the data has 2" in fails(f"test {flags} --architecture smallest")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "--max-params 0.000001",
            "--max-params 1e-06: no subnet meets this limit; the subnets of 'toy' have",
        ),
        ("--min-macs 5", "--min-macs 5: no subnet"),
        ("--min-params 2 --max-params 1", "is above"),
        ("--population-size 0", "--population-size is 0"),
        ("--num-mutations 60", "more than --population-size"),
        ("--gene-probability 2", "--gene-probability is 2.0"),
        ("--selection none", "a search needs images"),
        ("--selection missing.txt", "--selection missing.txt"),
        ("--batch-size 0", "--batch-size is 0"),
    ],
)
def test_a_bad_flag_of_search(tmp_path, fails, toy, flags, words):
    command = (
        f"search --space {toy}/space.yaml --data {toy}/images --checkpoint {toy}/run/supernet.safetensors"
    )
    assert words in fails(f"{command} --output {tmp_path / 'run'} {flags}")
    assert not (tmp_path / "run").exists()


def test_a_selection_list_that_was_changed(tmp_path, fails, toy):
    import shutil

    shutil.copytree(toy / "run", tmp_path / "copy")
    command = (
        f"search --data {toy}/images --checkpoint {tmp_path}/copy/supernet.safetensors --output {tmp_path}/s"
    )
    listed = tmp_path / "copy" / "selection.txt"
    listed.write_text("train/one/00.png\n")
    assert "not the list that" in fails(command)
    listed.unlink()
    assert "the selection list cannot be read" in fails(command)


def test_a_bad_architecture(tmp_path, fails, toy):
    command = f"test --space {toy}/space.yaml --data {toy}/images --checkpoint {toy}/run/supernet.safetensors"
    (tmp_path / "a.yaml").write_text("embed_dim: 64\nnum_heads: [1]\nmlp_ratio: [1]\n")
    assert "not in the space 'toy': embed_dim 64" in fails(f"{command} --architecture {tmp_path}/a.yaml")
    assert "there is no such file" in fails(f"{command} --architecture {tmp_path}/b.yaml")
    assert "has no architecture 'best'" in fails(f"{command} --architecture best")


def test_a_folder_that_holds_something_else(tmp_path, fails, toy, toy_command):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not empty and holds no run" in fails(toy_command(toy, tmp_path))
    assert "is not empty and holds no run" in fails(toy_command(toy, tmp_path, "--overwrite"))
    assert "is a file" in fails(toy_command(toy, tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "mine"
    error = fails(toy_command(toy, toy / "run"))
    assert "holds a finished run of 'train'" in error and "--overwrite" in error
    error = fails(toy_command(toy, toy / "run", "--resume", "--epochs", "5"))
    assert "recipe.epochs was 3 when the run began and is 5 now" in error


def test_an_output_that_cannot_be_written(tmp_path, fails, toy, toy_command):
    if os.geteuid() == 0:
        target = Path("/proc/nni_autoformer/run")
    else:
        tmp_path.chmod(0o500)
        target = tmp_path / "run"
    assert "cannot be written" in fails(toy_command(toy, target))


def test_no_command_at_all_is_argparses_own_error():
    result = subprocess.run([sys.executable, "-m", "nni_autoformer"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "usage: nni-autoformer" in result.stderr

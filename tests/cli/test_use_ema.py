"""`--use-ema`: which weights of other people's file a command takes."""

import json
import socket
from types import SimpleNamespace

import pytest
import torch

from nni_autoformer import SearchSpace, load_supernet
from nni_autoformer.checkpoints.layouts import published_key
from nni_autoformer.cli import main


@pytest.fixture(scope="module")
def files(toy, tmp_path_factory):
    """Two published files with the one or the other weights alone, and one with both."""
    folder = tmp_path_factory.mktemp("ema")
    supernet, _ = load_supernet(toy / "run" / "supernet.safetensors")
    tensors = {published_key(key): tensor for key, tensor in supernet.state_dict().items()}
    torch.manual_seed(0)
    average, plain = ({key: torch.randn_like(value) for key, value in tensors.items()} for _ in range(2))
    for name, content in (
        ("plain", {"model": plain}),
        ("average", {"model": average}),
        ("both", {"model": plain, "model_ema": average}),
    ):
        torch.save(content, folder / f"{name}.pth")
    return folder


JOBS = {
    "test": "--architecture smallest",
    "sample": "-n 3 --split test",
    "search": "--population-size 6 --num-parents 2 --num-mutations 1 --num-crossovers 1 --generations 1",
    "finetune": "--architecture smallest --epochs 1 --warmup-epochs 0 --batch-size 16 --lr 1e-9",
}


def result(job, toy, file, output, capsys, *more):
    flags = f"{job} --space {toy}/space.yaml --data {toy}/images --device cpu {JOBS[job]} --checkpoint {file}"
    flags += "" if job == "test" else f" --output {output}"
    flags += f" --selection {toy}/run/selection.txt" if job == "search" else ""
    assert main([*flags.split(), *more]) == 0
    captured = capsys.readouterr()
    told = captured.out + captured.err
    if job == "test":
        return told, [line for line in captured.out.splitlines() if line.startswith("top-1")]
    if job == "finetune":
        return told, (output / "metrics.csv").read_text().splitlines()[-1].split(",")[-2:]
    name = "samples.jsonl" if job == "sample" else "candidates.jsonl"
    return told, [json.loads(line)["top1"] for line in (output / name).read_text().splitlines()]


@pytest.mark.parametrize("job", JOBS)
def test_both_choices_are_those_of_a_file_that_holds_nothing_else(toy, files, tmp_path, capsys, job):
    found = {}
    for name, file, more in (
        ("plain", "plain", ()),
        ("average", "average", ()),
        ("neither", "both", ()),
        ("asked", "both", ("--use-ema",)),
    ):
        told, found[name] = result(job, toy, files / f"{file}.pth", tmp_path / name, capsys, *more)
        if file == "both":
            asked = "the moving average of the weights ('model_ema') is used" in told
            plain = "the plain weights ('model') are used" in told and "which --use-ema takes" in told
            assert (asked, plain) == (bool(more), not more)
    assert found["asked"] == found["average"] != found["plain"] == found["neither"]


def test_trials_of_nni_take_them_too(toy, files, tmp_path, monkeypatch):
    """And the space, which other people's file does not name."""
    from nni_autoformer import experiment
    from nni_autoformer.jobs import Engine, search

    evaluators = []

    def captured(space, evaluator, *_, **__):
        evaluators.append(evaluator)
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run_trials", captured)
    for name, use_ema in (("both", True), ("average", False), ("plain", False)):
        with pytest.raises(KeyboardInterrupt):
            search(
                files / f"{name}.pth",
                str(toy / "images"),
                tmp_path / name,
                space=toy / "space.yaml",
                use_ema=use_ema,
                selection=str(toy / "run" / "selection.txt"),
                engine=Engine(engine="nni", port=free_port()),
            )
    sample = SearchSpace.load(toy / "space.yaml").largest.to_sample()
    asked, average, plain = (
        evaluator._execute(SimpleNamespace(sample=sample))["default"] for evaluator in evaluators
    )
    assert asked == average != plain


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def test_a_run_goes_on_with_the_weights_that_it_began_with(toy, files, tmp_path, capsys):
    result("sample", toy, files / "both.pth", tmp_path / "s", capsys, "--use-ema")
    words = f"sample --space {toy}/space.yaml --data {toy}/images --device cpu {JOBS['sample']} --resume"
    assert main([*words.split(), "--checkpoint", str(files / "both.pth"), "--output", f"{tmp_path}/s"]) == 2
    assert "use_ema was True when the run began and is None now" in capsys.readouterr().err


def test_our_own_files_hold_one_set_of_weights(toy, capsys):
    words = f"test --data {toy}/images --checkpoint {toy}/run/supernet.safetensors --architecture smallest"
    assert main([*words.split(), "--use-ema"]) == 2
    assert "--use-ema: the file holds one set of weights" in capsys.readouterr().err

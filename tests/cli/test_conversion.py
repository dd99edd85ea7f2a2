"""info, convert, export: what a file is, and the same network in another form."""

import json
import sys

import pytest
import torch

from nni_autoformer import Checkpoint, SearchSpace, load_supernet
from nni_autoformer.checkpoints import load_subnet
from nni_autoformer.checkpoints.layouts import recognise
from nni_autoformer.cli import main

CHECKPOINT = "run/supernet.safetensors"


@pytest.fixture(scope="module")
def subnet(toy):
    supernet, _ = load_supernet(toy / CHECKPOINT)
    return supernet.eval().extract(supernet.space.middle)


X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def command(text, **names):
    return main(text.format(**names).split())


def test_info_tells_a_stranger_what_a_file_is(toy, capsys):
    assert command("info {c}", c=toy / CHECKPOINT) == 0
    printed = capsys.readouterr().out
    for words in (
        "supernet",
        "toy",
        '"lr_base"',
        '"epochs": 3',
        "val_acc_percent/largest",
        "selection",
        "torch version",
    ):
        assert words in printed


def test_info_says_of_a_subnet_that_it_is_one(toy, tmp_path, capsys):
    """Not a space of as many subnets as its layers' sizes allow; with its own costs, and its own accuracy."""
    from nni_autoformer import Architecture, save_supernet
    from nni_autoformer.checkpoints import save_subnet
    from nni_autoformer.complexity import macs, params

    supernet, header = load_supernet(toy / CHECKPOINT)
    architecture = Architecture(16, (2, 1), (1.0, 2.0))
    path = tmp_path / "a.safetensors"
    save_subnet(path, supernet.extract(architecture), header.run)
    assert command("info {p}", p=path) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    rows = {key: value.strip() for key, value in rows.items()}
    model = header.space.model
    assert (rows["kind"], rows["space"], rows["architecture"]) == ("subnet", "one subnet", str(architecture))
    assert rows["parameters"] == f"{params(architecture, model) / 1e6:.4f} M"
    assert float(rows["MACs"].removesuffix(" G")) == pytest.approx(macs(architecture, model) / 1e9, rel=5e-3)
    assert not any(key.startswith("top-1") for key in rows)  # the metrics are of the supernet's other subnets
    run = {**Checkpoint(path).header.run, "metrics": {"val_acc_percent/network": 62.5}}
    save_subnet(tmp_path / "b.safetensors", supernet.extract(architecture), run)
    assert command("info {t}/b.safetensors", t=tmp_path) == 0
    assert "62.50 % on the validation images" in capsys.readouterr().out
    save_supernet(tmp_path / "s.safetensors", supernet, {})
    assert command("info {t}/s.safetensors", t=tmp_path) == 0
    assert f"toy, {header.space.size} subnets" in " ".join(capsys.readouterr().out.split())


def test_convert_there_and_back(toy, subnet, tmp_path, capsys):
    """Own supernet to the published layout and back; a subnet to timm's and NNI's layouts."""
    space, names = toy / "space.yaml", {"c": toy / CHECKPOINT, "t": tmp_path, "s": toy / "space.yaml"}
    assert command("convert --checkpoint {c} --to published --output {t}/p.pth", **names) == 0
    assert (
        command(
            "convert --checkpoint {t}/p.pth --space {s} --to supernet --output {t}/own.safetensors", **names
        )
        == 0
    )
    one, other = load_supernet(toy / CHECKPOINT)[0], load_supernet(tmp_path / "own.safetensors")[0]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))
    for layout, name in (("timm", "a.safetensors"), ("hub", "b.pth")):
        flags = f"--to {layout} --architecture middle --output {tmp_path / name}"
        assert command("convert --checkpoint {c} " + flags, **names) == 0
        loaded, _ = load_subnet(tmp_path / name)
        with torch.no_grad():
            assert torch.equal(loaded(X), subnet(X))
    assert recognise(torch.load(tmp_path / "b.pth", weights_only=True)) == "hub subnet"
    assert command("convert --checkpoint {t}/b.pth --to timm --output {t}/c.safetensors", **names) == 0
    assert (
        command("test --checkpoint {t}/c.safetensors --data {d} --device cpu", d=toy / "images", **names) == 0
    )
    assert "top-1" in capsys.readouterr().out
    assert space.is_file()


def test_a_subnet_goes_into_the_published_layout_and_back(toy, tmp_path):
    """Layers with fewer heads or a smaller MLP than others leave zeros; the subnet comes back bit for bit."""
    from nni_autoformer import Architecture

    supernet, _ = load_supernet(toy / CHECKPOINT)
    architecture = Architecture(16, (2, 1), (1.0, 2.0))
    architecture.to_yaml(tmp_path / "a.yaml")
    names = {"c": toy / CHECKPOINT, "t": tmp_path}
    flags = "--to timm --architecture {t}/a.yaml --output {t}/a.safetensors"
    assert command("convert --checkpoint {c} " + flags, **names) == 0
    assert command("convert --checkpoint {t}/a.safetensors --to published --output {t}/p.pth", **names) == 0
    space = load_subnet(tmp_path / "a.safetensors")[1].space
    again, _ = load_supernet(tmp_path / "p.pth", space)
    one, other = supernet.extract(architecture).state_dict(), again.extract(architecture).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (again.state_dict()["blocks.blocks.1.attn.qkv.weight"][192:] == 0).all()


def test_the_published_layout_pads_unused_channels_with_zeros(tmp_path):
    from pathlib import Path

    from nni_autoformer import build_supernet, save_supernet

    golden = json.loads((Path(__file__).parents[1] / "golden" / "supernet_keys.json").read_text())["T"]
    save_supernet(tmp_path / "own.safetensors", build_supernet("tiny"), {})
    assert (
        command("convert --checkpoint {t}/own.safetensors --to published --output {t}/p.pth", t=tmp_path) == 0
    )
    written = torch.load(tmp_path / "p.pth", weights_only=True)["model"]
    assert {key: list(tensor.shape) for key, tensor in written.items()} == golden
    assert (written["blocks.3.attn.proj.weight"][240:] == 0).all()
    assert (written["pos_embed"][..., 240:] == 0).all()
    assert load_supernet(tmp_path / "p.pth", SearchSpace.load("tiny"))[1].kind == "published supernet"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--to timm --output {t}/x.safetensors", "say which subnet with --architecture"),
        ("--to published --architecture middle --output {t}/x.pth", "is for a single subnet"),
        ("--to published --output {c}", "exists already"),
    ],
)
def test_convert_refuses(toy, tmp_path, capsys, flags, words):
    names = {"c": toy / CHECKPOINT, "t": tmp_path}
    assert command("convert --checkpoint {c} " + flags, **names) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_exported_subnet_is_tested_as_within_its_supernet(toy, tmp_path, capsys):
    names = {"c": toy / CHECKPOINT, "d": toy / "images", "t": tmp_path}
    export = "export --checkpoint {c} --architecture middle --format safetensors --output {t}/a.safetensors"
    assert command(export, **names) == 0
    capsys.readouterr()
    said = []
    for which in ("{c} --architecture middle", "{t}/a.safetensors"):
        assert command(f"test --checkpoint {which} --data {{d}} --device cpu", **names) == 0
        said.append([line for line in capsys.readouterr().out.splitlines() if "top-" in line])
    assert said[0] == said[1] != []


@pytest.mark.parametrize("format", ["safetensors", "torch-export", "onnx"])
def test_export_is_checked_and_runs_elsewhere(toy, subnet, tmp_path, capsys, format):
    """And other programs are told how images are prepared."""
    output = tmp_path / "subnet.bin"
    flags = f"--architecture middle --format {format} --output {output}"
    assert command("export --checkpoint {c} " + flags, c=toy / CHECKPOINT) == 0
    assert "logits within" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["subnet.bin"]
    with torch.no_grad():
        expected = subnet(X)
    told, tolerance = None, 1e-5
    if format == "safetensors":
        result = load_subnet(output)[0](X)
    elif format == "torch-export":
        files = {"nni_autoformer.json": ""}
        result = torch.export.load(str(output), extra_files=files).module()(X)
        told = json.loads(files["nni_autoformer.json"])
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
        result, tolerance = torch.from_numpy(session.run(None, {"images": X.numpy()})[0]), 1e-4
        told = session.get_modelmeta().custom_metadata_map
        told = {key: json.loads(value) for key, value in told.items()}
    torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)
    if told is not None:
        run = Checkpoint(toy / CHECKPOINT).header.run
        assert told["input_size"] == [3, 8, 8] and told["classes"] == ["one", "six", "two"]
        assert all(told.get(key) == run.get(key) for key in ("mean", "std", "crop_pct"))


WRITERS = [
    *(
        f"export --format {format} --architecture middle"
        for format in ("safetensors", "torch-export", "onnx")
    ),
    *(f"convert --to {layout}" for layout in ("supernet", "published")),
    *(f"convert --to {layout} --architecture middle" for layout in ("timm", "hub")),
]


@pytest.fixture
def unwritten(capsys):
    """Run a command whose output cannot be written: one sentence, and nothing is left."""

    def run(words, checkpoint, output, reason):
        assert main([*words.split(), "--checkpoint", str(checkpoint), "--output", str(output)]) == 2
        *news, error = capsys.readouterr().err.splitlines()
        assert error.startswith("nni-autoformer: error: ") and "error: " not in "".join(news)
        assert str(output) in error and reason in error

    return run


@pytest.mark.parametrize("words", WRITERS)
def test_a_disk_that_refuses_is_a_sentence_and_leaves_nothing(toy, tmp_path, unwritten, words):
    """A limit of the file's size is to a writer what a full disk is; the other paths cannot be made."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        unwritten(words, toy / CHECKPOINT, tmp_path / "x.bin", "cannot be written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("mine")
    unwritten(
        words, toy / CHECKPOINT, tmp_path / "file" / "x.bin", "one of the folders in its path is a file"
    )
    unwritten(words, toy / CHECKPOINT, "/proc/nni_autoformer/x.bin", "cannot be written: No such file")
    unwritten(words, toy / CHECKPOINT, tmp_path / ("x" * 300), "File name too long")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("words", [WRITERS[0], WRITERS[1], WRITERS[4]])
@pytest.mark.parametrize("error", ["ENOSPC", "EROFS", "EDQUOT"])
def test_no_inode_or_a_read_only_disk(toy, tmp_path, unwritten, monkeypatch, words, error):
    import errno
    import os
    from pathlib import Path

    number, touch = getattr(errno, error), Path.touch

    def refuse(self, *args, **more):
        if self.parent == tmp_path:
            raise OSError(number, os.strerror(number), str(self))
        return touch(self, *args, **more)

    monkeypatch.setattr(Path, "touch", refuse)
    unwritten(words, toy / CHECKPOINT, tmp_path / "x.bin", f"cannot be written: {os.strerror(number)}")
    assert not list(tmp_path.iterdir())


def test_a_wrong_export_leaves_nothing(subnet, tmp_path):
    from nni_autoformer import ConfigError
    from nni_autoformer.export import export

    with pytest.raises(ConfigError, match=r"differ by .* nothing was written"):
        export(subnet, lambda x: subnet(x) + 1, "safetensors", tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_moving_average_of_a_training_script_is_a_flag(toy, tmp_path, capsys):
    from nni_autoformer.checkpoints.layouts import published_key

    supernet, _ = load_supernet(toy / CHECKPOINT)
    plain = {published_key(key): tensor for key, tensor in supernet.state_dict().items()}
    average = {key: tensor / 2 for key, tensor in plain.items()}
    torch.save({"model": plain, "model_ema": average, "epoch": 3}, tmp_path / "x.pth")
    names = {"s": toy / "space.yaml", "t": tmp_path}
    for flag, tensors, words in (("", plain, "plain weights"), (" --use-ema", average, "moving average")):
        output = tmp_path / f"out{flag.strip()}.safetensors"
        text = f"convert --space {{s}} --checkpoint {{t}}/x.pth --to supernet --output {output}{flag}"
        assert command(text, **names) == 0
        assert f"x.pth: the {words}" in capsys.readouterr().err
        assert torch.equal(load_supernet(output)[0].state_dict()["head.weight"], tensors["head.weight"])
    assert command("info {c} --use-ema", c=toy / CHECKPOINT) == 2
    assert "one set of weights" in capsys.readouterr().err


def test_a_subnets_file_is_of_every_space_that_holds_it(toy, tmp_path, capsys):
    from nni_autoformer.checkpoints import save_subnet

    supernet, header = load_supernet(toy / CHECKPOINT)
    save_subnet(tmp_path / "a.safetensors", supernet.extract(supernet.space.smallest), header.run)
    test = f"test --checkpoint {tmp_path}/a.safetensors --data {toy}/images --device cpu --space"
    assert command(f"{test} {toy}/space.yaml") == 0
    capsys.readouterr()
    assert command(f"{test} digits") == 2
    assert "another search space than 'digits'" in capsys.readouterr().err


def test_a_network_without_logits_is_not_exported(subnet, tmp_path):
    import copy

    from nni_autoformer import ConfigError
    from nni_autoformer.export import export

    broken = copy.deepcopy(subnet)
    torch.nn.init.constant_(broken.head.bias, float("inf"))
    with pytest.raises(ConfigError, match="logits are NaN or infinite, so nothing was written"):
        export(broken, broken, "safetensors", tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_for_onnx_is_a_sentence(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    flags = f"--architecture middle --format onnx --output {tmp_path / 'x.onnx'}"
    assert command("export --checkpoint {c} " + flags, c=toy / CHECKPOINT) == 2
    assert "needs the package onnxruntime: pip install 'nni-autoformer[onnx]'" in capsys.readouterr().err


def test_the_published_way_from_a_checkpoint_to_an_accuracy(toy, tmp_path, capsys):
    """A .pth as the published code writes it, its YAML file, and the search with a given selection."""
    names = {"t": tmp_path, "d": toy / "images", "s": toy / "space.yaml"}
    assert (
        command("convert --checkpoint {c} --to published --output {t}/p.pth", c=toy / CHECKPOINT, **names)
        == 0
    )
    (tmp_path / "retrain.yaml").write_text(
        "SUPERNET: {EMBED_DIM: 32, DEPTH: 2, NUM_HEADS: 2, MLP_RATIO: 2}\n"
        "RETRAIN: {EMBED_DIM: 32, DEPTH: 2, NUM_HEADS: [1, 2], MLP_RATIO: [1, 2]}\n"
    )
    shared = "--space {s} --checkpoint {t}/p.pth --data {d} --device cpu"
    assert command(f"test {shared} --architecture {{t}}/retrain.yaml", **names) == 0
    assert "embed_dim 32, depth 2, num_heads 1,2, mlp_ratio 1,2" in capsys.readouterr().out
    search = f"search {shared} --output {{t}}/s"
    search += " --generations 1 --population-size 3 --num-mutations 0 --num-crossovers 0"
    assert command(search, **names) == 2
    assert "give --selection N-per-class" in capsys.readouterr().err
    assert command(f"{search} --selection 3-per-class", **names) == 0
    assert "may have been trained on the selection images" in capsys.readouterr().err

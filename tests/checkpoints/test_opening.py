"""A checkpoint is opened once, and a question that needs no tensors reads none."""

import json
import subprocess
import sys

import pytest
import torch

from nni_autoformer import Architecture, Checkpoint, ConfigError, SearchSpace, build_supernet, save_supernet
from nni_autoformer.checkpoints import HeldOut, RunFacts, own_header, save_subnet
from nni_autoformer.checkpoints.layouts import published_key

SPACE = SearchSpace.from_dict(
    {
        "name": "small",
        "choices": {"embed_dim": [16, 24], "depth": [1, 2], "num_heads": [1, 2], "mlp_ratio": [1.5, 2]},
        "model": {"img_size": 16, "patch_size": 4, "num_classes": 5, "max_relative_position": 3},
    }
)
RUN = {
    "dataset": "folder",
    "classes": ["a", "b", "c", "d", "e"],
    "mean": [0.5, 0, 0.25],
    "std": [1, 0.5, 0.5],
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "recipe": {"seed": 7, "lr_base": 0.001},
    "training_images": 60,
    "selection": {"file": "selection.txt", "digest": "0" * 64, "images": 12},
    "inherited": None,
    "supernet_depth": 2,
    "epoch": 3,
    "metrics": {"val_acc/largest": 0.5},
    "of a later version": [1, {"x": None}],
}


@pytest.fixture
def supernet():
    return build_supernet(SPACE, seed=1).eval()


@pytest.fixture
def own(tmp_path, supernet):
    save_supernet(tmp_path / "own.safetensors", supernet, RUN)
    return tmp_path / "own.safetensors"


def published(path, supernet):
    torch.save({"model": {published_key(key): t for key, t in supernet.state_dict().items()}}, path)
    return path


def test_what_the_header_says_of_the_run_is_typed_and_comes_back_as_it_was_written(own, supernet, tmp_path):
    run = Checkpoint(own).header.run
    assert (run.dataset, run.classes, run.mean) == ("folder", ("a", "b", "c", "d", "e"), (0.5, 0, 0.25))
    assert run.selection == HeldOut("selection.txt", "0" * 64, 12)
    assert (run.seed, run.epoch, run.supernet_depth, run.inherited) == (7, 3, 2, None)
    assert run == RUN and run["mean"] == RUN["mean"] and "inherited" in run and "note" not in run
    save_supernet(tmp_path / "again.safetensors", supernet, run)
    assert own.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    assert RunFacts.from_dict({}) == {} and RunFacts(epoch=1) == {"epoch": 1}


def test_a_foreign_file_is_read_once(tmp_path, supernet, monkeypatch):
    path, loads, load = published(tmp_path / "p.pth", supernet), [], torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **more: loads.append(args) or load(*args, **more))
    checkpoint = Checkpoint(path, SPACE)
    architecture = checkpoint.architecture("middle")
    subnet, whole = checkpoint.subnet(architecture), checkpoint.supernet()
    assert checkpoint.header.kind == "published supernet" and len(loads) == 1
    images = torch.randn(2, 3, 16, 16)
    whole.eval().set_architecture(architecture)
    with torch.no_grad():
        torch.testing.assert_close(subnet(images), whole(images), rtol=0, atol=1e-6)


def test_the_header_of_an_own_file_reads_no_tensor(own, monkeypatch):
    from nni_autoformer.checkpoints import reading

    def refuse(path):
        raise AssertionError("tensors were read")

    monkeypatch.setattr(reading, "read_own", refuse)
    checkpoint = Checkpoint(own)
    checkpoint.require_supernet()
    assert checkpoint.header.space == SPACE and checkpoint.architecture("smallest") == SPACE.smallest
    with pytest.raises(AssertionError, match="tensors were read"):
        checkpoint.supernet()


@pytest.mark.parametrize(
    ("job", "built"), [("supernet", "build_supernet"), ("subnet", "Subnet"), ("file", "Subnet")]
)
def test_one_network_is_built_per_load(own, tmp_path, supernet, monkeypatch, job, built):
    from nni_autoformer import model
    from nni_autoformer.nn.subnet import Subnet

    save_subnet(tmp_path / "subnet.safetensors", supernet.extract(SPACE.middle), RUN)
    counts, init, build = {"Subnet": 0, "build_supernet": 0}, Subnet.__init__, model.build_supernet

    def count(name, call):
        def counted(*args, **more):
            counts[name] += 1
            return call(*args, **more)

        return counted

    monkeypatch.setattr(Subnet, "__init__", count("Subnet", init))
    monkeypatch.setattr(model, "build_supernet", count("build_supernet", build))
    if job == "supernet":
        Checkpoint(own).supernet()
    elif job == "subnet":
        Checkpoint(own).subnet(SPACE.middle)
    else:
        Checkpoint(tmp_path / "subnet.safetensors").subnet()
    assert counts == {"Subnet": 0, "build_supernet": 0} | {built: 1}


def test_which_subnet_is_meant(own, supernet, tmp_path):
    checkpoint = Checkpoint(own)
    assert checkpoint.architecture(SPACE.middle) == SPACE.middle == checkpoint.architecture("middle")
    with pytest.raises(ConfigError, match="say which subnet with --architecture"):
        checkpoint.architecture()
    with pytest.raises(ConfigError, match=r"not in the space 'small': embed_dim 20"):
        checkpoint.architecture(Architecture(20, (1,), (1.5,)))
    save_subnet(tmp_path / "subnet.safetensors", supernet.extract(SPACE.middle), {})
    subnet = Checkpoint(tmp_path / "subnet.safetensors")
    assert subnet.architecture() == SPACE.middle == subnet.architecture(SPACE.middle)
    with pytest.raises(ConfigError, match="holds one subnet, and it is not"):
        subnet.architecture(SPACE.smallest)
    with pytest.raises(ConfigError, match="holds a subnet; a supernet is needed"):
        subnet.require_supernet()


def test_a_truncated_file_is_noticed_from_its_header_alone(own):
    own.write_bytes(own.read_bytes()[:-1])
    for opens in (Checkpoint, own_header):
        with pytest.raises(ConfigError, match=r"own.safetensors: the file is damaged or truncated"):
            opens(own)


def test_a_header_needs_no_torch_and_a_subnet_neither_nni_nor_timm(own):
    script = (
        "import json, sys\n"
        "from nni_autoformer import Checkpoint\n"
        "names = ('torch', 'nni', 'timm', 'torchvision', 'pytorch_lightning')\n"
        "loaded = lambda: [name for name in names if name in sys.modules]\n"
        "checkpoint = Checkpoint(sys.argv[1])\n"
        "said = [checkpoint.header.kind, loaded()]\n"
        "checkpoint.subnet(checkpoint.architecture('middle'))\n"
        "print(json.dumps([*said, loaded()]))\n"
    )
    result = subprocess.run([sys.executable, "-c", script, own], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == ["supernet", [], ["torch"]]

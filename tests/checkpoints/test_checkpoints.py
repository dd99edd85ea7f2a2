"""Checkpoints of all kinds: recognised by their keys, exact, and never executed."""

import argparse
import json
import random
from pathlib import Path

import pytest
import torch

from nni_autoformer import (
    Architecture,
    ConfigError,
    SearchSpace,
    build_supernet,
    load_supernet,
    save_supernet,
)
from nni_autoformer.checkpoints import load_subnet, read_header, save_subnet
from nni_autoformer.checkpoints.layouts import (
    describe_subnet,
    hub_to_timm,
    published_key,
    recognise,
    timm_to_hub,
)
from nni_autoformer.checkpoints.shapes import subnet_shapes, supernet_shapes
from nni_autoformer.nn.subnet import Subnet

DATA = Path(__file__).parents[1] / "golden"
PUBLISHED_SHAPES = json.loads((DATA / "supernet_keys.json").read_text())
HUB_SHAPES = json.loads((DATA / "hub_keys.json").read_text())
NAMES = {"T": "tiny", "S": "small", "B": "base"}


def published_file(path, supernet, width=None):
    """Write a supernet as the published code does: a dict with the weights beside optimizer, epoch and "
    "arguments."""
    space = supernet.space
    shapes, model = supernet_shapes(space, width or space.embed_dim[-1]), {}
    torch.manual_seed(0)
    for key, tensor in supernet.state_dict().items():
        name = published_key(key)
        model[name] = torch.randn(shapes[name])
        model[name][tuple(slice(size) for size in tensor.shape)] = tensor
    arguments = argparse.Namespace(lr=5e-4, data_path="/data", gp=True)
    content = {"model": model, "optimizer": {"state": {}}, "epoch": 499, "scaler": None, "args": arguments}
    torch.save(content, path)
    return model


@pytest.mark.parametrize("letter", "TSB")
def test_the_published_files_fit_the_papers_spaces(letter):
    golden = {key: tuple(shape) for key, shape in PUBLISHED_SHAPES[letter].items()}
    space = SearchSpace.load(NAMES[letter])
    assert supernet_shapes(space, golden["cls_token"][-1]) == golden


@pytest.mark.parametrize(
    "changes", [{}, {"relative_position": False}, {"absolute_position": False, "img_size": [16, 32]}]
)
def test_the_shapes_in_closed_form_are_those_of_the_networks(changes):
    space = toy_space(**changes)
    supernet = build_supernet(space).state_dict()
    ours = {published_key(key): tuple(tensor.shape) for key, tensor in supernet.items()}
    assert supernet_shapes(space, space.embed_dim[-1]) == ours
    architecture = Architecture(24, (2, 1), (1.5, 2.0))
    subnet = Subnet.without_weights(architecture, space.model).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in subnet.items()}
    assert subnet_shapes(architecture, space.model) == shapes


def toy_space(**changes):
    content = {
        "name": "toy",
        "choices": {"embed_dim": [16, 24], "depth": [1, 2], "num_heads": [1, 2], "mlp_ratio": [1.5, 2]},
        "model": {"img_size": 16, "patch_size": 4, "num_classes": 5, "max_relative_position": 3, **changes},
    }
    return SearchSpace.from_dict(content)


def scrambled(space):
    supernet = build_supernet(space).eval()
    torch.manual_seed(3)
    for parameter in supernet.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return supernet


@pytest.mark.parametrize("width", [24, 32])
def test_a_published_checkpoint_is_exact_for_every_subnet(tmp_path, width):
    """Also when the file is wider than the largest choice, as the published T and B are."""
    space = toy_space()
    supernet = scrambled(space)
    published_file(tmp_path / "supernet.pth", supernet, width)
    loaded, header = load_supernet(tmp_path / "supernet.pth", space)
    assert header.kind == "published supernet"
    assert header.run["crop_pct"] == 0.875 and header.run["mean"] == [0.485, 0.456, 0.406]
    x = torch.randn(2, 3, 16, 16)
    loaded.eval()
    for architecture in (space.smallest, space.largest, *(space.sample(random.Random(i)) for i in range(5))):
        supernet.set_architecture(architecture)
        loaded.set_architecture(architecture)
        with torch.no_grad():
            assert torch.equal(supernet(x), loaded(x))


def test_a_published_checkpoint_of_another_space_names_key_shapes_and_the_space_that_fits(tmp_path):
    space = toy_space()
    published_file(tmp_path / "supernet.pth", scrambled(space))
    deeper = SearchSpace.from_dict(
        {**space.to_dict(), "name": "deep", "choices": {**space.to_dict()["choices"], "depth": [3]}}
    )
    with pytest.raises(ConfigError, match=r"lacks the tensor 'blocks.2.norm|lacks the tensor 'blocks.2"):
        load_supernet(tmp_path / "supernet.pth", deeper)
    with pytest.raises(ConfigError, match="does not say which search space it is for: give --space"):
        load_supernet(tmp_path / "supernet.pth")
    digits = build_supernet("digits")
    published_file(tmp_path / "digits.pth", digits)
    wrong = SearchSpace.load("digits").with_model(patch_size=4, max_relative_position=3)
    with pytest.raises(
        ConfigError, match=r"'patch_embed_super.proj.weight' has shape|'pos_embed' has shape|has shape \["
    ):
        load_supernet(tmp_path / "digits.pth", wrong)
    other = SearchSpace.from_dict({**SearchSpace.load("cifar").to_dict()})
    with pytest.raises(ConfigError, match=r"the space 'cifar' \(the file fits digits\)"):
        load_supernet(tmp_path / "digits.pth", other)


def test_a_file_with_code_beside_the_weights_is_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return (tmp_path / "executed").mkdir, ()

    torch.save({"model": {}, "args": argparse.Namespace(x=Code())}, tmp_path / "bad.pth")
    with pytest.raises(ConfigError, match="refused"):
        read_header(tmp_path / "bad.pth", toy_space())
    assert not (tmp_path / "executed").exists()


def test_no_network_at_all(tmp_path):
    for content in ({"model": {"a": torch.zeros(1)}}, {"a": 1}, [torch.zeros(1)]):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(ConfigError, match="no network"):
            read_header(tmp_path / "x.pth")


def filled(shapes):
    torch.manual_seed(0)
    return {key: torch.randn(shape) * 0.1 for key, shape in shapes.items()}


@pytest.mark.parametrize("letter", ["T"])
def test_a_subnet_of_nnis_hub(letter, tmp_path):
    """Its keys and shapes are those of NNI 3.0; the network is compared with NNI's own."""
    from nni.nas.hub.pytorch import AutoFormer as Hub

    tensors = filled(HUB_SHAPES[letter]["subnet"])
    assert recognise(tensors) == "hub subnet"
    torch.save(tensors, tmp_path / "hub.pth")
    subnet, header = load_subnet(tmp_path / "hub.pth")
    assert header.kind == "hub subnet"
    architecture = subnet.architecture
    assert architecture.embed_dim == 192 and architecture.depth == 13
    sample = {
        "embed_dim": architecture.embed_dim,
        "depth": architecture.depth,
        **{f"num_head_{i}": n for i, n in enumerate(architecture.num_heads)},
        **{f"mlp_ratio_{i}": n for i, n in enumerate(architecture.mlp_ratio)},
    }
    from nni.nas.space import model_context

    with model_context(sample):
        hub = Hub(
            search_embed_dim=(192, 216, 240),
            search_mlp_ratio=(3.0, 3.5, 4.0),
            search_num_heads=(3, 4),
            search_depth=(12, 13, 14),
        ).eval()
    hub.load_state_dict(tensors)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(subnet(x), hub(x), rtol=0, atol=1e-5)


def test_hub_and_timm_layouts_are_each_others_inverse():
    space = toy_space()
    tensors = scrambled(space).extract(space.middle).state_dict()
    hub = timm_to_hub(tensors)
    assert recognise(hub) == "hub subnet"
    back = hub_to_timm(hub)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensors[key]) for key in tensors)


def test_a_hub_supernet_is_exact_with_the_largest_heads_and_warned_of(tmp_path):
    space = SearchSpace.load("tiny")
    tensors = filled(HUB_SHAPES["T"]["supernet"])
    assert recognise(tensors) == "hub supernet"
    torch.save(tensors, tmp_path / "hub.pth")
    with pytest.warns(UserWarning, match="other biases of queries, keys and values"):
        supernet, header = load_supernet(tmp_path / "hub.pth", space)
    assert header.kind == "hub supernet"
    sizes = (216, 13, 864)
    for heads, exact in ((4, True), (3, False)):
        architecture = Architecture(216, (heads,) * 13, (4.0,) * 13)
        subnet = supernet.extract(architecture).state_dict()
        width = 64 * heads
        for part, start in zip("qkv", (0, width, 2 * width)):
            rows = slice(start, start + width)
            weight = tensors[f"blocks.blocks.5.attn.{part}.weight"][:width, : sizes[0]]
            assert torch.equal(subnet["blocks.5.attn.qkv.weight"][rows], weight)
            bias = tensors[f"blocks.blocks.5.attn.{part}.bias"][:width]
            assert torch.equal(subnet["blocks.5.attn.qkv.bias"][rows], bias) == (exact or part == "q")


@pytest.mark.parametrize(
    "options", [{}, {"relative_position": False}, {"img_size": 32, "global_pool": "token"}]
)
def test_own_subnet_files(tmp_path, options):
    space = toy_space(**options)
    architecture = Architecture(24, (2, 1), (1.5, 2.0))
    subnet = scrambled(space).extract(architecture)
    save_subnet(tmp_path / "subnet.safetensors", subnet, {"note": "mine"})
    loaded, header = load_subnet(tmp_path / "subnet.safetensors")
    assert (header.kind, header.run) == ("subnet", {"note": "mine"})
    assert (loaded.architecture, loaded.model) == (architecture, space.model)
    x = torch.randn(1, 3, *space.model.img_size)
    with torch.no_grad():
        assert torch.equal(loaded(x), subnet(x))
    with pytest.raises(ConfigError, match="holds a subnet; a supernet is needed"):
        load_supernet(tmp_path / "subnet.safetensors")


def test_a_subnet_in_timms_layout_is_read_from_its_shapes(tmp_path):
    space = toy_space()
    architecture = Architecture(24, (2, 1), (1.5, 2.0))
    subnet = scrambled(space).extract(architecture)
    torch.save(subnet.state_dict(), tmp_path / "timm.pth")
    loaded, header = load_subnet(tmp_path / "timm.pth")
    assert header.kind == "timm subnet"
    assert loaded.architecture == architecture
    assert loaded.model == space.model
    assert describe_subnet(subnet.state_dict())[1].num_classes == 5


@pytest.mark.parametrize("embed_dim", [120, 192, 216, 240, 528])
@pytest.mark.parametrize("ratio", [1.0, 1.33, 3.0, 3.5, 4.0])
def test_the_ratio_is_found_from_the_hidden_width(embed_dim, ratio):
    architecture = Architecture(embed_dim, (1,), (ratio,))
    with torch.device("meta"):
        tensors = Subnet(architecture, toy_space().model).state_dict()
    found = describe_subnet(tensors)[0]
    assert found.hidden_features == architecture.hidden_features


def test_own_supernets_need_no_space_and_are_not_another_kind(tmp_path):
    space = toy_space()
    supernet = scrambled(space)
    save_supernet(tmp_path / "own.safetensors", supernet, {"epoch": 3})
    loaded, header = load_supernet(tmp_path / "own.safetensors")
    assert header.space == space and header.run == {"epoch": 3} and header.kind == "supernet"
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    with pytest.raises(ConfigError, match="holds a supernet; a subnet is needed"):
        load_subnet(tmp_path / "own.safetensors")

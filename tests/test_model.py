"""The model space, the supernet and the subnets that leave it."""

import random
import subprocess
import sys

import pytest
import torch
from nni.nas.space import model_context

from nni_autoformer import AutoFormer, ConfigError, SearchSpace, Subnet, build_supernet
from nni_autoformer.architecture import Architecture
from nni_autoformer.model import _subnet_key
from nni_autoformer.space import ModelConfig

VARIANTS = {
    "default": {},
    "larger grid": {"img_size": (16, 16), "patch_size": 4, "max_relative_position": 3},
    "no relative position": {"relative_position": False},
    "clipped": {"img_size": (16, 16), "patch_size": 4, "max_relative_position": 1},
    "no absolute position": {"absolute_position": False},
    "class token": {"global_pool": "token"},
    "wide images": {"img_size": (8, 12), "patch_size": 4, "max_relative_position": 2},
    "colour": {"in_chans": 3, "num_classes": 7},
}


def images(space, count=3, dtype=torch.float64):
    torch.manual_seed(5)
    return torch.randn(count, space.model.in_chans, *space.model.img_size, dtype=dtype)


def scrambled(space):
    """A supernet whose biases and norms are not at their neutral start."""
    supernet = build_supernet(space).eval().double()
    torch.manual_seed(1)
    for parameter in supernet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return supernet


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_subnet_has_the_supernets_logits(variant):
    space = SearchSpace.load("digits").with_model(**VARIANTS[variant])
    supernet = scrambled(space)
    rng = random.Random(3)
    for architecture in (space.smallest, space.largest, *(space.sample(rng) for _ in range(6))):
        supernet.double().set_architecture(architecture)
        subnet = supernet.extract(architecture)
        x = images(space)
        with torch.no_grad():
            torch.testing.assert_close(subnet(x), supernet(x), rtol=0, atol=1e-12)
            single = subnet.float()(x.float())
            torch.testing.assert_close(single, supernet.float()(x.float()), rtol=0, atol=2e-6)


def test_every_choice_and_option_matters():
    space = SearchSpace.load("digits")
    supernet = scrambled(space)
    outputs = []
    x = images(space)
    base = space.middle
    for architecture in (base, *space.neighbours(base)):
        supernet.set_architecture(architecture)
        with torch.no_grad():
            outputs.append(supernet(x))
    for i, one in enumerate(outputs):
        for other in outputs[:i]:
            assert (one - other).abs().max() > 1e-6


def test_the_class_token_stays_in_the_sequence_with_both_poolings():
    for pool in ("avg", "token"):
        space = SearchSpace.load("digits").with_model(global_pool=pool)
        subnet = Subnet(space.smallest, space.model)
        tokens = subnet.forward_features(images(space, dtype=torch.float32))
        assert tokens.shape == (3, 1 + 4, 48)
        expected = tokens[:, 1:].mean(1) if pool == "avg" else tokens[:, 0]
        torch.testing.assert_close(subnet.forward_head(tokens), subnet.head(expected))


def test_the_mutables_have_the_labels_of_nnis_hub():
    space = SearchSpace.load("digits")
    labels = set(AutoFormer(space).simplify())
    layers = range(space.max_depth)
    assert labels == {"embed_dim", "depth"} | {
        f"{name}_{i}" for name in ("num_head", "mlp_ratio") for i in layers
    }


def test_nni_freezes_the_supernet_and_the_space_to_the_same_network():
    space = SearchSpace.load("digits")
    supernet = scrambled(space)
    architecture = space.sample(random.Random(8))
    sample = architecture.to_sample(space.max_depth)
    supernet.set_architecture(architecture)
    x = images(space)
    with torch.no_grad():
        frozen = supernet.freeze(sample)
        torch.testing.assert_close(frozen.double().eval()(x), supernet(x), rtol=1e-4, atol=1e-4)
    with model_context(sample):
        fresh = AutoFormer(space)
    shapes = {key: tensor.shape for key, tensor in fresh.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in frozen.state_dict().items()}


def test_nni_random_sampling_of_the_space_gives_members():
    space = SearchSpace.load("digits")
    model_space = AutoFormer(space)
    for _ in range(5):
        sample = {}
        model_space.random(sample)
        assert Architecture.from_sample(sample) in space


def test_drop_path_rises_over_the_supernets_depth_and_is_not_rescaled():
    space = SearchSpace.load("digits")
    supernet = build_supernet(space, drop_path_rate=0.4)
    rates = [block.drop_path.rate for block in supernet.extract(space.smallest).blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


def test_drop_path_drops_whole_branches_of_images_while_training():
    from nni_autoformer.nn.layers import DropPath

    torch.manual_seed(0)
    layer = DropPath(0.25).train()
    x = torch.ones(4000, 3, 2)
    dropped = layer(x)
    per_image = dropped.flatten(1)
    assert (per_image == per_image[:, :1]).all()
    assert sorted(set(per_image[:, 0].tolist())) == pytest.approx([0, 1 / 0.75])
    assert (per_image[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert layer.eval()(x) is x


def test_initial_weights_depend_on_the_seed_alone():
    def weights(seed):
        return torch.cat([p.flatten() for p in build_supernet("digits", seed).parameters()])

    torch.manual_seed(1)
    first = weights(0)
    before = torch.random.get_rng_state()
    again, other = weights(0), weights(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_initialisation_is_the_published_one():
    supernet = build_supernet("digits")
    for name, parameter in supernet.named_parameters():
        if "proj" in name and name.startswith("patch_embed"):
            continue
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            assert 0.015 < parameter.std() < 0.025, name


def test_a_subnet_needs_neither_the_supernet_nor_nni(tmp_path):
    space = SearchSpace.load("digits")
    subnet = build_supernet(space).eval().extract(space.middle)
    x = images(space, dtype=torch.float32)
    with torch.no_grad():
        torch.save({"state": subnet.state_dict(), "x": x, "y": subnet(x)}, tmp_path / "subnet.pt")
    script = f"""
import sys, torch
from nni_autoformer.nn.subnet import Subnet
from nni_autoformer.space import SearchSpace
space = SearchSpace.load("digits")
saved = torch.load({str(tmp_path / "subnet.pt")!r}, weights_only=True)
subnet = Subnet(space.middle, space.model).eval()
subnet.load_state_dict(saved["state"])
with torch.no_grad():
    assert torch.equal(subnet(saved["x"]), saved["y"])
loaded = [name for name in ("nni", "timm", "torchvision", "pytorch_lightning") if name in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_subnet_has_timms_key_names():
    timm = pytest.importorskip("timm")
    model = ModelConfig(img_size=(32, 32), patch_size=8, relative_position=False, num_classes=10)
    ours = Subnet(Architecture(64, (1, 1), (2.0, 2.0)), model)
    theirs = timm.models.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=64,
        depth=2,
        num_heads=1,
        mlp_ratio=2,
        num_classes=10,
        global_pool="avg",
        fc_norm=False,
        norm_layer=torch.nn.LayerNorm,
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs(x), rtol=0, atol=1e-5)


def test_wrong_uses_are_refused():
    space = SearchSpace.load("digits")
    foreign = SearchSpace.load("cifar").smallest
    supernet = build_supernet(space)
    with pytest.raises(ConfigError, match="not in the space 'digits': embed_dim 128"):
        supernet.set_architecture(foreign)
    with pytest.raises(ConfigError, match="not in the space"):
        supernet.extract(foreign)
    with pytest.raises(RuntimeError, match="not yet a supernet"):
        AutoFormer(space).set_architecture(space.smallest)


@pytest.mark.parametrize("norms", [{}, {"pre_norm": True, "fc_norm": True}])
def test_layer_wise_rates_are_those_of_the_largest_subnet_in_timm(norms):
    from timm.models import group_parameters
    from timm.models.vision_transformer import VisionTransformer
    from timm.optim import param_groups_layer_decay

    space = SearchSpace("three", (64,), (2, 3), (1,), (1.0,), ModelConfig(img_size=(32, 32), **norms))
    supernet = build_supernet(space)
    names = {id(parameter): _subnet_key(name) for name, parameter in supernet.named_parameters()}
    groups = param_groups_layer_decay(supernet, 0.05, supernet.no_weight_decay(), layer_decay=0.5)
    rates = {names[id(entry)]: group["lr_scale"] for group in groups for entry in group["params"]}
    plain = supernet.extract(space.largest)
    layers = group_parameters(plain, VisionTransformer.group_matcher(plain), reverse=True)
    expected = {name: 0.5 ** (4 - layer) for name, layer in layers.items()}
    if norms:  # where older versions of timm had it with the last block
        expected |= {"norm_pre.weight": 0.5**4, "norm_pre.bias": 0.5**4}
    assert rates == expected and len(set(rates.values())) == 5
    own = group_parameters(plain, plain.group_matcher(), reverse=True)
    assert {name: 0.5 ** (4 - layer) for name, layer in own.items()} == expected
    assert rates["head.weight"] == 1.0 and rates["blocks.2.mlp.fc1.weight"] == 0.5

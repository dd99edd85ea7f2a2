"""What a foreign file says of its network is taken from it; what it does not is assumed aloud, or refused."""

import argparse

import numpy as np
import pytest
import timm
import torch

from nni_autoformer import Architecture, Checkpoint, ConfigError, SearchSpace
from nni_autoformer.checkpoints.layouts import describe_subnet, published_key, ratio_of, timm_to_hub

PUBLISHED = {
    "change_qkv": True,
    "gp": True,
    "relative_position": True,
    "max_relative_position": 3,
    "no_abs_pos": False,
    "post_norm": False,
    "input_size": 16,
    "patch_size": 4,
    "nb_classes": 5,
    "model": "",
}
"""What the published code saves of how a network was built."""


def published(path, supernet, **changes):
    """A file as the published code writes it; a change to None leaves the argument out."""
    arguments = {key: value for key, value in {**PUBLISHED, **changes}.items() if value is not None}
    tensors = {published_key(key): tensor for key, tensor in supernet.state_dict().items()}
    torch.save({"model": tensors, "epoch": 499, "args": argparse.Namespace(**arguments)}, path)
    return path


def warnings(logged):
    return [line for line in logged if line.startswith("warning ")]


def test_a_file_that_says_everything_is_taken_without_a_word(tmp_path, small_space, small_supernet, logged):
    header = Checkpoint(published(tmp_path / "p.pth", small_supernet), small_space).header
    assert header.space == small_space and not logged


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"change_qkv": False}, r"change_qkv.*args\.change_qkv is False.*not supported"),
        ({"change_qkv": 0}, r"change_qkv.*not supported"),
        ({"change_qkv": np.False_}, r"change_qkv.*not supported"),
        ({"post_norm": "True"}, r"post_norm.*not supported"),
        ({"no_abs_pos": 1}, r"args\.no_abs_pos is 1.*the tensors of the absolute position"),
        ({"change_qk": False}, r"args\.change_qk is False"),
        ({"post_norm": True}, r"post_norm.*not supported"),
        ({"pre_norm": False}, r"args\.pre_norm is False"),
        ({"scale": True}, r"args\.scale is True"),
        (
            {"relative_position": False},
            r"args\.relative_position is False.*which has the tensors",
        ),
        ({"no_abs_pos": True}, r"args\.no_abs_pos is True.*the tensors of the absolute position"),
        ({"input_size": 18}, r"18 x 18 pixels are not tiled by patches of 4"),
    ],
)
def test_what_leaves_no_trace_in_the_tensors_and_is_not_supported(
    tmp_path, small_space, small_supernet, changes, words
):
    with pytest.raises(ConfigError, match=rf"p\.pth: .*{words}"):
        Checkpoint(published(tmp_path / "p.pth", small_supernet, **changes), small_space)


def test_pooling_is_the_files_and_not_the_spaces(tmp_path, small_space, make_supernet, logged):
    token = small_space.with_model(global_pool="token")
    supernet = make_supernet(token)
    checkpoint = Checkpoint(published(tmp_path / "p.pth", supernet, gp=False), small_space)
    assert checkpoint.header.space == token
    checkpoint.require_supernet()
    images = torch.randn(2, 3, 16, 16)
    supernet.set_architecture(token.middle)
    with torch.no_grad():
        assert torch.allclose(checkpoint.subnet(token.middle)(images), supernet(images), atol=1e-5)
    (said,) = warnings(logged)
    assert "taken from the file, and not from --space: global_pool token in place of avg" in said


def test_a_size_that_no_tensor_shows_is_the_files(tmp_path, small_space, make_supernet):
    bare = small_space.with_model(absolute_position=False, img_size=(24, 24))
    path = published(tmp_path / "p.pth", make_supernet(bare), no_abs_pos=True, input_size=24)
    found = Checkpoint(path, small_space).header.space.model
    assert (found.img_size, found.absolute_position) == ((24, 24), False)


def test_what_a_published_file_does_not_say_is_assumed_aloud(tmp_path, small_space, small_supernet, logged):
    Checkpoint(published(tmp_path / "p.pth", small_supernet, gp=None, change_qkv=None), small_space)
    (said,) = warnings(logged)
    assert "p.pth" in said and "the mean of the patches is pooled, as --space says" in said
    assert "every head has 64 channels (change_qkv)" in said
    logged.clear()
    tensors = {published_key(key): tensor for key, tensor in small_supernet.state_dict().items()}
    torch.save(tensors, tmp_path / "bare.pth")
    Checkpoint(tmp_path / "bare.pth", small_space)
    (said,) = warnings(logged)
    assert "norms stand before attention and MLP, and images are normalised as ImageNet's" in said


@pytest.mark.parametrize("layout", ["hub", "timm"])
def test_what_a_subnets_file_does_not_say_is_assumed_aloud(
    tmp_path, small_space, small_supernet, logged, layout
):
    tensors = small_supernet.extract(small_space.middle).state_dict()
    torch.save(timm_to_hub(tensors) if layout == "hub" else tensors, tmp_path / "x.pth")
    header = Checkpoint(tmp_path / "x.pth").header
    assert header.kind == f"{layout} subnet" and header.subnet == small_space.middle
    (said,) = warnings(logged)
    for words in (
        "images are square, 16 x 16",
        "the mean of the patches is pooled",
        "normalised as ImageNet's",
    ):
        assert words in said


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "vit_tiny_patch16_224"])
def test_a_plain_vit_of_timm_is_refused(tmp_path, name):
    """Its tensors have the names and shapes of a subnet without relative position; its logits are others."""
    tensors = timm.create_model(name, pretrained=False).state_dict()
    architecture, model = describe_subnet(tensors)
    assert architecture == Architecture(192, (3,) * 12, (4.0,) * 12) and not model.relative_position
    torch.save(tensors, tmp_path / "vit.pth")
    with pytest.raises(ConfigError, match=r"no relative tables .* plain ViT or DeiT .* class token"):
        Checkpoint(tmp_path / "vit.pth")
    torch.save({"state_dict": tensors, "arch": name}, tmp_path / "vit.pth")
    with pytest.raises(ConfigError, match=f"the network is '{name}' and no AutoFormer"):
        Checkpoint(tmp_path / "vit.pth")


def test_a_network_that_timms_script_trained(tmp_path, logged):
    """It says its name, how it pools and how its images are prepared."""
    import nni_autoformer.registry  # noqa: F401

    architecture = Architecture(24, (1, 2), (2.0, 1.5))
    made = {"img_size": 16, "patch_size": 4, "num_classes": 5, "relative_position": False}
    network = timm.create_model("autoformer", architecture=architecture, global_pool="token", **made).eval()
    arguments = argparse.Namespace(
        model="autoformer",
        gp=None,
        model_kwargs={"global_pool": "token"},
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.2, 0.2],
        crop_pct=1.0,
        interpolation="bilinear",
    )
    torch.save({"state_dict": network.state_dict(), "arch": "autoformer", "args": arguments}, tmp_path / "x")
    checkpoint = Checkpoint(tmp_path / "x")
    run, images = checkpoint.header.run, torch.randn(2, 3, 16, 16)
    assert (run.mean, run.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert (run.crop_pct, run.interpolation) == (1.0, "bilinear")
    with torch.no_grad():
        assert torch.allclose(checkpoint.subnet()(images), network(images), atol=1e-6)
    (said,) = warnings(logged)
    assert "square" in said and "pooled" not in said and "normalised" not in said


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"img_size": [16, 24]}, None, "24 patches, which are no square"),
        ({}, "blocks.0.attn.qkv.weight", "with heads of 64 it would be a multiple of 192"),
    ],
)
def test_a_subnet_that_shapes_alone_do_not_describe(
    tmp_path, small_space, make_supernet, changes, key, words
):
    space = small_space.with_model(**{name: tuple(size) for name, size in changes.items()})
    tensors = make_supernet(space).extract(space.middle).state_dict()
    if key is not None:
        tensors[key] = tensors[key][:100]
    torch.save(tensors, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match=rf"x\.pth: .*{words}"):
        Checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_are_not_normalised_as_imagenets(
    tmp_path, small_space, make_supernet, channels
):
    space = small_space.with_model(in_chans=channels)
    torch.save(timm_to_hub(make_supernet(space).extract(space.middle).state_dict()), tmp_path / "x.pth")
    assert Checkpoint(tmp_path / "x.pth").header.run.mean is None


@pytest.mark.parametrize("embed_dim", [72, 120, 192, 216, 240, 320, 528, 624])
@pytest.mark.parametrize("ratio", [1.0, 1.33, 1.7, 2.66, 3.0, 3.5, 4.0])
def test_a_ratio_gives_the_hidden_width_and_a_known_one_comes_back(embed_dim, ratio):
    hidden = int(embed_dim * ratio)
    assert int(embed_dim * ratio_of(hidden, embed_dim)) == hidden
    assert ratio_of(hidden, embed_dim, (1.0, 1.33, 1.7, 2.66, 3.0, 3.5, 4.0)) == ratio


def test_the_ratio_of_a_users_architecture_comes_back(tmp_path, make_supernet):
    """int(72 * 1.33) is int(72 * 1.32), too: a foreign file cannot tell them apart, its user can."""
    space = SearchSpace.from_dict(
        {
            "name": "third",
            "choices": {"embed_dim": [72], "depth": [1], "num_heads": [1], "mlp_ratio": [1.33]},
            "model": {"img_size": 16, "patch_size": 4, "num_classes": 5, "max_relative_position": 4},
        }
    )
    torch.save(timm_to_hub(make_supernet(space).extract(space.largest).state_dict()), tmp_path / "x.pth")
    space.largest.to_yaml(tmp_path / "a.yaml")
    assert Checkpoint(tmp_path / "x.pth").header.subnet.mlp_ratio == (1.32,)
    assert Checkpoint(tmp_path / "x.pth", space).header.subnet == space.largest
    checkpoint = Checkpoint(tmp_path / "x.pth")
    assert checkpoint.architecture(tmp_path / "a.yaml") == space.largest
    assert checkpoint.subnet(space.largest).architecture == space.largest

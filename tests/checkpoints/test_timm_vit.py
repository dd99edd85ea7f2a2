"""timm's plain vision transformers as subnets: the same logits, or a sentence that names the part."""

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from nni_autoformer import ConfigError
from nni_autoformer.checkpoints.timm_vit import DOUBLE, SINGLE, require_same, subnet_of

SMALL = {"img_size": 16, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2, "num_classes": 5}


def network(**options):
    """A small ViT with weights that leave nothing near zero or one."""
    built = VisionTransformer(**{**SMALL, **options}).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return built


SAME = {
    "plain": {},
    "grey, seven classes": {"in_chans": 1, "num_classes": 7},
    "mean of the patches": {"global_pool": "avg"},
    "mean behind the norm": {"global_pool": "avg", "fc_norm": False},
    "class token before the norm": {"fc_norm": True},
    "pre-norm": {"pre_norm": True},
    "layer scale": {"init_values": 1e-5},
    "no biases": {"qkv_bias": False, "proj_bias": False},
    "class token without position": {"no_embed_class": True},
    "no position": {"pos_embed": "none"},
    "no head": {"num_classes": 0},
    "everything": {"init_values": 0.1, "global_pool": "avg", "pre_norm": True, "no_embed_class": True},
}


@pytest.mark.parametrize("options", SAME.values(), ids=SAME)
def test_a_plain_vit_is_a_subnet(options):
    original = network(**options)
    subnet = subnet_of(original, "it")
    single, double = require_same(original, subnet, "it")
    assert single <= SINGLE and double <= DOUBLE
    images = torch.randn(3, subnet.model.in_chans, 16, 16, dtype=torch.float64)
    if options.get("num_classes") != 0:
        theirs = original(images)
        assert (subnet(images) - theirs).abs().max() <= 1e-10
        assert theirs.std() > 0.1  # else a network that ignores its images would do
    assert subnet.model.norm_eps == 1e-6


@pytest.mark.parametrize(
    "name", ["deit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_base_patch32_clip_224"]
)
def test_networks_that_people_have(name):
    original = timm.create_model(name, img_size=56 if "dino" in name else 224, depth=2).eval()
    subnet = subnet_of(original, name)
    require_same(original, subnet, name)
    assert subnet.architecture.num_heads == (subnet.architecture.embed_dim // 64,) * 2


FOREIGN = {
    "heads of 32 channels": {"num_heads": 4},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "register tokens": {"reg_tokens": 2},
    "the pooling 'max'": {"global_pool": "max"},
    "the pooling 'map'": {"global_pool": "map"},
    "no norm behind the blocks": {"final_norm": False},
    "norms within its attention": {"qk_norm": True},
    "SwiGLU": {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU},
    "the activation QuickGELU": {"act_layer": timm.layers.QuickGELU},
    "norms of another kind": {"norm_layer": timm.layers.RmsNorm},
    "a pooling that takes the class token along": {"global_pool": "avg", "pool_include_prefix": True},
}


@pytest.mark.parametrize("part, options", FOREIGN.items(), ids=FOREIGN)
def test_what_is_not_exact_is_refused_by_name(part, options):
    with pytest.raises(ConfigError) as error:
        subnet_of(network(**options), "--from it")
    assert str(error.value).startswith(f"--from it: the network has {'a ' if part == 'SwiGLU' else ''}{part}")


@pytest.mark.parametrize(
    "name, part",
    [
        ("deit_tiny_distilled_patch16_224", "a distillation token"),
        ("vit_small_patch16_dinov3", "a rotary position"),
        ("eva02_tiny_patch14_224", "a rotary position"),
        ("resnet18", "other layers than a plain vision transformer"),
        ("vit_srelpos_small_patch16_224", "other layers than a plain vision transformer"),
    ],
)
def test_other_families_are_refused_by_name(name, part):
    with pytest.raises(ConfigError, match=f"the network has {part}"):
        subnet_of(timm.create_model(name), name)


def test_a_network_that_computes_something_else_is_refused():
    original = network()
    subnet = subnet_of(original, "it")
    subnet.blocks[0].mlp.fc1.bias.data[0] += 1
    with pytest.raises(ConfigError, match=r"it: the largest subnet's logits differ by .* in float32"):
        require_same(original, subnet, "it")
    with torch.no_grad():
        original.float().head.weight[0, 0] = float("nan")
    with pytest.raises(ConfigError, match="differ by nan"):
        require_same(original, subnet_of(original, "it"), "it")

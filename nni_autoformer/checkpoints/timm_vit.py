"""timm's plain vision transformers as subnets: what is exactly one, and what is not.

A plain ViT or DeiT is a `Subnet` without relative position whose heads have 64 channels. A layer scale is
folded into the projection before it, which is exact.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from timm.layers import LayerScale, Mlp, PatchEmbed
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

from ..architecture import HEAD_DIM, Architecture
from ..errors import ConfigError
from ..model_config import POOLS, ModelConfig
from ..nn.layers import pool
from ..nn.subnet import Subnet
from .layouts import ratio_of

SINGLE, DOUBLE = 1e-5, 1e-10
"""How far logits may be from the original's in float32 and in float64, as a share of the largest of them
where that is above 1.
"""

IMAGES = 4
"""Random images that two networks are compared on."""


def subnet_of(network: nn.Module, whose: str) -> Subnet:
    """A network of timm as a subnet, in float64 and evaluation mode.

    Args:
        network: the network; one without a head gets one of a single class, which is zero.
        whose: what it is, for error messages.

    Raises:
        ConfigError: it has a part that a subnet has not; the sentence names it.
    """
    for what in _foreign_parts(network):
        raise ConfigError(
            f"{whose}: the network has {what}; an AutoFormer has no such part. Plain ViTs, DeiTs and DINOv2s "
            "of timm with heads of 64 channels can be used."
        )
    assert isinstance(network, VisionTransformer)
    tensors = {key: tensor.detach().double() for key, tensor in network.state_dict().items()}
    architecture, model = _sizes(network)
    result = _outer(network, tensors, model)
    for i in range(architecture.depth):
        prefix = f"blocks.{i}."
        part = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        result |= {prefix + key: tensor for key, tensor in _block(part).items()}
    return Subnet.from_tensors(architecture, model, result).eval()


def require_same(network: nn.Module, subnet: Subnet, whose: str) -> tuple[float, float]:
    """Check that a subnet computes what a network computes: its logits, or without a head its features.

    Args:
        network: the network, in evaluation mode and float32.
        subnet: the subnet, in float64.
        whose: what the network is, for the error message.

    Returns:
        The largest difference in float32 and in float64; both networks are left in float64.

    Raises:
        ConfigError: one is above `SINGLE` or `DOUBLE`, or is NaN.
    """
    found = []
    for dtype, most in ((torch.float32, SINGLE), (torch.float64, DOUBLE)):
        # a copy: what was rounded would stay so
        ours = copy.deepcopy(subnet).to(dtype)
        difference = _difference(network.to(dtype), ours, dtype)
        if not difference <= most:
            raise ConfigError(
                f"{whose}: the largest subnet's logits differ by {difference:.2g} from the network's in "
                f"{str(dtype).removeprefix('torch.')}; at most {most:g} is allowed, so nothing was done."
            )
        found.append(difference)
    return found[0], found[1]


@torch.no_grad()
def _difference(network: nn.Module, subnet: Subnet, dtype: torch.dtype) -> float:
    images = random_images(subnet.model, dtype)
    theirs = network(images)
    if isinstance(getattr(network, "head", None), nn.Identity):
        ours = subnet.fc_norm(pool(subnet.forward_features(images), subnet.global_pool))
    else:
        ours = subnet(images)
    return scaled_difference(ours, theirs)


def random_images(model: ModelConfig, dtype: torch.dtype) -> Tensor:
    """The images that two networks are compared on, (batch, in_chans, height, width)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(IMAGES, model.in_chans, *model.img_size, generator=generator, dtype=torch.float64).to(
        dtype
    )


def scaled_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of two batches of logits, as a share of the largest logit where that is above 1;
    NaN where one holds it.
    """
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)).item()


def _foreign_parts(network: nn.Module) -> Iterator[str]:
    """What a network has that no subnet has, in words."""
    if any("rope" in name for name, _ in network.named_modules()) or getattr(network, "rope", None):
        yield "a rotary position"
    if getattr(network, "dist_token", None) is not None:
        yield "a distillation token"
    if type(network) is not VisionTransformer:
        yield f"other layers than a plain vision transformer ({type(network).__name__})"
    network_any: Any = network
    if network_any.cls_token is None:
        yield "no class token"
    if network_any.reg_token is not None:
        yield "register tokens"
    if network_any.attn_pool is not None or network_any.global_pool not in POOLS:
        yield f"the pooling '{network_any.global_pool}'"
    if network_any.pool_include_prefix:
        yield "a pooling that takes the class token along"
    yield from _foreign_patches(network_any.patch_embed)
    if isinstance(network_any.norm, nn.Identity) and isinstance(network_any.fc_norm, nn.Identity):
        yield "no norm behind the blocks"
    for block in network_any.blocks:
        yield from _foreign_layers(block)
    norms = [norm for norm in network.modules() if isinstance(norm, nn.LayerNorm)]
    if any(norm.weight is None or norm.bias is None for norm in norms):
        yield "norms without weight and bias"
    if len(epsilons := sorted({norm.eps for norm in norms})) > 1:
        yield f"norms of different epsilons ({', '.join(f'{eps:g}' for eps in epsilons)})"


def _foreign_patches(patch_embed: Any) -> Iterator[str]:
    if type(patch_embed) is not PatchEmbed:
        yield f"another way of cutting patches ({type(patch_embed).__name__})"
    if not isinstance(patch_embed.norm, nn.Identity):
        yield "a norm within the patch embedding"
    sides = patch_embed.patch_size
    if sides[0] != sides[1]:
        yield f"patches of {sides[0]} x {sides[1]} pixels, which are no squares"


def _foreign_layers(block: Any) -> Iterator[str]:
    if type(block) is not Block:
        yield f"blocks of another kind ({type(block).__name__})"
    attention, mlp = block.attn, block.mlp
    if type(attention) is not Attention or attention.gate is not None:
        yield f"an attention of another kind ({type(attention).__name__})"
    if attention.head_dim != HEAD_DIM:
        yield f"heads of {attention.head_dim} channels in place of {HEAD_DIM}"
    if not (isinstance(attention.q_norm, nn.Identity) and isinstance(attention.norm, nn.Identity)):
        yield "norms within its attention"
    if type(mlp) is not Mlp:
        gated = hasattr(mlp, "fc1_g") or "glu" in type(mlp).__name__.lower()
        yield f"{'a SwiGLU' if gated else 'another MLP'} ({type(mlp).__name__})"
    if not isinstance(mlp.norm, nn.Identity):
        yield "a norm within its MLP"
    if type(mlp.act).__name__ != "GELU" or getattr(mlp.act, "approximate", "none") != "none":
        yield f"the activation {type(mlp.act).__name__}, not the exact GELU"
    if not isinstance(block.norm1, nn.LayerNorm):
        yield f"norms of another kind ({type(block.norm1).__name__})"
    for scale in (block.ls1, block.ls2):
        if not isinstance(scale, (LayerScale, nn.Identity)):
            yield f"a scale of another kind ({type(scale).__name__})"


def _sizes(network: VisionTransformer) -> tuple[Architecture, ModelConfig]:
    patches, embed_dim = network.patch_embed, network.embed_dim
    blocks: list[Any] = list(network.blocks)
    classes = network.num_classes if isinstance(network.head, nn.Linear) else 1
    average = network.global_pool == "avg"
    model = ModelConfig.from_dict(
        {
            "img_size": list(patches.img_size),
            "patch_size": patches.patch_size[0],
            "in_chans": patches.proj.in_channels,
            "num_classes": classes,
            "global_pool": network.global_pool,
            "relative_position": False,
            "absolute_position": network.pos_embed is not None,
            "norm_eps": blocks[0].norm1.eps,
            "pre_norm": not isinstance(network.norm_pre, nn.Identity),
            # a norm of the pooled class token and a pooled norm of it are the same
            "fc_norm": average and not isinstance(network.fc_norm, nn.Identity),
        },
        "the network",
    )
    hidden = [block.mlp.fc1.out_features for block in blocks]
    return (
        Architecture(
            embed_dim,
            tuple(block.attn.num_heads for block in blocks),
            tuple(ratio_of(size, embed_dim) for size in hidden),
        ),
        model,
    )


def _outer(network: VisionTransformer, tensors: dict[str, Tensor], model: ModelConfig) -> dict[str, Tensor]:
    embed_dim = network.embed_dim
    zeros = tensors["cls_token"].new_zeros
    result = {"cls_token": tensors["cls_token"]}
    if model.absolute_position:
        position = tensors["pos_embed"]
        if network.no_embed_class:
            position = torch.cat((zeros(1, 1, embed_dim), position), dim=1)
        result["pos_embed"] = position
    result["patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"]
    result["patch_embed.proj.bias"] = tensors.get("patch_embed.proj.bias", zeros(embed_dim))
    behind = "fc_norm." if "fc_norm.weight" in tensors else "norm."
    for ours, theirs in (
        ("norm_pre.", "norm_pre." if model.pre_norm else ""),
        ("fc_norm." if model.fc_norm else "norm.", behind),
    ):
        if theirs:
            result |= {f"{ours}{key}": tensors[f"{theirs}{key}"] for key in ("weight", "bias")}
    result["head.weight"] = tensors.get("head.weight", zeros(model.num_classes, embed_dim))
    result["head.bias"] = tensors.get("head.bias", zeros(model.num_classes))
    return result


def _block(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """A block's tensors, with what is folded folded."""
    weight, scale = part["attn.proj.weight"], part.get("ls1.gamma")
    bias = part.get("attn.proj.bias", weight.new_zeros(len(weight)))
    fc2, fc2_bias = part["mlp.fc2.weight"], part.get("mlp.fc2.bias", weight.new_zeros(len(weight)))
    if scale is not None:
        weight, bias = weight * scale[:, None], bias * scale
        fc2, fc2_bias = fc2 * part["ls2.gamma"][:, None], fc2_bias * part["ls2.gamma"]
    kept = {key: part[key] for key in part if key.startswith(("norm1.", "norm2."))}
    return kept | {
        "attn.qkv.weight": part["attn.qkv.weight"],
        "attn.qkv.bias": part.get("attn.qkv.bias", weight.new_zeros(3 * weight.shape[1])),
        "attn.proj.weight": weight,
        "attn.proj.bias": bias,
        "mlp.fc1.weight": part["mlp.fc1.weight"],
        "mlp.fc1.bias": part.get("mlp.fc1.bias", weight.new_zeros(len(part["mlp.fc1.weight"]))),
        "mlp.fc2.weight": fc2,
        "mlp.fc2.bias": fc2_bias,
    }

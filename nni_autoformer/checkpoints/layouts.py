"""Key names and layouts of tensors: the published code's, NNI's hub, and timm's, and the exact ways between
them.

    part of a block      published supernet     NNI's hub              timm, and our subnets
    attention            attn.qkv, interleaved  attn.q, attn.k, attn.v attn.qkv: q, then k, then v
    norms                attn_layer_norm, ffn_layer_norm (both)        norm1, norm2
    MLP                  fc1, fc2 (both)                               mlp.fc1, mlp.fc2
    patch convolution    patch_embed_super.proj patch_embed            patch_embed.proj
    class token          cls_token              cls_token.cls_token    cls_token

A subnet is the same network in NNI's layout and in timm's. A supernet is not: cutting the published qkv bias
into three gives each subnet below the largest head count other biases than NNI's prefixes of q, k and v.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..architecture import HEAD_DIM, Architecture
from ..errors import ConfigError
from ..space import ModelConfig

Tensors = Mapping[str, Tensor]

_PUBLISHED_PARTS = (
    ("patch_embed.", "patch_embed_super."),
    (".norm1.", ".attn_layer_norm."),
    (".norm2.", ".ffn_layer_norm."),
    (".mlp.fc", ".fc"),
    ("tokens.", ""),
    ("blocks.blocks.", "blocks."),
)

_HUB_PARTS = (
    ("patch_embed.proj.", "patch_embed."),
    (".norm1.", ".attn_layer_norm."),
    (".norm2.", ".ffn_layer_norm."),
    (".mlp.fc", ".fc"),
)


def published_key(key: str) -> str:
    """The published code's name of a tensor of our supernet."""
    for ours, published in _PUBLISHED_PARTS:
        key = key.replace(ours, published, 1)
    return key


def recognise(tensors: Tensors) -> str | None:
    """What a set of tensors is, by its key names: 'published supernet', 'hub supernet', 'hub subnet', 'timm
    subnet' or None.
    """
    for key, kind in (
        ("patch_embed_super.proj.weight", "published supernet"),
        ("blocks.blocks.0.attn.q.weight", "hub supernet"),
        ("blocks.0.attn.q.weight", "hub subnet"),
        ("blocks.0.attn.qkv.weight", "timm subnet"),
    ):
        if key in tensors:
            return kind
    return None


def hub_to_timm(tensors: Tensors) -> dict[str, Tensor]:
    """A subnet of NNI's hub in timm's layout; exact."""
    result = {}
    for key, tensor in tensors.items():
        for part in ("q", "k", "v"):
            if f".attn.{part}." in key:
                break
        else:
            part = ""
        if part in ("k", "v"):
            continue
        if part == "q":
            joined = [tensors[key.replace(".attn.q.", f".attn.{name}.")] for name in ("q", "k", "v")]
            result[key.replace(".attn.q.", ".attn.qkv.")] = torch.cat(joined)
            continue
        if key in ("cls_token.cls_token", "pos_embed.pos_embed"):
            key = key.split(".")[0]
        elif key.startswith("patch_embed."):
            key = key.replace("patch_embed.", "patch_embed.proj.")
        for ours, hub in _HUB_PARTS[1:]:
            key = key.replace(hub, ours, 1)
        result[key] = tensor
    return result


def timm_to_hub(tensors: Tensors) -> dict[str, Tensor]:
    """A subnet in timm's layout as one of NNI's hub; exact."""
    result = {}
    for key, tensor in tensors.items():
        if ".attn.qkv." in key:
            for part, piece in zip("qkv", tensor.chunk(3)):
                result[key.replace(".qkv.", f".{part}.")] = piece
            continue
        if key in ("cls_token", "pos_embed"):
            key = f"{key}.{key}"
        for ours, hub in _HUB_PARTS:
            key = key.replace(ours, hub, 1)
        result[key] = tensor
    return result


def hub_supernet_to_published(tensors: Tensors) -> dict[str, Tensor]:
    """A supernet of NNI's hub in the published layout.

    Exact for subnets with the largest head count in every layer; every other one gets other biases in
    queries, keys and values than NNI gives it, because the published layout cuts one bias into three.
    """
    result = {}
    for key, tensor in hub_to_timm(
        {key.replace("blocks.blocks.", "blocks."): t for key, t in tensors.items()}
    ).items():
        if key.endswith(".attn.qkv.weight"):
            width = len(tensor) // 3
            tensor = tensor.view(3, width, -1).transpose(0, 1).reshape(3 * width, -1)
        result[published_key(key)] = tensor
    return result


def describe_subnet(tensors: Tensors) -> tuple[Architecture, ModelConfig]:
    """The architecture and the network of a subnet in timm's layout, from its shapes.

    The pooling leaves no trace in the tensors; the published one, the mean of the patches, is assumed.

    Raises:
        ConfigError: the tensors are not those of such a subnet.
    """
    try:
        embed_dim = tensors["cls_token"].shape[-1]
        depth = sum(key.endswith(".attn.qkv.weight") for key in tensors)
        heads = tuple(len(tensors[f"blocks.{i}.attn.qkv.weight"]) // (3 * HEAD_DIM) for i in range(depth))
        hidden = [len(tensors[f"blocks.{i}.mlp.fc1.weight"]) for i in range(depth)]
        patch, channels = (
            tensors["patch_embed.proj.weight"].shape[2],
            tensors["patch_embed.proj.weight"].shape[1],
        )
        classes = len(tensors["head.weight"])
        table = tensors.get("blocks.0.attn.rel_pos_embed_k.embeddings_table_v")
        position = tensors.get("pos_embed")
    except KeyError as error:
        raise ConfigError(f"the tensor {error} of a subnet is missing.") from None
    side = 224 if position is None else patch * math.isqrt(position.shape[1] - 1)
    model = ModelConfig(
        img_size=(side, side),
        patch_size=patch,
        in_chans=channels,
        num_classes=classes,
        relative_position=table is not None,
        max_relative_position=14 if table is None else (len(table) - 2) // 2,
        absolute_position=position is not None,
    )
    return Architecture(embed_dim, heads, tuple(_ratio(size, embed_dim) for size in hidden)), model


def _ratio(hidden: int, embed_dim: int) -> float:
    for digits in range(6):
        ratio = round(hidden / embed_dim, digits)
        if int(embed_dim * ratio) == hidden:
            return ratio
    return (hidden + 0.5) / embed_dim

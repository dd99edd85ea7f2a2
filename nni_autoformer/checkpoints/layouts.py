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
from collections.abc import Mapping, Sequence

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
    """A subnet of NNI's hub in timm's layout; exact.

    Raises:
        ConfigError: queries, keys or values of a layer are missing, or of other shapes than each other.
    """
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
            names = [key.replace(".attn.q.", f".attn.{name}.") for name in ("q", "k", "v")]
            if missing := [name for name in names if name not in tensors]:
                raise ConfigError(f"the tensor '{missing[0]}' of an attention layer is missing.")
            joined = [tensors[name] for name in names]
            if not tensor.ndim or any(other.shape != tensor.shape for other in joined):
                raise ConfigError(f"'{key}' and its keys and values have different shapes.")
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

    Raises:
        ConfigError: queries, keys or values of a layer are missing, or of other shapes than each other.
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


def describe_subnet(
    tensors: Mapping[str, Tensor], ratios: Sequence[float] = ()
) -> tuple[Architecture, ModelConfig]:
    """The architecture and the network of a subnet in timm's layout, from its shapes.

    Pooling and the two sides of the image leave no trace in the tensors: the mean of the patches and a square
    are taken.

    Args:
        tensors: tensors of the subnet.
        ratios: MLP ratios of the space that it is from, which are preferred where they give its sizes.

    Raises:
        ConfigError: the tensors are not those of such a subnet.
    """
    try:
        embed_dim = tensors["cls_token"].shape[-1]
        depth = sum(key.endswith(".attn.qkv.weight") for key in tensors)
        rows = [len(tensors[f"blocks.{i}.attn.qkv.weight"]) for i in range(depth)]
        hidden = [len(tensors[f"blocks.{i}.mlp.fc1.weight"]) for i in range(depth)]
        patch, channels = (tensors["patch_embed.proj.weight"].shape[axis] for axis in (2, 1))
        classes = len(tensors["head.weight"])
        table = tensors.get("blocks.0.attn.rel_pos_embed_k.embeddings_table_v")
        position = tensors.get("pos_embed")
        patches = None if position is None else position.shape[1] - 1
    except KeyError as error:
        raise ConfigError(f"the tensor {error} of a subnet is missing.") from None
    except (IndexError, TypeError):
        raise ConfigError("a tensor of the subnet has too few dimensions.") from None
    if odd := [count for count in rows if count % (3 * HEAD_DIM)]:
        raise ConfigError(
            f"queries, keys and values have {odd[0]} channels together; with heads of {HEAD_DIM} it would be "
            f"a multiple of {3 * HEAD_DIM}."
        )
    if patches is not None and math.isqrt(patches) ** 2 != patches:
        raise ConfigError(
            f"the position embedding has {patches} patches, which are no square; a file without a header of "
            "nni-autoformer does not say height and width."
        )
    side = 224 if patches is None else patch * math.isqrt(patches)
    model = ModelConfig.from_dict(
        {
            "img_size": [side, side],
            "patch_size": patch,
            "in_chans": channels,
            "num_classes": classes,
            "relative_position": table is not None,
            "max_relative_position": 14 if table is None else (len(table) - 2) // 2,
            "absolute_position": position is not None,
        },
        "the tensors",
    )
    found = tuple(ratio_of(size, embed_dim, ratios) for size in hidden)
    return Architecture(embed_dim, tuple(count // (3 * HEAD_DIM) for count in rows), found), model


def ratio_of(hidden: int, embed_dim: int, known: Sequence[float] = ()) -> float:
    """An MLP ratio that gives a hidden width: `int(embed_dim * ratio) == hidden`.

    Args:
        hidden: hidden width of the MLP.
        embed_dim: embedding size.
        known: ratios that are preferred; without them the one with the fewest digits.
    """
    rounded = (round(hidden / embed_dim, digits) for digits in range(6))
    for ratio in (*known, *rounded):
        if int(embed_dim * ratio) == hidden:
            return ratio
    return (hidden + 0.5) / embed_dim

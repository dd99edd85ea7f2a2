"""The slicing rules of weight entanglement (paper section 3.3): which part of the largest layer a subnet has.

One function per layer. It asks for the largest layer's tensors by the plain layer's key names and gives the
plain layer's tensors of the wanted sizes. The supernet's forward pass, NNI's freezing, the extraction of a
subnet and the reading of a single subnet from a file all go through these, so they cannot differ.

The supernet keeps the published layout of its tensors: rows 3j, 3j+1 and 3j+2 of the qkv weight are channel j
of query, key and value, so the first 3 x 64 x heads rows are whole heads; the qkv bias is not interleaved,
its first 3 x 64 x heads entries are cut into three runs. The rules give timm's layout (queries, keys,
values), which the plain layers know.

A size is a number, or a `Mixture`: then a rule gives the mixture of what it gives for each size, padded with
zeros to the largest plain layer's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..architecture import HEAD_DIM, Architecture
from ..space import ModelConfig
from .mixture import Mixture, Size, mixed

Get = Callable[[str], Tensor]
"""From a key name of the plain layer to the largest layer's tensor of that name."""

RELATIVE_TABLES = tuple(
    f"rel_pos_embed_{part}.embeddings_table_{direction}" for part in "kv" for direction in "vh"
)


def leading(tensor: Tensor, *sizes: Size) -> Tensor:
    """The first entries of a tensor along its first dimensions, `tensor[:sizes[0], :sizes[1]]`, as a view.

    Indexing has one backward pass per dimension, and each fills a gradient of its own; this has one. On a GPU
    filling costs less than the time that Python takes to say so.
    """
    if tensor.shape[: len(sizes)] == sizes:
        return tensor
    if Mixture in map(type, sizes):
        for dimension, size in enumerate(sizes):
            tensor = mixed(tensor, dimension, size)
        return tensor
    once = len(sizes) == 1 or not (torch.is_grad_enabled() and tensor.requires_grad)
    if once or tensor.is_cuda or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return tensor[tuple(slice(size) for size in sizes)]
    return _Leading.apply(tensor, *sizes)


class _Leading(torch.autograd.Function):
    """A corner of a matrix."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rows: int, columns: int) -> Tensor:
        ctx.shape = tensor.shape
        return tensor[:rows, :columns]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = gradient.shape
        whole = gradient.new_empty(ctx.shape)
        whole[:rows, :columns] = gradient
        whole[:rows, columns:] = 0
        whole[rows:] = 0
        return whole, None, None


def patch_embed(get: Get, embed_dim: Size) -> dict[str, Tensor]:
    """The first `embed_dim` filters."""
    return {key: leading(get(key), embed_dim) for key in ("proj.weight", "proj.bias")}


def tokens(get: Get, embed_dim: Size, absolute_position: bool) -> dict[str, Tensor]:
    """The first `embed_dim` channels."""
    keys = ("cls_token", "pos_embed") if absolute_position else ("cls_token",)
    return {key: mixed(get(key), -1, embed_dim) for key in keys}


def layer_norm(get: Get, embed_dim: Size) -> dict[str, Tensor]:
    """The first `embed_dim` channels."""
    return {key: leading(get(key), embed_dim) for key in ("weight", "bias")}


def attention(get: Get, embed_dim: Size, num_heads: Size, relative_position: bool) -> dict[str, Tensor]:
    """The first `num_heads` heads on the first `embed_dim` channels; the relative position is used whole."""
    width = HEAD_DIM * num_heads
    rows = leading(get("qkv.weight"), 3 * width, embed_dim)
    tensors = {
        "qkv.weight": rows.view(-1, 3, rows.shape[1]).transpose(0, 1).reshape(rows.shape),
        "qkv.bias": _three_runs(get("qkv.bias"), width),
        "proj.weight": leading(get("proj.weight"), embed_dim, width),
        "proj.bias": leading(get("proj.bias"), embed_dim),
    }
    if relative_position:
        tensors |= {key: get(key) for key in RELATIVE_TABLES}
    return tensors


def _three_runs(bias: Tensor, width: Size) -> Tensor:
    """Runs of query, key and value; where one ends depends on the size."""
    if not isinstance(width, Mixture):
        return leading(bias, 3 * width)
    whole = len(bias) // 3
    return width.sum(lambda size: F.pad(bias[: 3 * size].view(3, size), (0, whole - size))).flatten()


def mlp(get: Get, embed_dim: Size, hidden_features: Size) -> dict[str, Tensor]:
    """The first `hidden_features` hidden channels on the first `embed_dim` channels."""
    return {
        "fc1.weight": leading(get("fc1.weight"), hidden_features, embed_dim),
        "fc1.bias": leading(get("fc1.bias"), hidden_features),
        "fc2.weight": leading(get("fc2.weight"), embed_dim, hidden_features),
        "fc2.bias": leading(get("fc2.bias"), embed_dim),
    }


def head(get: Get, embed_dim: Size) -> dict[str, Tensor]:
    """All classes from the first `embed_dim` channels."""
    return {"weight": mixed(get("weight"), 1, embed_dim), "bias": get("bias")}


def subnet(get: Get, architecture: Architecture, model: ModelConfig) -> dict[str, Tensor]:
    """All tensors of a subnet.

    Args:
        get: gives the largest subnet's tensor for a key name of `Subnet`, its qkv weights interleaved.
        architecture: the sizes.
        model: the network around them.
    """
    embed_dim = architecture.embed_dim
    parts: dict[str, dict[str, Tensor]] = {
        "patch_embed.": patch_embed(_below(get, "patch_embed."), embed_dim),
        "": tokens(get, embed_dim, model.absolute_position),
        "head.": head(_below(get, "head."), embed_dim),
    }
    norms = {"norm_pre.": model.pre_norm, "norm.": not model.fc_norm, "fc_norm.": model.fc_norm}
    for prefix in (prefix for prefix, there in norms.items() if there):
        parts[prefix] = layer_norm(_below(get, prefix), embed_dim)
    for i, (heads, hidden) in enumerate(zip(architecture.num_heads, architecture.hidden_features)):
        block = f"blocks.{i}."
        for norm in ("norm1.", "norm2."):
            parts[block + norm] = layer_norm(_below(get, block + norm), embed_dim)
        attn = _below(get, f"{block}attn.")
        parts[f"{block}attn."] = attention(attn, embed_dim, heads, model.relative_position)
        parts[f"{block}mlp."] = mlp(_below(get, f"{block}mlp."), embed_dim, hidden)
    return {prefix + key: tensor for prefix, tensors in parts.items() for key, tensor in tensors.items()}


def _below(get: Get, prefix: str) -> Get:
    return lambda key: get(prefix + key)

"""Reordering a network without changing its function: embedding channels, attention heads, hidden neurons.

A subnet of a supernet has the first channels, heads and neurons of the largest (`slicing.py`), so which ones
stand first decides what a subnet keeps. A network computes the same in any order: the channels of the
embedding have one order in the whole network, because every residual sum adds them; the heads of a layer and
the neurons of its MLP have orders of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..architecture import HEAD_DIM, Architecture
from .slicing import RELATIVE_TABLES

EMBEDDING, HEADS, QKV, HIDDEN, ANY = "embed_dim", "num_heads", "qkv", "hidden", None
"""What stands along a dimension of a tensor; `ANY` keeps its order."""

NORM = {"weight": (EMBEDDING,), "bias": (EMBEDDING,)}

TOP: dict[str, tuple[str | None, ...]] = {
    "patch_embed.proj.weight": (EMBEDDING,),
    "patch_embed.proj.bias": (EMBEDDING,),
    "cls_token": (ANY, ANY, EMBEDDING),
    "pos_embed": (ANY, ANY, EMBEDDING),
    **{f"{norm}.{key}": axes for norm in ("norm_pre", "norm", "fc_norm") for key, axes in NORM.items()},
    "head.weight": (ANY, EMBEDDING),
    "head.bias": (ANY,),
}
"""The dimensions of the tensors around the blocks, by key name; those that are left out keep their order."""

BLOCK: dict[str, tuple[str | None, ...]] = {
    **{f"{norm}.{key}": axes for norm in ("norm1", "norm2") for key, axes in NORM.items()},
    "attn.qkv.weight": (QKV, EMBEDDING),
    "attn.qkv.bias": (QKV,),
    "attn.proj.weight": (EMBEDDING, HEADS),
    "attn.proj.bias": (EMBEDDING,),
    **{f"attn.{table}": (ANY,) for table in RELATIVE_TABLES},  # all heads share them
    "mlp.fc1.weight": (HIDDEN, EMBEDDING),
    "mlp.fc1.bias": (HIDDEN,),
    "mlp.fc2.weight": (EMBEDDING, HIDDEN),
    "mlp.fc2.bias": (EMBEDDING,),
}
"""The dimensions of a block's tensors."""


@dataclass(frozen=True)
class Order:
    """Where everything that can change its place comes from: entry i is the old place of what stands at i
    afterwards.

    Attributes:
        embed_dim: the channels of the embedding, one order for the whole network.
        num_heads: per layer, its heads of 64 channels.
        hidden: per layer, the hidden neurons of its MLP.

    Raises:
        ValueError: an entry is no permutation, or the numbers of layers differ.
    """

    embed_dim: tuple[int, ...]
    num_heads: tuple[tuple[int, ...], ...]
    hidden: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.num_heads) != len(self.hidden):
            raise ValueError(
                f"the order has num_heads for {len(self.num_heads)} layers and hidden for "
                f"{len(self.hidden)}; both need one entry per layer."
            )
        _require_permutation(self.embed_dim, "embed_dim")
        for name in ("num_heads", "hidden"):
            for layer, places in enumerate(getattr(self, name)):
                _require_permutation(places, f"{name} of layer {layer}")

    @classmethod
    def identity(cls, architecture: Architecture) -> Order:
        """The order that leaves a network of these sizes as it is."""
        return cls(
            tuple(range(architecture.embed_dim)),
            tuple(tuple(range(heads)) for heads in architecture.num_heads),
            tuple(tuple(range(hidden)) for hidden in architecture.hidden_features),
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and lists, for JSON."""
        return {
            "embed_dim": list(self.embed_dim),
            "num_heads": [list(places) for places in self.num_heads],
            "hidden": [list(places) for places in self.hidden],
        }


def reordered(tensors: Mapping[str, Tensor], order: Order) -> dict[str, Tensor]:
    """A network's tensors in another order, which compute the same.

    Args:
        tensors: the state dict of a `Subnet`, in timm's layout: the rows of qkv are all queries, then all
            keys, then all values.
        order: for a network of these sizes.

    Raises:
        ValueError: a key that no `Subnet` has, or an order of other sizes.
    """
    return {key: _reordered(key, tensor, order) for key, tensor in tensors.items()}


def _reordered(key: str, tensor: Tensor, order: Order) -> Tensor:
    layer, axes = _axes(key, len(order.hidden))
    for dimension, axis in enumerate(axes):
        if axis is not ANY:
            places = _places(order, axis, layer)
            if dimension >= tensor.ndim or tensor.shape[dimension] != len(places):
                raise ValueError(
                    f"{key} has the shape {tuple(tensor.shape)}; the order is for {len(places)} entries of "
                    f"dimension {dimension}."
                )
            tensor = tensor.index_select(dimension, places.to(tensor.device))
    return tensor


def _axes(key: str, depth: int) -> tuple[int, tuple[str | None, ...]]:
    """The layer of a tensor (0 where it is none's), and what stands along its dimensions."""
    if key in TOP:
        return 0, TOP[key]
    room, _, rest = key.partition(".")
    layer, _, name = rest.partition(".")
    if room == "blocks" and name in BLOCK and layer.isdecimal():
        if int(layer) < depth:
            return int(layer), BLOCK[name]
        raise ValueError(f"{key} is of a layer beyond the order's {depth}.")
    raise ValueError(f"{key} is no tensor of a subnet, so it is not known what stands along its dimensions.")


def _places(order: Order, axis: str, layer: int) -> Tensor:
    """The old places along a dimension."""
    if axis == EMBEDDING:
        return torch.tensor(order.embed_dim)
    if axis == HIDDEN:
        return torch.tensor(order.hidden[layer])
    heads = torch.tensor(order.num_heads[layer])
    channels = (heads[:, None] * HEAD_DIM + torch.arange(HEAD_DIM)).flatten()
    if axis == HEADS:
        return channels
    return torch.cat([part * len(channels) + channels for part in range(3)])  # queries, keys, values


def _require_permutation(places: tuple[int, ...], name: str) -> None:
    if sorted(places) != list(range(len(places))):
        raise ValueError(
            f"the order's {name} is no permutation: it should have each place from 0 to {len(places) - 1} "
            "once."
        )

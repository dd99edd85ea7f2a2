"""A network grown to larger layers without changing its function (Net2Net, Chen et al. 2016,
arXiv:1511.05641), and biases in the places where they are its own at fewer heads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..architecture import HEAD_DIM, Architecture
from .slicing import RELATIVE_TABLES

DEVIATION = 0.02
"""Of the new weights, as of initial ones."""


def grown(tensors: Mapping[str, Tensor], architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """A network's tensors with more heads and hidden neurons. Nothing reads the new ones yet: their columns
    in the maps behind them are zero, and what leads to them is random, so that training can use them.

    Args:
        tensors: state dict of a `Subnet`.
        architecture: the new sizes; embedding size and depth are the old ones.
        seed: random seed of the new weights.
    """
    generator = torch.Generator().manual_seed(seed)
    result = dict(tensors)
    for i, (heads, hidden) in enumerate(zip(architecture.num_heads, architecture.hidden_features)):
        block, width = f"blocks.{i}.", heads * HEAD_DIM
        for key in ("attn.qkv.weight", "attn.qkv.bias"):
            parts = tensors[block + key].chunk(3)
            result[block + key] = torch.cat([_longer(part, width, generator) for part in parts])
        for key in ("mlp.fc1.weight", "mlp.fc1.bias"):
            result[block + key] = _longer(tensors[block + key], hidden, generator)
        for key, columns in (("attn.proj.weight", width), ("mlp.fc2.weight", hidden)):
            weight = tensors[block + key]
            result[block + key] = torch.cat(
                (weight, weight.new_zeros(len(weight), columns - weight.shape[1])), 1
            )
    return result


def _longer(tensor: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """More rows: random ones of a weight, zeros of a bias."""
    more = tensor.new_zeros(rows - len(tensor), *tensor.shape[1:])
    if more.ndim > 1 and more.numel():
        torch.nn.init.trunc_normal_(more, std=DEVIATION, generator=generator)
    return torch.cat((tensor, more))


def with_own_biases(tensors: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """A network's tensors with zero biases of keys and values, which compute the same.

    The bias of values goes into that of the projection, because the attention of one query adds up to one;
    that of keys adds the same to all scores of a query, which softmax does not see. The published layout cuts
    one bias of queries, keys and values into three at other places for fewer heads (`slicing.py`); so every
    subnet with at least half of the heads has the biases that belong to its heads.

    Args:
        tensors: state dict of a `Subnet`.
        depth: its number of layers.
    """
    result = dict(tensors)
    for i in range(depth):
        attention = f"blocks.{i}.attn."
        query, key, value = tensors[f"{attention}qkv.bias"].chunk(3)
        projected = tensors[f"{attention}proj.weight"] @ value
        result[f"{attention}proj.bias"] = tensors[f"{attention}proj.bias"] + projected
        result[f"{attention}qkv.bias"] = torch.cat((query, torch.zeros_like(key), torch.zeros_like(value)))
    return result


def with_relative_position(
    tensors: Mapping[str, Tensor], depth: int, max_relative_position: int
) -> dict[str, Tensor]:
    """A network's tensors with zero relative tables, which compute the same.

    Args:
        tensors: state dict of a `Subnet` without relative position.
        depth: its number of layers.
        max_relative_position: largest offset of the tables.
    """
    like = tensors["cls_token"]
    shape = 2 * max_relative_position + 2, HEAD_DIM
    tables = {
        f"blocks.{i}.attn.{table}": like.new_zeros(shape) for i in range(depth) for table in RELATIVE_TABLES
    }
    return {**tensors, **tables}

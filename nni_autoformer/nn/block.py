"""The transformer block: its arithmetic once, and its construction from sizes once.

The arithmetic is what the plain layers' `forward` says. It asks `self` for its maps only, so the same
functions also run on maps made of tensors, in `TensorAttention`, `TensorMlp` and `TensorBlock`: these run the
slices of the supernet's layers, of compiled blocks and of a generation that is evaluated together. A plain
layer calls its own modules, so that wrappers around them (adapters, quantisation) take effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import HEAD_DIM, Architecture
from .layers import DropPath, drop_path_rates, init_linear
from .relative_position import Grid, RelativePosition2D, TokenGrid, offset_table, relative_attention
from .slicing import RELATIVE_TABLES

torch.fx.wrap("relative_attention")  # which kernel runs is not a choice to trace

LinearMap = Callable[[Tensor], Tensor]


class Positions(NamedTuple):
    """The relative position of one attention layer."""

    key_table: Tensor
    """See `RelativePosition2D`."""
    value_table: Tensor
    grid: Grid


def attend(
    qkv: Tensor,
    num_heads: int,
    positions: Positions | None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """Multi-head self-attention between the two linear maps.

    Args:
        qkv: (batch, tokens, 3 x heads x 64), the queries of all heads first, then keys, then values.
        num_heads: heads of 64 channels.
        positions: None for no relative position.
        attn_mask, is_causal: see `torch.nn.functional.scaled_dot_product_attention`.

    Returns:
        The heads' outputs side by side, (batch, tokens, heads x 64).
    """
    batch, tokens, channels = qkv.shape
    joined = qkv.view(batch, tokens, 3, num_heads, channels // (3 * num_heads))
    if positions is None:
        query, key, value = joined.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, tokens, 64)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, is_causal=is_causal)
        return attended.transpose(1, 2).flatten(2)
    return relative_attention(
        joined, positions.key_table, positions.value_table, positions.grid, attn_mask, is_causal
    )


class Attention(nn.Module):
    """Multi-head self-attention with heads of 64 channels whatever the embedding size (paper section 3.2).

    Args:
        embed_dim: channels of a token.
        num_heads: heads; queries, keys and values have 64 x num_heads channels.
        max_relative_position: farthest offset of the relative position that has a row of its own.
        token_grid: grid of the patches, shared by the layers; None for no relative position.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        max_relative_position: int = 14,
        token_grid: TokenGrid | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.token_grid = token_grid
        self.qkv = init_linear(nn.Linear(embed_dim, 3 * HEAD_DIM * num_heads))
        self.proj = init_linear(nn.Linear(HEAD_DIM * num_heads, embed_dim))
        if token_grid is not None:
            self.rel_pos_embed_k = RelativePosition2D(max_relative_position)
            self.rel_pos_embed_v = RelativePosition2D(max_relative_position)

    def positions(self) -> Positions | None:
        """The relative position of this layer, if it has any."""
        if self.token_grid is None:
            return None
        grid = self.token_grid.tables()
        return Positions(self.rel_pos_embed_k(grid), self.rel_pos_embed_v(grid), grid)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(batch, tokens, embed_dim) to the same shape; masks as for `attend`."""
        return self.proj(attend(self.qkv(x), self.num_heads, self.positions(), attn_mask, is_causal))


class Mlp(nn.Module):
    """The feed-forward part of a block, with the exact (erf) GELU.

    Args:
        embed_dim: channels of a token.
        hidden_features: channels between the two linear maps.
    """

    def __init__(self, embed_dim: int, hidden_features: int) -> None:
        super().__init__()
        self.fc1 = init_linear(nn.Linear(embed_dim, hidden_features))
        self.fc2 = init_linear(nn.Linear(hidden_features, embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, embed_dim) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer layer: x + attention(norm(x)), then x + mlp(norm(x)).

    Takes its parts ready made, see `build_block`, because the supernet has other ones in the same places.
    """

    def __init__(
        self, norm1: nn.Module, attn: nn.Module, norm2: nn.Module, mlp: nn.Module, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1, self.attn = norm1, attn
        self.norm2, self.mlp = norm2, mlp
        self.drop_path = DropPath(drop_path)

    def attention_half(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(batch, tokens, embed_dim) to the same shape; masks as for `attend`."""
        normed = self.norm1(x)
        if attn_mask is None and not is_causal:  # an attention in this place need not know masks
            branch = self.attn(normed)
        else:
            branch = self.attn(normed, attn_mask, is_causal)
        return self.add(x, self.drop_path(branch))

    def mlp_half(self, x: Tensor) -> Tensor:
        """(batch, tokens, embed_dim) to the same shape."""
        return self.add(x, self.drop_path(self.mlp(self.norm2(x))))

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """The residual sum."""
        return x + branch

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(batch, tokens, embed_dim) to the same shape; masks as for `attend`."""
        return self.mlp_half(self.attention_half(x, attn_mask, is_causal))


# The same arithmetic on tensors


def linear(tensors: Mapping[str, Tensor], prefix: str = "") -> LinearMap:
    """`Linear` on given tensors, whose key names begin with a prefix."""
    weight, bias = tensors[f"{prefix}weight"], tensors[f"{prefix}bias"]
    return lambda x: F.linear(x, weight, bias)


def layer_norm(tensors: Mapping[str, Tensor], eps: float) -> LinearMap:
    """`LayerNorm` on given tensors."""
    weight, bias = tensors["weight"], tensors["bias"]
    return lambda x: F.layer_norm(x, weight.shape, weight, bias, eps)


class TensorAttention:
    """`Attention` on given tensors.

    Args:
        tensors: the plain layer's, under its key names.
        token_grid: grid of the patches, see `Attention`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], token_grid: TokenGrid | None) -> None:
        self.qkv, self.proj = linear(tensors, "qkv."), linear(tensors, "proj.")
        self.num_heads = tensors["proj.weight"].shape[1] // HEAD_DIM
        self._positions: Positions | None = None
        if token_grid is not None:
            grid = token_grid.tables()
            vertical_k, horizontal_k, vertical_v, horizontal_v = (tensors[key] for key in RELATIVE_TABLES)
            keys = offset_table(vertical_k, horizontal_k, grid)
            self._positions = Positions(keys, offset_table(vertical_v, horizontal_v, grid), grid)

    def positions(self) -> Positions | None:
        """The relative position, if there is any."""
        return self._positions

    __call__: Callable[..., Tensor] = Attention.forward


class TensorMlp:
    """`Mlp` on the plain layer's tensors, under its key names."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.fc1, self.fc2 = linear(tensors, "fc1."), linear(tensors, "fc2.")

    __call__: Callable[..., Tensor] = Mlp.forward


class TensorBlock:
    """`Block` on given tensors.

    Args:
        parts: the tensors of `norm1` and `attn`, of `norm2` and `mlp`, or of all four, each under the part's
            key names. With one pair only that half can run.
        eps: epsilon of the layer norms.
        token_grid: grid of the patches, see `Attention`.
        drop_path: what is done to the branches, the attention's first.
    """

    def __init__(
        self,
        parts: Mapping[str, Mapping[str, Tensor]],
        eps: float,
        token_grid: TokenGrid | None,
        drop_path: LinearMap = lambda branch: branch,
    ) -> None:
        self.drop_path = drop_path
        if "attn" in parts:
            self.norm1 = layer_norm(parts["norm1"], eps)
            self.attn = TensorAttention(parts["attn"], token_grid)
        if "mlp" in parts:
            self.norm2 = layer_norm(parts["norm2"], eps)
            self.mlp = TensorMlp(parts["mlp"])

    attention_half: Callable[..., Tensor] = Block.attention_half
    mlp_half: Callable[..., Tensor] = Block.mlp_half
    add: Callable[..., Tensor] = Block.add
    __call__: Callable[..., Tensor] = Block.forward


# Construction


class BlockLayers(NamedTuple):
    """What a block is made of: each builds a layer from its sizes."""

    norm: Callable[..., nn.Module]
    attention: Callable[..., nn.Module]
    mlp: Callable[[Any, Any], nn.Module]


PLAIN = BlockLayers(nn.LayerNorm, Attention, Mlp)


def build_block(
    embed_dim: Any,
    num_heads: Any,
    hidden_features: Any,
    max_relative_position: int,
    token_grid: TokenGrid | None,
    drop_path: float = 0.0,
    layers: BlockLayers = PLAIN,
    norm_eps: float = 1e-5,
) -> Block:
    """A block from its sizes.

    Args:
        embed_dim, num_heads, hidden_features: numbers, or NNI's choices where the layers take these.
        max_relative_position, token_grid: grid of the patches, see `Attention`.
        drop_path: probability that a branch is left out while training.
        layers: what the block is made of.
        norm_eps: epsilon of the layer norms.
    """
    return Block(
        layers.norm(embed_dim, eps=norm_eps),
        layers.attention(embed_dim, num_heads, max_relative_position, token_grid),
        layers.norm(embed_dim, eps=norm_eps),
        layers.mlp(embed_dim, hidden_features),
        drop_path,
    )


def build_blocks(
    architecture: Architecture,
    max_relative_position: int,
    token_grid: TokenGrid | None,
    drop_path_rate: float = 0.0,
    supernet_depth: int | None = None,
    norm_eps: float = 1e-5,
) -> nn.Sequential:
    """The plain blocks of an architecture.

    Args:
        architecture: the sizes.
        max_relative_position, token_grid: grid of the patches, see `Attention`.
        drop_path_rate: stochastic depth of the last layer of the supernet; earlier layers have less,
            linearly.
        supernet_depth: over how many layers the rate rises; None for the architecture's own.
        norm_eps: epsilon of the layer norms.
    """
    rates = drop_path_rates(drop_path_rate, supernet_depth or architecture.depth)
    sizes = zip(architecture.num_heads, architecture.hidden_features, rates)
    return nn.Sequential(
        *(
            build_block(
                architecture.embed_dim,
                *(heads, hidden, max_relative_position, token_grid, rate),
                norm_eps=norm_eps,
            )
            for heads, hidden, rate in sizes
        )
    )

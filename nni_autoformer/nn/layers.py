"""The plain layers that a finished subnet is made of: pure PyTorch, in timm's layout, ignorant of NNI.

The arithmetic of a layer stands once, in a function of its linear maps (`attention`, `mlp`, …). A plain layer
calls it with its own modules, so that wrappers around them (adapters, quantisation) take effect; the
supernet's layer in `entangled.py` calls it with slices of the largest weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import HEAD_DIM
from .relative_position import RelativePosition2D, TokenGrid, relative_attention

LinearMap = Callable[[Tensor], Tensor]


def patch_tokens(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Project each patch of the images.

    Args:
        images: (batch, in_chans, height, width).
        weight: of a convolution whose stride is its size, (embed_dim, in_chans, side, side).
        bias: (embed_dim,).

    Returns:
        (batch, patches, embed_dim), row by row.
    """
    side = weight.shape[-1]
    if images.device.type != "cuda":
        return F.conv2d(images, weight, bias, stride=side).flatten(2).transpose(1, 2)
    # cuDNN's convolution of so large a stride takes three times as long as the matrix product that it is
    if torch.is_autocast_enabled("cuda"):
        images = images.to(torch.get_autocast_dtype("cuda"))
    tiles = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # batch, channel, row, y, column, x
    return F.linear(tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2), weight.flatten(1), bias)


def add_tokens(patches: Tensor, cls_token: Tensor, pos_embed: Tensor | None) -> Tensor:
    """Put the class token before the patches and add the absolute position.

    Args:
        patches: (batch, patches, channels).
        cls_token: (1, 1, channels).
        pos_embed: (1, 1 + patches, channels), or None for no absolute position.
    """
    tokens = torch.cat((cls_token.expand(patches.shape[0], -1, -1), patches), dim=1)
    return tokens if pos_embed is None else tokens + pos_embed


def attention(
    x: Tensor,
    qkv: LinearMap,
    proj: LinearMap,
    num_heads: int,
    key_table: Tensor | None = None,
    value_table: Tensor | None = None,
    grid: TokenGrid | None = None,
) -> Tensor:
    """Multi-head self-attention, with 2-D relative position where a grid is given.

    Args:
        x: (batch, tokens, channels).
        qkv: from the channels to 3 x heads x 64, the queries of all heads first, then keys, then values.
        proj: from heads x 64 back to the channels.
        num_heads: heads of 64 channels.
        key_table, value_table, grid: see `relative_attention`.
    """
    batch, tokens, _ = x.shape
    joined = qkv(x).view(batch, tokens, 3, num_heads, HEAD_DIM)
    if grid is None or key_table is None or value_table is None:
        query, key, value = joined.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, tokens, 64)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    else:
        attended = relative_attention(joined, key_table, value_table, grid)
    return proj(attended)


def mlp(x: Tensor, fc1: LinearMap, fc2: LinearMap) -> Tensor:
    """Two linear maps with the exact (erf) GELU between them."""
    return fc2(F.gelu(fc1(x)))


def pool(x: Tensor, global_pool: str) -> Tensor:
    """(batch, 1 + patches, channels) to (batch, channels): mean of the patches ('avg') or class token
    ('token').
    """
    return x[:, 1:].mean(dim=1) if global_pool == "avg" else x[:, 0]


def init_linear(layer: nn.Linear) -> nn.Linear:
    """Truncated normal weights of deviation 0.02 and zero bias, as published."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class PatchEmbed(nn.Module):
    """Cut the image into patches and project each to the embedding.

    Args:
        embed_dim: channels of a token.
        patch_size: side of a patch in pixels.
        in_chans: channels of the image.
    """

    def __init__(self, embed_dim: int, patch_size: int = 16, in_chans: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, in_chans, height, width) to (batch, patches, embed_dim)."""
        return patch_tokens(images, self.proj.weight, self.proj.bias)


class Tokens(nn.Module):
    """The class token and the absolute position of every token.

    Args:
        embed_dim: channels of a token.
        num_patches: patches of an image.
        absolute_position: False leaves the position embedding out.
    """

    def __init__(self, embed_dim: int, num_patches: int, absolute_position: bool = True) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.pos_embed: nn.Parameter | None = None
        if absolute_position:
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + num_patches, embed_dim))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, patches, embed_dim) to (batch, 1 + patches, embed_dim)."""
        return add_tokens(patches, self.cls_token, self.pos_embed)


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

    def attend(self, x: Tensor, qkv: LinearMap, proj: LinearMap, num_heads: int) -> Tensor:
        """Attention with this layer's relative position and the given linear maps, see `attention`."""
        if self.token_grid is None:
            return attention(x, qkv, proj, num_heads)
        key_table, value_table = self.rel_pos_embed_k(self.token_grid), self.rel_pos_embed_v(self.token_grid)
        return attention(x, qkv, proj, num_heads, key_table, value_table, self.token_grid)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, embed_dim) to the same shape."""
        return self.attend(x, self.qkv, self.proj, self.num_heads)


class Mlp(nn.Module):
    """The feed-forward part of a block.

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
        return mlp(x, self.fc1, self.fc2)


class Head(nn.Linear):
    """The linear classifier, initialised as published."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        init_linear(self)


class DropPath(nn.Module):
    """Leave a residual branch out, per image, while training (stochastic depth, Huang et al. 2016).

    Args:
        rate: probability that the branch is left out; what stays is scaled by 1 / (1 - rate).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def mask(self, x: Tensor) -> Tensor | None:
        """What the branch of each image is multiplied with, (batch, 1, ...), or None where nothing drops."""
        if not self.training or self.rate == 0:
            return None
        keep = x.new_empty((len(x),) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return keep.div_(1 - self.rate)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) to the same shape."""
        mask = self.mask(x)
        return x if mask is None else x * mask

    def extra_repr(self) -> str:
        """The rate, in the printed module."""
        return f"rate={self.rate:g}"


class Block(nn.Module):
    """A pre-norm transformer layer: x + attention(norm(x)), then x + mlp(norm(x)).

    Takes its parts ready made, because the supernet has other ones in the same places.
    """

    def __init__(
        self, norm1: nn.Module, attn: nn.Module, norm2: nn.Module, mlp: nn.Module, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1, self.attn = norm1, attn
        self.norm2, self.mlp = norm2, mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, embed_dim) to the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """The rate of each layer: from 0 in the first, linearly, to `rate` in the last of `depth` layers."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]

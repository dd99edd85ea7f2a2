"""The plain layers around the blocks: pure PyTorch, in timm's layout, ignorant of NNI. Blocks are in
`block.py`.

The arithmetic of a layer stands once, in a function of its tensors (`patch_tokens`, `add_tokens`, …). A plain
layer calls it with its own parameters, the supernet's layer in `entangled.py` with slices of the largest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from ..model_config import ModelConfig

torch.fx.wrap("patch_tokens")  # how a device does it is not a choice to trace


def patch_tokens(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Project each patch of the images.

    Args:
        images: (batch, in_chans, height, width).
        weight: weight of a convolution whose stride is its size, (embed_dim, in_chans, side, side).
        bias: (embed_dim,).

    Returns:
        (batch, patches, embed_dim), row by row.
    """
    if torch.jit.is_scripting() or images.device.type != "cuda":
        return F.conv2d(images, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
    else:
        return _projected_tiles(images, weight, bias)


def _projected_tiles(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """cuDNN's convolution of so large a stride takes three times as long as the matrix product that it is."""
    side = weight.shape[-1]
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


def pool(x: Tensor, global_pool: str) -> Tensor:
    """(batch, 1 + patches, channels) to (batch, channels): mean of the patches ('avg') or class token
    ('token').
    """
    return x[:, 1:].mean(dim=1) if global_pool == "avg" else x[:, 0]


def outer_norms(
    model: ModelConfig, embed_dim: Any, norm: Callable[..., nn.Module] = nn.LayerNorm
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The norms outside of the blocks: before the first one, behind the last one, and behind the pooling; as
    in timm's `VisionTransformer`, one that a network does without is `nn.Identity`.

    Args:
        model: says which there are.
        embed_dim: channels of a token, or NNI's choice of them.
        norm: makes a norm.
    """

    def there(wanted: bool) -> nn.Module:
        return norm(embed_dim, eps=model.norm_eps) if wanted else nn.Identity()

    return there(model.pre_norm), there(not model.fc_norm), there(model.fc_norm)


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


class Head(nn.Linear):
    """The linear classifier, initialised as published."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        init_linear(self)


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """A branch with what `DropPath.mask` gives."""
    return x if mask is None else x * mask


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
        keep = x.new_empty([x.shape[0]] + [1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return keep.div_(1 - self.rate)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) to the same shape."""
        return masked(x, self.mask(x))

    def extra_repr(self) -> str:
        """The rate, in the printed module."""
        return f"rate={self.rate:g}"


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """The rate of each layer: from 0 in the first, linearly, to `rate` in the last of `depth` layers."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]

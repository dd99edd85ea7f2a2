"""What is measured: stems, heads and whole subnets, as modules whose weights share one piece of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from ..nn.layers import Head, PatchEmbed, Tokens, outer_norms, pool
from ..nn.relative_position import TokenGrid
from ..nn.subnet import Subnet
from ..space import ModelConfig, SearchSpace

ALIGNMENT = 64
"""Elements: torch's own tensors begin at multiples of 64 bytes."""


@dataclass(frozen=True)
class Piece:
    """Something to measure: a stem or a head by its embedding size, or a whole subnet.

    Attributes:
        kind: 'stem', 'head' or 'subnet'.
        architecture: the subnet; of a stem or a head only the embedding size counts.
    """

    kind: str
    architecture: Architecture


def parts_of(space: SearchSpace) -> list[Piece]:
    """What the parts of a space are measured by: its stems and heads, and per shape of a block a subnet that
    is made of this shape alone.

    A block by itself would keep its weights in the processor's caches, which a network is too large for; a
    network of equal blocks treats caches and memory as any other network does.
    """
    sizes = [Architecture(embed, space.num_heads[:1], space.mlp_ratio[:1]) for embed in space.embed_dim]
    depth = space.middle.depth
    uniform = [
        Architecture(embed, (heads,) * depth, (ratio,) * depth)
        for embed, heads, ratio in product(space.embed_dim, space.num_heads, space.mlp_ratio)
    ]
    ends = [Piece(kind, size) for kind in ("stem", "head") for size in sizes]
    return [*ends, *(Piece("subnet", architecture) for architecture in uniform)]


class Stem(nn.Module):
    """What comes before the blocks."""

    def __init__(self, embed_dim: int, model: ModelConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(embed_dim, model.patch_size, model.in_chans)
        self.tokens = Tokens(embed_dim, model.num_patches, model.absolute_position)
        self.norm_pre, _, _ = outer_norms(model, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, in_chans, height, width) to (batch, 1 + patches, embed_dim)."""
        return self.norm_pre(self.tokens(self.patch_embed(images)))


class Top(nn.Module):
    """What comes behind the blocks."""

    def __init__(self, embed_dim: int, model: ModelConfig) -> None:
        super().__init__()
        self.global_pool = model.global_pool
        _, self.norm, self.fc_norm = outer_norms(model, embed_dim)
        self.head = Head(embed_dim, model.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1 + patches, embed_dim) to (batch, num_classes)."""
        return self.head(self.fc_norm(pool(self.norm(x), self.global_pool)))


class Weights:
    """Random weights for any module, all cut from one piece of memory: a space's largest subnet needs 0.3 GB,
    and all that are measured would need twenty times as much. The weights of one module do not overlap.

    Args:
        device, dtype: of the weights.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._memory = torch.empty(0, device=device, dtype=dtype)

    def fill(self, module: nn.Module) -> nn.Module:
        """A module whose parameters have shapes alone, with weights, ready to run."""
        tensors = module.state_dict()
        steps = [-(-tensor.numel() // ALIGNMENT) * ALIGNMENT for tensor in tensors.values()]
        if sum(steps) > self._memory.numel():
            shape, like = (sum(steps),), self._memory
            self._memory = (
                torch.randn(shape, device=like.device, dtype=torch.float32).mul_(0.02).to(like.dtype)
            )
        views, start = {}, 0
        for (name, tensor), step in zip(tensors.items(), steps):
            views[name] = self._memory[start : start + tensor.numel()].view(tensor.shape)
            start += step
        module.load_state_dict(views, assign=True)
        return module.eval().requires_grad_(False)


def module_of(piece: Piece, model: ModelConfig, grid: TokenGrid | None) -> nn.Module:
    """The module, without weights.

    Args:
        piece: what is measured.
        model: the network around the blocks.
        grid: grid of the patches, shared by all subnets.
    """
    embed = piece.architecture.embed_dim
    with torch.device("meta"):
        if piece.kind == "subnet":
            return Subnet(piece.architecture, model, token_grid=grid)
        return Stem(embed, model) if piece.kind == "stem" else Top(embed, model)


def input_shape(piece: Piece, model: ModelConfig) -> Sequence[int]:
    """Shape of one input, without the batch."""
    if piece.kind == "head":
        return (1 + model.num_patches, piece.architecture.embed_dim)
    return (model.in_chans, *model.img_size)

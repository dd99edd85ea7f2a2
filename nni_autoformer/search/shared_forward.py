"""Many subnets of one supernet on the same images: what they have in common is computed once.

Entangled subnets of one embedding size have the same patch embedding, tokens and head; those that also agree
in the first layers have the same activations up to there. So the subnets form a tree, whose edges are halves
of layers, and one walk through it gives the logits of all of them, bit for bit those that each gives alone.
Among the children of a few parents that spares a good part of the layers.

Nothing narrower is cut out of what is wider: a head's bias depends on how many heads there are (the qkv bias
is cut into its three runs after it has been sliced, see `slicing.py`), and the channels of a wider matrix
product may be rounded otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..architecture import Architecture
from ..model import AutoFormer
from ..nn.block import LinearMap, TensorBlock, layer_norm, linear
from ..nn.layers import add_tokens, patch_tokens, pool

HalfLayer = tuple[str, int, int]
"""Part of a block, number of the layer, and its heads or hidden channels."""


def half_layers(architecture: Architecture) -> list[HalfLayer]:
    """The half layers that an architecture runs, after its embedding."""
    path: list[HalfLayer] = []
    for i, (heads, hidden) in enumerate(zip(architecture.num_heads, architecture.hidden_features)):
        path += [("attn", i, heads), ("mlp", i, hidden)]
    return path


@dataclass
class Node:
    """Activations that the subnets below share.

    Attributes:
        part: what leads here from the node above.
        ends: numbers of the subnets whose last layer this is.
        below: the next half layers.
    """

    part: LinearMap
    ends: list[int] = field(default_factory=list)
    below: dict[HalfLayer, Node] = field(default_factory=dict)


class SharedForward:
    """Subnets of a trained supernet, to be run together in inference mode.

    Args:
        slices: slices of the supernet, which is in evaluation mode and on its device. Only the reordered qkv
            weights take memory, once per layer, embedding size and number of heads.
        architectures: the subnets.

    Raises:
        ConfigError: an architecture is not in the space.
    """

    def __init__(self, slices: Slices, architectures: Sequence[Architecture]) -> None:
        self._slices = slices
        self._roots: dict[int, Node] = {}
        for number, architecture in enumerate(architectures):
            self._add(number, slices.supernet.space.require(architecture))
        self._classifiers = {embed_dim: slices.classifier(embed_dim) for embed_dim in self._roots}

    def _add(self, number: int, architecture: Architecture) -> None:
        embed_dim = architecture.embed_dim
        if embed_dim not in self._roots:
            self._roots[embed_dim] = Node(self._slices.embedding(embed_dim))
        node = self._roots[embed_dim]
        for half in half_layers(architecture):
            if half not in node.below:
                node.below[half] = Node(self._slices.half_layer(half, embed_dim))
            node = node.below[half]
        node.ends.append(number)

    def logits(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The logits of every subnet, in no particular order.

        Args:
            images: normalised, (batch, channels, height, width).

        Yields:
            The number of the subnet, and its logits (batch, num_classes).
        """
        for embed_dim, root in self._roots.items():
            yield from self._walk(root, images, self._classifiers[embed_dim])

    def _walk(self, node: Node, x: Tensor, classifier: LinearMap) -> Iterator[tuple[int, Tensor]]:
        x = node.part(x)
        if node.ends:
            logits = classifier(x)
            for number in node.ends:
                yield number, logits
        for child in node.below.values():
            yield from self._walk(child, x, classifier)


class Slices:
    """The parts of a supernet's subnets as functions, on slices of its weights that are made once.

    Args:
        supernet: a trained supernet, whose weights do not change any more.
    """

    def __init__(self, supernet: AutoFormer) -> None:
        self.supernet: Any = supernet  # NNI's modules have no types
        self._made: dict[tuple[HalfLayer, int], LinearMap] = {}
        self._used: set[tuple[HalfLayer, int]] = set()

    def forget_unused(self) -> None:
        """Drop what has not been asked for since the last call, so that a long search keeps no more than one
        generation needs.
        """
        self._made = {key: part for key, part in self._made.items() if key in self._used}
        self._used.clear()

    def embedding(self, embed_dim: int) -> LinearMap:
        """From images to tokens."""
        patch_embed, largest = self.supernet.patch_embed, self.supernet.tokens
        proj, tokens = patch_embed.sliced(embed_dim), largest.sliced(embed_dim)
        weight, bias = proj["proj.weight"], proj["proj.bias"]
        cls_token, pos_embed = tokens["cls_token"], tokens.get("pos_embed")
        norm = self._norm("norm_pre", embed_dim)

        def embed(images: Tensor) -> Tensor:
            return norm(add_tokens(patch_tokens(images, weight, bias), cls_token, pos_embed))

        return embed

    def half_layer(self, half: HalfLayer, embed_dim: int) -> LinearMap:
        """The attention or the feed-forward half of a layer, with its norm and residual."""
        key = half, embed_dim
        self._used.add(key)
        if key not in self._made:
            self._made[key] = self._half_layer(half, embed_dim)
        return self._made[key]

    def _half_layer(self, half: HalfLayer, embed_dim: int) -> LinearMap:
        part, i, size = half
        largest = self.supernet.blocks.blocks[i]
        norm = "norm1" if part == "attn" else "norm2"
        parts = {
            norm: getattr(largest, norm).sliced(embed_dim),
            part: getattr(largest, part).sliced(embed_dim, size),
        }
        block = _Block(parts, getattr(largest, norm).eps, largest.attn.token_grid)
        return block.attention_half if part == "attn" else block.mlp_half

    def classifier(self, embed_dim: int) -> LinearMap:
        """From the last layer's tokens to logits."""
        norm, behind = self._norm("norm", embed_dim), self._norm("fc_norm", embed_dim)
        classify = linear(self.supernet.head.sliced(embed_dim))
        way = self.supernet.space.model.global_pool
        return lambda x: classify(behind(pool(norm(x), way)))

    def _norm(self, name: str, embed_dim: int) -> LinearMap:
        largest = getattr(self.supernet, name)
        if isinstance(largest, nn.Identity):
            return largest
        return layer_norm(largest.sliced(embed_dim), largest.eps)


class _Block(TensorBlock):
    """In inference a branch is nobody else's, and new memory is a good part of a small sum's time."""

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        return branch.add_(x) if branch.dtype == x.dtype else x + branch

"""Many subnets of one supernet on the same images: what they have in common is computed once.

Entangled subnets of one embedding size have the same patch embedding, tokens and head; those that also agree
in the first layers have the same activations up to there, and where they then differ in the number of heads
or hidden channels, the narrower one has the first of the wider one's. So the subnets form a tree, whose edges
are halves of layers, and one walk through it gives the logits of all of them. Among the children of a few
parents that spares a good part of the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..architecture import HEAD_DIM, Architecture
from ..model import AutoFormer
from ..nn.entangled import EntangledLayerNorm, linear
from ..nn.layers import LinearMap, add_tokens, mlp, patch_tokens, pool

Step = tuple[str, int, int]
"""Kind of a half layer, number of the layer, and its heads or hidden channels."""

Join = Callable[[Tensor, Tensor], Tensor]


def steps(architecture: Architecture) -> list[Step]:
    """The half layers that an architecture runs, after its embedding."""
    path: list[Step] = []
    for i, (heads, hidden) in enumerate(zip(architecture.num_heads, architecture.hidden_features)):
        path += [("attn", i, heads), ("mlp", i, hidden)]
    return path


@dataclass
class Node:
    """Activations that the subnets below share.

    Attributes:
        join: from the activations of the node above, and what its halves below have in common, to these; None
            for a root.
        ends: numbers of the subnets whose last layer this is.
        below: the next half layers, all of them of one layer and kind.
        common: from these activations to what those have in common: the widest one's inside.
    """

    join: Join | None = None
    ends: list[int] = field(default_factory=list)
    below: dict[Step, Node] = field(default_factory=dict)
    common: LinearMap | None = None


class Population:
    """Subnets of a trained supernet, to be run together in inference mode.

    Args:
        slices: of the supernet, which is in evaluation mode and on its device. Only the reordered qkv weights
            take memory, once per layer, embedding size and number of heads.
        architectures: the subnets.

    Raises:
        ConfigError: an architecture is not in the space.
    """

    def __init__(self, slices: Slices, architectures: Sequence[Architecture]) -> None:
        self._slices = slices
        self._roots: dict[int, Node] = {}
        for number, architecture in enumerate(architectures):
            self._add(number, slices.supernet.space.require(architecture))
        for embed_dim, root in self._roots.items():
            self._connect(root, embed_dim)
        self._ends = {e: (slices.embedding(e), slices.classifier(e)) for e in self._roots}

    def _add(self, number: int, architecture: Architecture) -> None:
        node = self._roots.setdefault(architecture.embed_dim, Node())
        for step in steps(architecture):
            node = node.below.setdefault(step, Node())
        node.ends.append(number)

    def _connect(self, node: Node, embed_dim: int) -> None:
        if node.below:
            node.common = self._slices.common(max(node.below), embed_dim)
        for step, child in node.below.items():
            child.join = self._slices.join(step, embed_dim)
            self._connect(child, embed_dim)

    def logits(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The logits of every subnet, in no particular order.

        Args:
            images: normalised, (batch, channels, height, width).

        Yields:
            The number of the subnet, and its logits (batch, num_classes).
        """
        for embed_dim, root in self._roots.items():
            embed, classify = self._ends[embed_dim]
            yield from self._walk(root, embed(images), classify)

    def _walk(self, node: Node, x: Tensor, classify: LinearMap) -> Iterator[tuple[int, Tensor]]:
        if node.ends:
            logits = classify(x)
            for number in node.ends:
                yield number, logits
        if node.common is None:
            return
        common = node.common(x)
        for child in node.below.values():
            assert child.join is not None
            yield from self._walk(child, child.join(x, common), classify)


class Slices:
    """The parts of a supernet's subnets as functions, on slices of its weights that are made once.

    Args:
        supernet: a trained supernet, whose weights do not change any more.
    """

    def __init__(self, supernet: AutoFormer) -> None:
        self.supernet: Any = supernet  # NNI's modules have no types
        self._made: dict[tuple[str, Step, int], Any] = {}
        self._used: set[tuple[str, Step, int]] = set()

    def forget_unused(self) -> None:
        """Drop what has not been asked for since the last call, so that a long search keeps no more than one
        generation needs.
        """
        self._made = {key: part for key, part in self._made.items() if key in self._used}
        self._used.clear()

    def _once(self, name: str, step: Step, embed_dim: int, make: Callable[[Step, int], Any]) -> Any:
        key = name, step, embed_dim
        self._used.add(key)
        if key not in self._made:
            with torch.no_grad():
                self._made[key] = make(step, embed_dim)
        return self._made[key]

    def embedding(self, embed_dim: int) -> LinearMap:
        """From images to tokens."""
        patch_embed, largest = self.supernet.patch_embed, self.supernet.tokens
        proj, tokens = patch_embed.sliced(embed_dim), largest.sliced(embed_dim)
        weight, bias, stride = proj["proj.weight"], proj["proj.bias"], patch_embed.patch_size
        cls_token, pos_embed = tokens["cls_token"], tokens.get("pos_embed")

        def embed(images: Tensor) -> Tensor:
            return add_tokens(
                patch_tokens(F.conv2d(images, weight, bias, stride=stride)), cls_token, pos_embed
            )

        return embed

    def common(self, step: Step, embed_dim: int) -> LinearMap:
        """From a layer's input to what stands before the last linear map of its attention or feed-forward
        half: the heads side by side, or the hidden channels. A narrower half has the first of them.
        """
        return self._once("common", step, embed_dim, self._common)

    def _common(self, step: Step, embed_dim: int) -> LinearMap:
        kind, i, size = step
        block = self.supernet.blocks.blocks[i]
        if kind == "attn":
            attn, norm = block.attn, self._norm(block.norm1, embed_dim)
            qkv = linear(attn.sliced(embed_dim, size), "qkv")
            return lambda x: attn.attend(norm(x), qkv, _as_it_is, size)
        norm, fc1 = self._norm(block.norm2, embed_dim), linear(block.mlp.sliced(embed_dim, size), "fc1")
        return lambda x: mlp(norm(x), fc1, _as_it_is)

    def join(self, step: Step, embed_dim: int) -> Join:
        """From a layer's input and `common` of this or a wider step to the output of the half layer."""
        return self._once("join", step, embed_dim, self._join)

    def _join(self, step: Step, embed_dim: int) -> Join:
        kind, i, size = step
        block = self.supernet.blocks.blocks[i]
        largest, name = (block.attn, "proj") if kind == "attn" else (block.mlp, "fc2")
        width = size * HEAD_DIM if kind == "attn" else size
        last = linear(largest.sliced(embed_dim, size), name)
        # contiguous: else the linear map would round in another order than for a subnet alone
        return lambda x, common: x + last(common[..., :width].contiguous())

    def classifier(self, embed_dim: int) -> LinearMap:
        """From the last layer's tokens to logits."""
        norm, tensors = self._norm(self.supernet.norm, embed_dim), self.supernet.head.sliced(embed_dim)
        weight, bias, way = tensors["weight"], tensors["bias"], self.supernet.space.model.global_pool
        return lambda x: F.linear(pool(norm(x), way), weight, bias)

    def _norm(self, largest: EntangledLayerNorm, embed_dim: int) -> LinearMap:
        tensors = largest.sliced(embed_dim)
        weight, bias, eps = tensors["weight"], tensors["bias"], largest.eps
        return lambda x: F.layer_norm(x, (embed_dim,), weight, bias, eps)


def _as_it_is(x: Tensor) -> Tensor:
    return x

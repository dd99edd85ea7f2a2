"""ONNX models of many subnets in little time: their parts are exported once each and put in a row.

torch's exporter needs up to a minute for a subnet, and a measurement wants about fifty. What it writes of a
subnet is what it writes of the parts, in a row, so a runtime gets the same graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..architecture import Architecture
from ..export import onnx_of
from ..latency_table import Shape
from ..nn.block import build_block
from ..nn.relative_position import TokenGrid
from ..space import ModelConfig
from .pieces import Piece, Stem, Top

INPUT, OUTPUT = "images", "logits"


class OnnxNetworks:
    """Exports parts when they are first needed.

    Args:
        model: the network around the blocks.
        grid: grid of the patches.
    """

    def __init__(self, model: ModelConfig, grid: TokenGrid | None) -> None:
        self.model, self.grid = model, grid
        self._parts: dict[tuple[str, Any], Any] = {}

    def model_of(self, piece: Piece) -> bytes:
        """The ONNX file's content, for any batch size."""
        embed = piece.architecture.embed_dim
        if piece.kind == "subnet":
            return self._subnet(piece.architecture).SerializeToString()
        return self._end(piece.kind, embed).SerializeToString()

    def prepare(self, piece: Piece) -> None:
        """Export what a piece needs and is not exported yet."""
        embed = piece.architecture.embed_dim
        for kind in ("stem", "head"):
            if piece.kind in (kind, "subnet"):
                self._end(kind, embed)
        if piece.kind == "subnet":
            for shape in shapes_of(piece.architecture):
                self._block(shape)

    def _end(self, kind: str, embed: int) -> Any:
        build: Callable[..., nn.Module] = Stem if kind == "stem" else Top
        image = (self.model.in_chans, *self.model.img_size)
        shape = image if kind == "stem" else (1 + self.model.num_patches, embed)
        return self._exported((kind, embed), lambda: build(embed, self.model), shape)

    def _block(self, shape: Shape) -> Any:
        embed, heads, ratio = shape

        def build() -> nn.Module:
            hidden = Architecture(embed, (heads,), (ratio,)).hidden_features[0]
            return build_block(embed, heads, hidden, self.model.max_relative_position, self.grid)

        return self._exported(("block", shape), build, (1 + self.model.num_patches, embed))

    def _exported(self, key: tuple[str, Any], build: Callable[[], nn.Module], shape: tuple[int, ...]) -> Any:
        if key not in self._parts:
            with torch.no_grad():
                self._parts[key] = onnx_of(build().eval(), torch.randn(2, *shape), INPUT, OUTPUT)
        return self._parts[key]

    def _subnet(self, architecture: Architecture) -> Any:
        import onnx

        blocks = [self._block(shape) for shape in shapes_of(architecture)]
        ends = [self._end(kind, architecture.embed_dim) for kind in ("stem", "head")]
        parts = [ends[0], *blocks, ends[1]]
        whole = onnx.ModelProto()
        whole.CopyFrom(parts[0])
        del whole.graph.node[:], whole.graph.initializer[:], whole.graph.value_info[:], whole.graph.output[:]
        for number, part in enumerate(parts):
            prefixed = onnx.compose.add_prefix(part, f"{number}.", rename_inputs=False, rename_outputs=False)
            ends_of = {INPUT: f"{number}.{INPUT}" if number else INPUT}
            ends_of[OUTPUT] = f"{number + 1}.{INPUT}" if number + 1 < len(parts) else OUTPUT
            for node in prefixed.graph.node:
                for names in (node.input, node.output):
                    names[:] = [ends_of.get(name, name) for name in names]
            whole.graph.node.extend(prefixed.graph.node)
            whole.graph.initializer.extend(prefixed.graph.initializer)
        whole.graph.output.extend(parts[-1].graph.output)
        return whole


def shapes_of(architecture: Architecture) -> list[Shape]:
    """The shape of each block."""
    pairs = zip(architecture.num_heads, architecture.mlp_ratio)
    return [(architecture.embed_dim, heads, ratio) for heads, ratio in pairs]

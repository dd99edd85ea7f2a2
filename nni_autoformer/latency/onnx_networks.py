"""ONNX models of many subnets in little time: their parts are exported once each and put in a row.

torch's exporter needs up to a minute for a subnet, and a measurement wants about fifty. What it writes of a
subnet is what it writes of the parts, in a row, so a runtime gets the same graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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

CONSTANT = 16
"""Elements of a tensor that is no weight."""


_EXPORTED: dict[ModelConfig, dict[tuple[str, Any], Any]] = {}
"""What this process has exported, by network and part: another batch size or runtime needs the same."""


class OnnxNetworks:
    """Exports parts when they are first needed.

    Args:
        model: the network around the blocks.
        grid: grid of the patches.
    """

    def __init__(self, model: ModelConfig, grid: TokenGrid | None) -> None:
        self.model, self.grid = model, grid
        self._parts = _EXPORTED.setdefault(model, {})

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
        image = (self.model.in_chans, *self.model.img_size)
        return self._exported(kind, embed, image if kind == "stem" else (1 + self.model.num_patches, embed))

    def _block(self, shape: Shape) -> Any:
        return self._exported("block", shape, (1 + self.model.num_patches, shape[0]))

    def _exported(self, kind: str, sizes: Any, shape: tuple[int, ...]) -> Any:
        if (kind, sizes) not in self._parts:
            with torch.no_grad():
                example = torch.randn(2, *shape)
                self._parts[kind, sizes] = onnx_of(self._built(kind, sizes).eval(), example, INPUT, OUTPUT)
        return self._parts[kind, sizes]

    def _built(self, kind: str, sizes: Any) -> nn.Module:
        if kind == "block":
            embed, heads, ratio = sizes
            hidden = Architecture(embed, (heads,), (ratio,)).hidden_features[0]
            return build_block(embed, heads, hidden, self.model.max_relative_position, self.grid)
        return Stem(sizes, self.model) if kind == "stem" else Top(sizes, self.model)

    def _subnet(self, architecture: Architecture) -> Any:
        blocks = [self._block(shape) for shape in shapes_of(architecture)]
        stem, head = (self._end(kind, architecture.embed_dim) for kind in ("stem", "head"))
        return _in_a_row([stem, *blocks, head])


def _in_a_row(parts: Sequence[Any]) -> Any:
    """One model that runs ONNX models one after the other."""
    import onnx
    import onnx_ir

    whole = onnx.ModelProto()
    whole.CopyFrom(parts[0])
    for repeated in (whole.graph.node, whole.graph.initializer, whole.graph.value_info, whole.graph.output):
        del repeated[:]
    known: dict[Any, str] = {}
    for number, part in enumerate(parts):
        last = number + 1 == len(parts)
        names = {INPUT: f"{number}.{INPUT}" if number else INPUT}
        names[OUTPUT] = OUTPUT if last else f"{number + 1}.{INPUT}"
        for tensor in part.graph.initializer:
            names[tensor.name] = _shared(tensor, known, f"{number}.{tensor.name}")
            if names[tensor.name] == f"{number}.{tensor.name}":
                whole.graph.initializer.add().CopyFrom(tensor)
                whole.graph.initializer[-1].name = names[tensor.name]
        for node in part.graph.node:
            whole.graph.node.add().CopyFrom(node)
            _rename(whole.graph.node[-1], names, number)
    whole.graph.output.extend(parts[-1].graph.output)
    model = onnx_ir.serde.deserialize_model(whole)
    onnx_ir.passes.common.CommonSubexpressionEliminationPass()(model)
    return onnx_ir.serde.serialize_model(model)


def _shared(tensor: Any, known: dict[Any, str], name: str) -> str:
    """Name of a tensor that stands in a subnet once, as the grid's and the exporter's small constants do."""
    if "token_grid." not in tensor.name and math.prod(tensor.dims) > CONSTANT:
        return name
    return known.setdefault((tensor.data_type, tuple(tensor.dims), tensor.raw_data), name)


def _rename(node: Any, names: Mapping[str, str], number: int) -> None:
    """Give a node of a part the names that its tensors have in the whole."""
    span = {attribute.name: attribute.i for attribute in node.attribute}
    batch = node.op_type == "Shape" and list(node.input) == [INPUT] and span == {"start": 0, "end": 1}
    for entries in (node.input, node.output):
        # the batch size is that of the images, which in a subnet is looked up once
        found = [
            INPUT if batch and name == INPUT else names.get(name, f"{number}.{name}") for name in entries
        ]
        entries[:] = [new if name else name for new, name in zip(found, entries)]
    node.name = f"{number}.{node.name}"


def shapes_of(architecture: Architecture) -> list[Shape]:
    """The shape of each block."""
    pairs = zip(architecture.num_heads, architecture.mlp_ratio)
    return [(architecture.embed_dim, heads, ratio) for heads, ratio in pairs]

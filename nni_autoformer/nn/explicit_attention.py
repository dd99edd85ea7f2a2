"""Relative attention written out for the CPU, with a backward pass of its own.

The arithmetic is that of `relative_position.py`. What is gained over the fused kernel, for the few hundred
tokens of an image:

* Attention probabilities are kept instead of computed again, and keys and values get no gradient on their
  one-hot channels: 4.9 products as wide as a head in the backward pass instead of 7.5.
* The products of all queries with all offsets are one matrix product. Query row r needs offsets -r .. R-1-r
  of it: a view whose row stride is one short of the true one, so that each row starts one offset earlier.

    offsets      -2 -1  0  1  2        channels   0  1  2
    query row 0         a  b  c     →             a  b  c
    query row 1      d  e  f                      d  e  f
    query row 2   g  h  i                         g  h  i
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..architecture import HEAD_DIM

Grid = tuple[int, int]
Formula = Callable[[Tensor, Tensor, Tensor], Tensor]


def explicit_attention(
    qkv: Tensor, key_table: Tensor, value_table: Tensor, one_hot: Tensor, grid_size: Grid, formula: Formula
) -> Tensor:
    """Attention with 2-D relative position.

    Args:
        qkv: (batch, 1 + patches, 3, heads, 64).
        key_table, value_table: (2 rows + 2 columns - 1, 64), see `RelativePosition2D`.
        one_hot: (1 + patches, width), see `TokenGrid`.
        grid_size: rows and columns of patches.
        formula: the same function of the first three, in operations that can be differentiated any number of
            times; runs for second derivatives only.

    Returns:
        (batch, 1 + patches, heads x 64).
    """
    key_table, value_table = key_table.to(qkv.dtype), value_table.to(qkv.dtype)
    place = _InPlaceOf.apply(qkv, qkv.new_empty(()).expand(qkv.shape)) if torch.is_grad_enabled() else qkv
    return _ExplicitAttention.apply(qkv, key_table, value_table, place, one_hot, grid_size, formula)


class _InPlaceOf(torch.autograd.Function):
    """Other values, at a tensor's place in the graph.

    A second derivative has to reach qkv, which the first one has no need to keep: it has the widened copy. So
    qkv's place is kept without the memory, and gets the values back if they are ever asked for.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, values: Tensor) -> Tensor:
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _ExplicitAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        key_table: Tensor,
        value_table: Tensor,
        place: Tensor,
        one_hot: Tensor,
        grid_size: Grid,
        formula: Formula,
    ) -> Tensor:
        batch, tokens, _, heads, _ = qkv.shape
        wide = _widened(qkv, key_table, one_hot, grid_size)
        query, key, value = wide.flatten(1, 2).unbind(0)  # each (batch x heads, tokens, 64 + width)
        probabilities = torch.bmm(query, key.transpose(1, 2))
        torch.softmax(probabilities, dim=-1, out=probabilities)
        attended = torch.bmm(probabilities, value)
        mass = _to_offsets(attended, value_table, grid_size)
        # every pair of the class token's query is a pair with the class token, and its mass is 1
        mass[:, 0, -1] = 1
        result = torch.addmm(_head(attended), mass.flatten(0, 1), value_table)
        ctx.save_for_backward(wide, probabilities, mass, key_table, value_table, place)
        ctx.grid_size, ctx.formula = grid_size, formula
        return result.view(batch, heads, tokens, HEAD_DIM).transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, gradient)
        wide, probabilities, mass, key_table, value_table, _ = ctx.saved_tensors
        _, batch, heads, tokens, width = wide.shape
        query, key, value = wide.flatten(1, 2).unbind(0)
        of_qkv = gradient.new_empty(batch, tokens, 3, heads, HEAD_DIM)

        of_attended = gradient.new_empty(batch * heads, tokens, width)
        by_head = gradient.view(batch, tokens, heads, HEAD_DIM).transpose(1, 2)
        of_attended.view(batch, heads, tokens, width)[..., :HEAD_DIM] = by_head
        of_result = _head(of_attended)
        _to_channels(of_result @ value_table.t(), of_attended, ctx.grid_size)
        of_value_table = mass.flatten(0, 1).t() @ of_result

        narrow = gradient.new_empty(2, batch * heads, tokens, HEAD_DIM)  # of keys and values
        torch.bmm(probabilities.transpose(1, 2), of_attended[..., :HEAD_DIM], out=narrow[1])
        of_logits = torch.bmm(of_attended, value.transpose(1, 2))
        torch.ops.aten._softmax_backward_data.out(
            of_logits, probabilities, -1, wide.dtype, grad_input=of_logits
        )
        torch.bmm(of_logits.transpose(1, 2), query[..., :HEAD_DIM], out=narrow[0])
        of_qkv[:, :, 1:] = narrow.view(2, batch, heads, tokens, HEAD_DIM).permute(1, 3, 0, 2, 4)

        of_wide_query = torch.bmm(of_logits, key, out=of_attended)
        of_products = _to_offsets(of_wide_query, key_table, ctx.grid_size).flatten(0, 1)
        of_key_table = of_products.t() @ _head(query)
        of_scaled = torch.addmm(_head(of_wide_query), of_products, key_table)
        of_scaled = of_scaled.view(batch, heads, tokens, HEAD_DIM).transpose(1, 2)
        torch.mul(of_scaled, HEAD_DIM**-0.5, out=of_qkv[:, :, 0])
        return of_qkv, of_key_table, of_value_table, None, None, None, None


def _differentiable_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The backward pass when its result is to be differentiated itself."""
    wide, _, _, key_table, value_table, place = ctx.saved_tensors
    values = wide[..., :HEAD_DIM].permute(1, 3, 0, 2, 4).clone()  # batch, token, part, head, channel
    values[:, :, 0] *= HEAD_DIM**0.5
    inputs = (_InPlaceOf.apply(place, values), key_table, value_table)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(ctx.formula(*inputs), wanted, gradient, create_graph=True))
    gradients = [next(found) if tensor.requires_grad else None for tensor in inputs]
    return *gradients, None, None, None, None


def _head(wide: Tensor) -> Tensor:
    """The 64 channels before the positions', (batch x heads x tokens, 64), as a view."""
    return wide.view(-1, wide.shape[-1])[:, :HEAD_DIM]


def _widened(qkv: Tensor, key_table: Tensor, one_hot: Tensor, grid_size: Grid) -> Tensor:
    """Scaled queries, keys and values with their position channels, (3, batch, heads, tokens, 64 + width)."""
    batch, tokens, _, heads, _ = qkv.shape
    wide = qkv.new_empty(3, batch, heads, tokens, HEAD_DIM + one_hot.shape[1])
    parts = qkv.permute(2, 0, 3, 1, 4)
    torch.mul(parts[0], HEAD_DIM**-0.5, out=wide[0, ..., :HEAD_DIM])
    wide[1:, ..., :HEAD_DIM] = parts[1:]
    wide[1:, ..., HEAD_DIM:] = one_hot
    query = wide[0].flatten(0, 1)
    _to_channels(_head(query) @ key_table.t(), query, grid_size)
    return wide


def _to_channels(products: Tensor, wide: Tensor, grid_size: Grid) -> None:
    """Write each patch's products with the offsets of its keys into its position channels; those of the class
    token, whose term is the same for every key, are zero.

    Args:
        products: (batch x heads x tokens, offsets).
        wide: (batch x heads, tokens, 64 + width).
        grid_size: rows and columns.
    """
    rows, columns = grid_size
    products = products.view(*wide.shape[:2], -1)
    channels = wide[..., HEAD_DIM:]
    patches = channels[:, 1:].unflatten(1, grid_size)
    vertical, horizontal = _skewed(products, grid_size)
    patches[..., :rows] = vertical
    patches[..., rows : rows + columns] = horizontal
    channels[:, 1:, rows + columns] = products[:, 1:, -1]
    channels[:, :, rows + columns + 1 :] = 0
    channels[:, 0] = 0


def _to_offsets(wide: Tensor, table: Tensor, grid_size: Grid) -> Tensor:
    """The reverse of `_to_channels`: (batch x heads, tokens, offsets), zero where a query has no key."""
    rows, columns = grid_size
    offsets = wide.new_zeros(*wide.shape[:2], len(table))
    channels = wide[..., HEAD_DIM:]
    patches = channels[:, 1:].unflatten(1, grid_size)
    vertical, horizontal = _skewed(offsets, grid_size)
    vertical.copy_(patches[..., :rows])
    horizontal.copy_(patches[..., rows : rows + columns])
    offsets[:, 1:, -1] = channels[:, 1:, rows + columns]
    return offsets


def _skewed(offsets: Tensor, grid_size: Grid) -> tuple[Tensor, Tensor]:
    """Views of (batch x heads, tokens, offsets) by query row, query column, and key row or key column."""
    rows, columns = grid_size
    batch, tokens, width = offsets.shape
    first = width + rows - 1  # of the patch at row 0 and column 0: the class token stands before it
    strides = (tokens * width, columns * width - 1, width, 1)
    vertical = offsets.as_strided((batch, rows, columns, rows), strides, first)
    first = width + 2 * rows - 1 + columns - 1
    strides = (tokens * width, columns * width, width - 1, 1)
    horizontal = offsets.as_strided((batch, rows, columns, columns), strides, first)
    return vertical, horizontal

"""2-D relative position on keys and values as one attention, without any N x N x 64 table.

For two patches i and j the published rule (paper section 3.2, after Shaw et al. 2018) adds to key and value
the vector

    r_ij = V[clip(row_j - row_i) + L + 1] + H[clip(col_j - col_i) + L + 1],      clip to -L .. L,

and V[0] + H[0] for a pair with the class token. q_i . r_ij only depends on j through j's row, column and
being the class token, so it is a dot product with one-hot vectors:

    query channels   q_i | q_i . V[row offsets]  | q_i . H[column offsets] | q_i . (V[0] + H[0])
    key channels     k_j | one-hot of j's row    | one-hot of j's column   | 1 for the class token
    value channels   v_j | the same one-hot channels

Attention over these channels has the position term in its logits, and its extra output channels are the
attention mass per row, per column and on the class token, which one small product turns into the values'
term. The width is a multiple of 8 and there is no mask, so fused kernels take it.

Two kernels do this arithmetic, `fused_attention` here and `explicit_attention`; `relative_attention` chooses.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..architecture import HEAD_DIM
from ..errors import ConfigError
from .explicit_attention import explicit_attention

KERNELS = ("auto", "fused", "explicit")
LONGEST_EXPLICIT = 401
"""Up to this many tokens, 20 x 20 patches, the explicit kernel is the faster one on a CPU; see
benchmarks/RESULTS.md.
"""


class Grid(NamedTuple):
    """The tables of a grid of patches, in the form that functions take; `TokenGrid` has built them."""

    rows: int
    columns: int
    row_offsets: Tensor
    """(2 rows - 1,): the learned table's row for each offset, from the most negative."""
    column_offsets: Tensor
    """(2 columns - 1,)"""
    one_hot: Tensor
    """(1 + patches, width): row | column | class token | padding"""
    offset_of: Tensor
    """(1 + patches, width): for a query and a channel the offset between them"""
    channel_of: Tensor
    """(1 + patches, offsets): for a query and an offset the channel that far away"""


Grid.__annotations__.update(get_type_hints(Grid))  # TorchScript cannot resolve postponed annotations


class TokenGrid(nn.Module):
    """Index and one-hot tables of a grid of patches, built once and shared by all layers of a network.

    The tables are buffers, so they move with the module, and not part of the state dict.

    Args:
        grid_size: patches per column and per row.
        max_relative_position: L, the offset beyond which a patch counts as this far.
    """

    if TYPE_CHECKING:  # at run time TorchScript would read these, too
        row_offsets: Tensor
        column_offsets: Tensor
        one_hot: Tensor
        offset_of: Tensor
        channel_of: Tensor

    def __init__(self, grid_size: tuple[int, int], max_relative_position: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns = grid_size
        one_hot = _one_hot(rows, columns)
        offset_of = _offset_of(rows, columns, one_hot.shape[1])
        tables = {
            "row_offsets": _offsets(rows, max_relative_position),
            "column_offsets": _offsets(columns, max_relative_position),
            "one_hot": one_hot,
            "offset_of": offset_of,
            "channel_of": _channel_of(offset_of, _padded_width(2 * (rows + columns) - 1)),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def tables(self) -> Grid:
        """The tables as they are now, wherever the module has moved."""
        return Grid(
            self.rows,
            self.columns,
            self.row_offsets,
            self.column_offsets,
            self.one_hot,
            self.offset_of,
            self.channel_of,
        )


def build_token_grid(
    grid_size: tuple[int, int], max_relative_position: int, relative_position: bool = True
) -> TokenGrid | None:
    """The grid that the layers of a network share.

    Args:
        grid_size, max_relative_position: sizes of the grid, see `TokenGrid`.
        relative_position: False for a network without relative position, which needs no grid.
    """
    return TokenGrid(grid_size, max_relative_position) if relative_position else None


def _padded_width(used: int) -> int:
    """A multiple of 8, which tensor cores and fused kernels want, with at least one channel that stays 0."""
    return used + 8 - used % 8


def _offsets(side: int, maximum: int) -> Tensor:
    return torch.arange(1 - side, side).clamp(-maximum, maximum) + maximum + 1


def _one_hot(rows: int, columns: int) -> Tensor:
    table = torch.zeros(1 + rows * columns, _padded_width(HEAD_DIM + rows + columns + 1) - HEAD_DIM)
    patch = torch.arange(rows * columns)
    table[1 + patch, patch // columns] = 1
    table[1 + patch, rows + patch % columns] = 1
    table[0, rows + columns] = 1
    return table


def _offset_of(rows: int, columns: int, width: int) -> Tensor:
    used = 2 * (rows + columns) - 1
    table = torch.full((1 + rows * columns, width), _padded_width(used) - 1)
    patch = torch.arange(rows * columns)[:, None]
    table[1:, :rows] = torch.arange(rows) - patch // columns + rows - 1
    table[1:, rows : rows + columns] = torch.arange(columns) - patch % columns + 2 * rows + columns - 2
    table[1:, rows + columns] = used - 1
    return table


def _channel_of(offset_of: Tensor, offsets: int) -> Tensor:
    tokens, width = offset_of.shape
    table = torch.full((tokens, offsets), width - 1)
    table.scatter_(1, offset_of, torch.arange(width).expand(tokens, -1))
    table[:, -1] = width - 1
    return table


class RelativePosition2D(nn.Module):
    """The learned offsets of one layer for keys, or for values.

    Args:
        max_relative_position: L; both tables have 2L + 2 rows of 64 channels. Row 0 is for pairs with the
            class token, row L + 1 for the same row or column.
    """

    def __init__(self, max_relative_position: int) -> None:
        super().__init__()
        shape = (2 * max_relative_position + 2, HEAD_DIM)
        self.embeddings_table_v = nn.Parameter(torch.empty(shape))
        self.embeddings_table_h = nn.Parameter(torch.empty(shape))
        nn.init.trunc_normal_(self.embeddings_table_v, std=0.02)
        nn.init.trunc_normal_(self.embeddings_table_h, std=0.02)

    def forward(self, grid: Grid) -> Tensor:
        """A vector for each offset that the grid has: 2 rows - 1 vertical ones, 2 columns - 1 horizontal
        ones, each from the most negative, and the class token's, (2 rows + 2 columns - 1, 64).
        """
        return offset_table(self.embeddings_table_v, self.embeddings_table_h, grid)


def offset_table(vertical: Tensor, horizontal: Tensor, grid: Grid) -> Tensor:
    """What `RelativePosition2D` gives, from its two tables."""
    return torch.cat(
        (vertical[grid.row_offsets], horizontal[grid.column_offsets], vertical[:1] + horizontal[:1])
    )


_kernel = "auto"


@contextmanager
def attention_kernel(name: str) -> Iterator[None]:
    """Let all relative attention inside the `with` block run one kernel, as `torch.nn.attention.sdpa_kernel`
    does for plain attention.

    Args:
        name: 'fused', 'explicit' (CPU, float32 or float64), or 'auto'.

    Raises:
        ConfigError: there is no kernel of this name.
    """
    global _kernel
    if name not in KERNELS:
        raise ConfigError(f"attention_kernel('{name}'): known are {', '.join(KERNELS)}.")
    before, _kernel = _kernel, name
    try:
        yield
    finally:
        _kernel = before


def relative_attention(
    qkv: Tensor,
    key_table: Tensor,
    value_table: Tensor,
    grid: Grid,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """Attention with 2-D relative position on keys and values, by the kernel that suits device and size.

    Args:
        qkv: queries, keys and values, (batch, 1 + patches, 3, heads, 64), the class token first, patches row
            by row.
        key_table, value_table: what `RelativePosition2D` gives for the grid.
        grid: the grid of the patches.
        attn_mask, is_causal: see `torch.nn.functional.scaled_dot_product_attention`; only the fused kernel
            takes a mask.

    Returns:
        The heads' outputs side by side, (batch, 1 + patches, heads x 64).
    """
    if not torch.jit.is_scripting():
        explicit = attn_mask is None and not is_causal and _explicit_is_wanted(qkv)
        if explicit:
            size = grid.rows, grid.columns
            formula = functools.partial(_formula, grid=grid)
            return explicit_attention(qkv, key_table, value_table, grid.one_hot, size, formula)
    return fused_attention(qkv, key_table, value_table, grid, attn_mask, is_causal)


def _explicit_is_wanted(qkv: Tensor) -> bool:
    """By name, or because it is the faster one as measured on a CPU; what traces or transforms the network
    sees the differentiable form.
    """
    if _kernel != "auto":
        return _kernel == "explicit"
    return (
        qkv.device.type == "cpu"
        and qkv.dtype in (torch.float32, torch.float64)
        and qkv.shape[1] <= LONGEST_EXPLICIT
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
    )


def _formula(qkv: Tensor, key_table: Tensor, value_table: Tensor, grid: Grid) -> Tensor:
    """`fused_attention` without a fused kernel: these have first derivatives only."""
    with sdpa_kernel(SDPBackend.MATH):
        return fused_attention(qkv, key_table, value_table, grid)


def fused_attention(
    qkv: Tensor,
    key_table: Tensor,
    value_table: Tensor,
    grid: Grid,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """`relative_attention` in one call of `scaled_dot_product_attention`."""
    head_dim = qkv.shape[-1]
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, tokens, 64)
    one_hot = grid.one_hot.to(qkv.dtype).expand(query.shape[:2] + grid.one_hot.shape)
    products = _products(query, _padded(key_table, grid).to(qkv.dtype).t())
    # nothing for the class token's query: its term is the same for every key, and softmax does not see that
    positions = rearranged(products, grid.offset_of, grid.channel_of)
    attended = F.scaled_dot_product_attention(
        torch.cat((query, positions), dim=-1),
        torch.cat((key, one_hot), dim=-1),
        torch.cat((value, one_hot), dim=-1),
        attn_mask=attn_mask,
        is_causal=is_causal,
        scale=head_dim**-0.5,  # the default would see the widened channels
    )
    mass = rearranged(attended[..., head_dim:], grid.channel_of, grid.offset_of)
    term = _products(mass, _padded(value_table, grid).to(mass.dtype))
    # every pair of the class token's query is a pair with the class token: all its mass, 1, meets one vector
    on_class = F.pad(value_table[-1:].to(mass.dtype), (0, 0, 0, mass.shape[2] - 1))
    result = attended[..., :head_dim] + term + on_class
    return result.transpose(1, 2).flatten(2)


def _padded(table: Tensor, grid: Grid) -> Tensor:
    return F.pad(table, (0, 0, 0, grid.channel_of.shape[1] - len(table)))


def _products(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight for (batch, heads, tokens, channels) as one product: its gradient for the weight, a sum over
    all tokens, is too, which a product of many small ones would not spread over a GPU.
    """
    by_token = x.transpose(1, 2)
    products = by_token.reshape(-1, x.shape[-1]) @ weight
    return products.unflatten(0, by_token.shape[:3]).transpose(1, 2)


def rearranged(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """Each token's channels in an order of its own: channel c of token i is x[..., i, index[i, c]].

    Args:
        x: (batch, heads, tokens, channels), the last channel 0.
        index: (tokens, new channels); its last column is that of the last channel of x, so it stays 0.
        inverse: (tokens, channels): the index of the way back. Channels that one of the two does not take
            are the last for the other.
    """
    if not torch.jit.is_scripting():
        traced = torch.jit.is_tracing() or torch._C._are_functorch_transforms_active()
        if torch.is_grad_enabled() and not traced:
            return _Rearranged.apply(x, index, inverse)
    return _taken(x, index)


def _taken(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(-1, index.expand(x.shape[:-2] + index.shape))


class _Rearranged(torch.autograd.Function):
    """No channel but the last, which is 0, is taken twice: the gradient is taken where others would add."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(index, inverse)
        return _taken(x, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        return rearranged(gradient, inverse, index), None, None

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

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import HEAD_DIM
from ..errors import ConfigError
from .explicit_attention import explicit_attention

KERNELS = ("auto", "fused", "explicit")
LONGEST_EXPLICIT = 401
"""Up to this many tokens, 20 x 20 patches, the explicit kernel is the faster one on a CPU; see
benchmarks/RESULTS.md.
"""


class TokenGrid(nn.Module):
    """Index and one-hot tables of a grid of patches, built once and shared by all layers of a network.

    The tables are buffers, so they move with the module, and not part of the state dict.

    Args:
        grid_size: patches per column and per row.
        max_relative_position: L, the offset beyond which a patch counts as this far.
    """

    row_offsets: Tensor  # (2 rows - 1,): the learned table's row for each offset, from the most negative
    column_offsets: Tensor  # (2 columns - 1,)
    row_index: Tensor  # (rows, rows): where the offset from query row i to key row j is among those
    column_index: Tensor  # (columns, columns): the same, counted on after the rows
    one_hot: Tensor  # (1 + patches, width): row | column | class token | padding

    def __init__(self, grid_size: tuple[int, int], max_relative_position: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns = grid_size
        tables = {
            "row_offsets": _offsets(rows, max_relative_position),
            "column_offsets": _offsets(columns, max_relative_position),
            "row_index": _offset_index(rows),
            "column_index": _offset_index(columns) + 2 * rows - 1,
            "one_hot": _one_hot(rows, columns),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)


def _offsets(side: int, maximum: int) -> Tensor:
    return torch.arange(1 - side, side).clamp(-maximum, maximum) + maximum + 1


def _offset_index(side: int) -> Tensor:
    position = torch.arange(side)
    return position[None, :] - position[:, None] + side - 1


def _one_hot(rows: int, columns: int) -> Tensor:
    used = rows + columns + 1
    table = torch.zeros(1 + rows * columns, used + -(HEAD_DIM + used) % 8)
    patch = torch.arange(rows * columns)
    table[1 + patch, patch // columns] = 1
    table[1 + patch, rows + patch % columns] = 1
    table[0, rows + columns] = 1
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

    def forward(self, grid: TokenGrid) -> Tensor:
        """A vector for each offset that the grid has: 2 rows - 1 vertical ones, 2 columns - 1 horizontal
        ones, each from the most negative, and the class token's, (2 rows + 2 columns - 1, 64).
        """
        return offset_table(self.embeddings_table_v, self.embeddings_table_h, grid)


def offset_table(vertical: Tensor, horizontal: Tensor, grid: TokenGrid) -> Tensor:
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
        name: 'fused', 'explicit' (CPU, float32 or float64, first derivatives only), or 'auto'.

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


def relative_attention(qkv: Tensor, key_table: Tensor, value_table: Tensor, grid: TokenGrid) -> Tensor:
    """Attention with 2-D relative position on keys and values, by the kernel that suits device and size.

    Args:
        qkv: queries, keys and values, (batch, 1 + patches, 3, heads, 64), the class token first, patches row
            by row.
        key_table, value_table: what `RelativePosition2D` gives for the grid.
        grid: the grid of the patches.

    Returns:
        The heads' outputs side by side, (batch, 1 + patches, heads x 64).
    """
    explicit = _kernel == "explicit" or (_kernel == "auto" and _explicit_is_best(qkv))
    if explicit:
        return explicit_attention(qkv, key_table, value_table, grid.one_hot, (grid.rows, grid.columns))
    return fused_attention(qkv, key_table, value_table, grid)


def _explicit_is_best(qkv: Tensor) -> bool:
    """Measured, on the CPU; what traces or transforms the network sees the differentiable form."""
    return (
        qkv.device.type == "cpu"
        and qkv.dtype in (torch.float32, torch.float64)
        and qkv.shape[1] <= LONGEST_EXPLICIT
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
    )


def fused_attention(qkv: Tensor, key_table: Tensor, value_table: Tensor, grid: TokenGrid) -> Tensor:
    """`relative_attention` in one call of `scaled_dot_product_attention`."""
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, tokens, 64)
    one_hot = grid.one_hot.to(qkv.dtype).expand(*query.shape[:2], -1, -1)
    positions = _query_channels(query, key_table.to(qkv.dtype), grid, width=one_hot.shape[-1])
    attended = F.scaled_dot_product_attention(
        torch.cat((query, positions), dim=-1),
        torch.cat((key, one_hot), dim=-1),
        torch.cat((value, one_hot), dim=-1),
        scale=HEAD_DIM**-0.5,  # the default would see the widened channels
    )
    mass = attended[..., HEAD_DIM:]
    result = attended[..., :HEAD_DIM] + _value_term(mass, value_table.to(mass.dtype), grid)
    return result.transpose(1, 2).flatten(2)


def _query_channels(query: Tensor, table: Tensor, grid: TokenGrid, width: int) -> Tensor:
    """Each patch's products with its own part of the table, (batch, heads, 1 + patches, width).

    The class token's channels stay zero: its term is the same for every key, and softmax does not see a
    constant.
    """
    patches = query[:, :, 1:]
    grid_query = patches.unflatten(2, (grid.rows, grid.columns))
    by_row = torch.einsum("bhrcd,rpd->bhrcp", grid_query, table[grid.row_index]).flatten(2, 3)
    by_column = torch.einsum("bhrcd,cpd->bhrcp", grid_query, table[grid.column_index]).flatten(2, 3)
    by_class = (patches @ table[-1]).unsqueeze(-1)
    channels = torch.cat((by_row, by_column, by_class), dim=-1)
    return F.pad(channels, (0, width - channels.shape[-1], 1, 0))


def _value_term(mass: Tensor, table: Tensor, grid: TokenGrid) -> Tensor:
    """The values' term from the attention mass per row, column and class token, (batch, heads, 1 + patches,
    64).
    """
    rows, columns = grid.rows, grid.columns
    on_class = mass[..., rows + columns, None] * table[-1]
    patches = mass[:, :, 1:].unflatten(2, (rows, columns))
    by_row = torch.einsum("bhrcp,rpd->bhrcd", patches[..., :rows], table[grid.row_index])
    by_column = torch.einsum(
        "bhrcp,cpd->bhrcd", patches[..., rows : rows + columns], table[grid.column_index]
    )
    of_patches = (by_row + by_column).flatten(2, 3) + on_class[:, :, 1:]
    # every pair of the class token's query is a pair with the class token: all of its mass meets one vector
    total = mass[:, :, :1, :rows].sum(-1, keepdim=True) * table[-1]
    return torch.cat((on_class[:, :, :1] + total, of_patches), dim=2)

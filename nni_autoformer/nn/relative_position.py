"""2-D relative position on keys and values as one attention call, without any N x N x 64 table.

For two patches i and j the published rule (paper section 3.2, after Shaw et al. 2018) adds to key and value
the vector

    r_ij = V[clip(row_j - row_i) + L + 1] + H[clip(col_j - col_i) + L + 1],      clip to -L .. L,

and V[0] + H[0] for a pair with the class token. q_i . r_ij only depends on j through j's row, column and
being the class token, so it is a dot product with one-hot vectors:

    query channels   q_i | q_i . V[row offsets]  | q_i . H[column offsets] | q_i . (V[0] + H[0])
    key channels     k_j | one-hot of j's row    | one-hot of j's column   | 1 for the class token
    value channels   v_j | the same one-hot channels

One `scaled_dot_product_attention` over these channels has the position term in its logits, and its extra
output channels are the attention mass per row, per column and on the class token, which one small product
turns into the values' term. The width is a multiple of 8 and there is no mask, so fused kernels take it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import HEAD_DIM


class TokenGrid(nn.Module):
    """Index and one-hot tables of a grid of patches, built once and shared by all layers of a network.

    The tables are buffers, so they move with the module, and not part of the state dict.

    Args:
        grid_size: patches per column and per row.
        max_relative_position: L, the offset beyond which a patch counts as this far.
    """

    row_index: Tensor  # (rows, rows): table row for query row i and key row j
    column_index: Tensor  # (columns, columns)
    one_hot: Tensor  # (1 + patches, width): row | column | class token | padding

    def __init__(self, grid_size: tuple[int, int], max_relative_position: int) -> None:
        super().__init__()
        self.rows, self.columns = grid_size
        row_index = _offset_index(self.rows, max_relative_position)
        self.register_buffer("row_index", row_index, persistent=False)
        column_index = _offset_index(self.columns, max_relative_position)
        self.register_buffer("column_index", column_index, persistent=False)
        self.register_buffer("one_hot", _one_hot(self.rows, self.columns), persistent=False)


def _offset_index(side: int, maximum: int) -> Tensor:
    position = torch.arange(side)
    return (position[None, :] - position[:, None]).clamp(-maximum, maximum) + maximum + 1


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

    def forward(self, grid: TokenGrid) -> tuple[Tensor, Tensor, Tensor]:
        """The tables as a grid needs them: (rows, rows, 64), (columns, columns, 64), and (64,) for the class
        token.
        """
        vertical, horizontal = self.embeddings_table_v, self.embeddings_table_h
        return vertical[grid.row_index], horizontal[grid.column_index], vertical[0] + horizontal[0]


Tables = tuple[Tensor, Tensor, Tensor]


def relative_attention(
    query: Tensor, key: Tensor, value: Tensor, key_tables: Tables, value_tables: Tables, grid: TokenGrid
) -> Tensor:
    """Attention with 2-D relative position on keys and values.

    Args:
        query, key, value: (batch, heads, 1 + patches, 64), the class token first, patches row by row.
        key_tables, value_tables: what `RelativePosition2D` gives for the grid.
        grid: the grid of the patches.

    Returns:
        (batch, heads, 1 + patches, 64).
    """
    one_hot = grid.one_hot.to(query.dtype).expand(*query.shape[:2], -1, -1)
    positions = _query_channels(query, key_tables, grid, width=one_hot.shape[-1])
    attended = F.scaled_dot_product_attention(
        torch.cat((query, positions), dim=-1),
        torch.cat((key, one_hot), dim=-1),
        torch.cat((value, one_hot), dim=-1),
        scale=HEAD_DIM**-0.5,  # the default would see the widened channels
    )
    return attended[..., :HEAD_DIM] + _value_term(attended[..., HEAD_DIM:], value_tables, grid)


def _query_channels(query: Tensor, tables: Tables, grid: TokenGrid, width: int) -> Tensor:
    """Each patch's products with its own tables, (batch, heads, 1 + patches, width).

    The class token's channels stay zero: its term is the same for every key, and softmax does not see a
    constant.
    """
    vertical, horizontal, class_token = (table.to(query.dtype) for table in tables)
    patches = query[:, :, 1:]
    grid_query = patches.unflatten(2, (grid.rows, grid.columns))
    by_row = torch.einsum("bhrcd,rpd->bhrcp", grid_query, vertical).flatten(2, 3)
    by_column = torch.einsum("bhrcd,cpd->bhrcp", grid_query, horizontal).flatten(2, 3)
    by_class = (patches @ class_token).unsqueeze(-1)
    channels = torch.cat((by_row, by_column, by_class), dim=-1)
    return F.pad(channels, (0, width - channels.shape[-1], 1, 0))


def _value_term(mass: Tensor, tables: Tables, grid: TokenGrid) -> Tensor:
    """The values' term from the attention mass per row, column and class token, (batch, heads, 1 + patches,
    64).
    """
    vertical, horizontal, class_token = (table.to(mass.dtype) for table in tables)
    rows, columns = grid.rows, grid.columns
    on_class = mass[..., rows + columns, None] * class_token
    patches = mass[:, :, 1:].unflatten(2, (rows, columns))
    by_row = torch.einsum("bhrcp,rpd->bhrcd", patches[..., :rows], vertical)
    by_column = torch.einsum("bhrcp,cpd->bhrcd", patches[..., rows : rows + columns], horizontal)
    of_patches = (by_row + by_column).flatten(2, 3) + on_class[:, :, 1:]
    # every pair of the class token's query is a pair with the class token: all of its mass meets one vector
    total = mass[:, :, :1, :rows].sum(-1, keepdim=True) * class_token
    return torch.cat((on_class[:, :, :1] + total, of_patches), dim=2)

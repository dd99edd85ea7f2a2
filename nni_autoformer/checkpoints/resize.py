"""A trained network at another image size: position embedding and relative tables resampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from ..errors import ConfigError
from ..space import ModelConfig

WAYS = ("interpolate", "clip")
"""What may become of the relative tables: 'interpolate' stretches them with the grid, 'clip' leaves them, and
offsets beyond them share the farthest row.
"""


def require_way(way: str) -> None:
    """Check that a way is one of `WAYS`.

    Raises:
        ConfigError: it is not.
    """
    if way not in WAYS:
        raise ConfigError(f"relative_position is '{way}'; it should be {' or '.join(WAYS)}.")


def resized(
    tensors: Mapping[str, Tensor], model: ModelConfig, img_size: tuple[int, int], way: str = "interpolate"
) -> tuple[dict[str, Tensor], ModelConfig]:
    """The tensors of a subnet made to fit another image size, and the network around them; a size that is not
    new changes no bit.

    Args:
        tensors: state dict in timm's layout.
        model: the network that they are of.
        img_size: height and width, in whole patches.
        way: one of `WAYS`.

    Raises:
        ConfigError: `way` is none of them.
    """
    require_way(way)
    result, after = dict(tensors), replace(model, img_size=img_size)
    if after.grid_size == model.grid_size:
        return result, after
    if model.absolute_position:
        result["pos_embed"] = resample_abs_pos_embed(
            result["pos_embed"], new_size=list(after.grid_size), old_size=list(model.grid_size)
        )
    if model.relative_position and way == "interpolate":
        tables = {name: tensor for name, tensor in result.items() if "embeddings_table" in name}
        tables, maximum = stretched(tables, model.max_relative_position, model.grid_size, after.grid_size)
        result |= tables
        after = replace(after, max_relative_position=maximum)
    return result, after


def stretched(
    tables: Mapping[str, Tensor], maximum: int, before: tuple[int, int], after: tuple[int, int]
) -> tuple[dict[str, Tensor], int]:
    """Relative tables stretched from one grid to another, and their new largest offset.

    Args:
        tables: tensors by names that end in 'embeddings_table_v' or 'embeddings_table_h'.
        maximum: their largest offset.
        before, after: rows and columns of the grids.
    """
    largest = stretched_maximum(maximum, before, after)
    steps = {end: old / new for end, old, new in zip("vh", before, after)}
    return {name: resample_table(table, largest, steps[name[-1]]) for name, table in tables.items()}, largest


def stretched_maximum(maximum: int, before: tuple[int, int], after: tuple[int, int]) -> int:
    """The largest offset of tables that are stretched from one grid to another; the larger axis decides."""
    return max(1, round(max(maximum * new / old for old, new in zip(before, after))))


def resample_table(table: Tensor, maximum: int, step: float) -> Tensor:
    """Stretch a relative-position table.

    Args:
        table: (2L + 2, 64); row 0 is for pairs with the class token.
        maximum: the new L.
        step: how many old offsets one new offset is.

    Returns:
        (2 maximum + 2, 64): row 0 as it is, the others linear between the nearest old offsets.
    """
    old = (len(table) - 2) // 2
    if maximum == old and step == 1:
        return table.clone()
    offsets = torch.arange(-maximum, maximum + 1, dtype=torch.float64, device=table.device) * step
    place = (offsets.clamp(-old, old) + old).to(torch.float64)
    low = place.floor().long().clamp(max=2 * old - 1)
    share = (place - low).to(table.dtype).unsqueeze(1)
    rows = table[1:]
    return torch.cat((table[:1], torch.lerp(rows[low], rows[low + 1], share)))

"""What a checkpoint is, as rows of a table for people."""

from __future__ import annotations

import json

from ..complexity import COSTS
from .header import Header

LONGEST_VALUE = 200
"""Characters that are shown of a value; a list of 1,000 classes is cut."""


def describe(header: Header) -> list[tuple[str, str]]:
    """Name and value of everything that a header says.

    Args:
        header: header of a checkpoint.
    """
    space = header.space
    low, high = COSTS["params"].range(space)
    return [
        ("kind", header.kind),
        ("space", f"{space.name}, {space.size:,} subnets"),
        ("parameters", f"{low:,}" if low == high else f"{low:,} to {high:,}"),
        *((key, str(list(getattr(space, key)))) for key in ("embed_dim", "depth", "num_heads", "mlp_ratio")),
        ("model", json.dumps(space.model.to_dict())),
        *((name, str(architecture)) for name, architecture in space.architectures.items()),
        *((key, _short(json.dumps(value))) for key, value in header.run.items()),
        *((f"{package} version", version) for package, version in header.versions.items()),
    ]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}…"

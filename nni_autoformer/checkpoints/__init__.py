"""Checkpoints: what a file says of itself, the layouts of tensors, other image sizes, reading and writing.

The names are resolved when they are first used: a tuner reads a header without torch.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .checkpoint import (
        load_subnet,
        load_supernet,
        one_point_space,
        read_header,
        require_space,
        save_subnet,
        save_supernet,
    )
    from .header import Header, own_header

_HOMES = {
    "Header": "header",
    "load_subnet": "checkpoint",
    "load_supernet": "checkpoint",
    "one_point_space": "checkpoint",
    "own_header": "header",
    "read_header": "checkpoint",
    "require_space": "checkpoint",
    "save_subnet": "checkpoint",
    "save_supernet": "checkpoint",
}

__all__ = [
    "Header",
    "load_subnet",
    "load_supernet",
    "one_point_space",
    "own_header",
    "read_header",
    "require_space",
    "save_subnet",
    "save_supernet",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)

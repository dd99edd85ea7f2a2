"""Checkpoints: what a file says of itself, the layouts of tensors, other image sizes, reading and writing.

The names are resolved when they are first used: a tuner reads a header without torch.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, load_subnet, load_supernet, read_header, require_space
    from .header import Header, one_point_space, own_header
    from .run_facts import HeldOut, RunFacts
    from .writing import save_subnet, save_supernet

_HOMES = {
    "Checkpoint": "checkpoint",
    "Header": "header",
    "HeldOut": "run_facts",
    "RunFacts": "run_facts",
    "load_subnet": "checkpoint",
    "load_supernet": "checkpoint",
    "one_point_space": "header",
    "own_header": "header",
    "read_header": "checkpoint",
    "require_space": "checkpoint",
    "save_subnet": "writing",
    "save_supernet": "writing",
}

__all__ = [
    "Checkpoint",
    "Header",
    "HeldOut",
    "RunFacts",
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

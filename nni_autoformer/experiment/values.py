"""NNI's messages as values: what they say of code is neither imported nor run."""

from __future__ import annotations

import json
from typing import Any

MARKS = ("__symbol__", "__nni_type__", "__instance_type__", "__nni_obj__", "__enum__")
"""Keys by which NNI's JSON names a function, a class or a pickled object."""


def load_values(text: str) -> Any:
    """Read JSON as `nni.load` does, without its hooks that import, call and unpickle what the text names; a
    mapping that names code stays a mapping.
    """
    return json.loads(text)


def code_in(value: Any) -> str | None:
    """The key by which a value names code, if it does anywhere inside; None if it does not."""
    waiting = [value]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, dict):
            if found := next((mark for mark in MARKS if mark in entry), None):
                return found
            waiting += entry.values()
        elif isinstance(entry, (list, tuple)):
            waiting += entry
    return None

"""What a foreign layout has no place for, in a JSON file beside it: `FILE.json` for the file FILE.

The published layout and the hub's hold tensors alone. Without the mean, the crop and the classes the network
that comes back is tested on other images.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_json
from .header import HEADER_KEY, Header, header_from

log = logging.getLogger("nni_autoformer")

LARGEST_FILE = 10_000_000
"""Bytes; a longer one is not ours."""


def place_beside(path: Path) -> Path:
    """Where the description of a file stands."""
    return path.with_name(f"{path.name}.json")


def write_beside(path: Path, content: Path, header: Mapping[str, Any]) -> None:
    """Write the description of a file.

    Args:
        path: file that is described.
        content: place where its bytes are already.
        header: header's JSON, as in our own files.
    """
    write_json(place_beside(path), {HEADER_KEY: dict(header), "sha256": _sha256(content)})


def header_beside(path: Path) -> Header | None:
    """The header that describes a file, if one stands beside it and is of these very bytes.

    Raises:
        ConfigError: the description is malformed.
    """
    place = place_beside(path)
    try:
        if not place.is_file() or place.stat().st_size > LARGEST_FILE:
            return None
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or HEADER_KEY not in content:
        return None  # somebody else's file of that name
    if content.get("sha256") != _sha256(path):
        log.warning(f"{place}: it describes another file than {path} (other bytes), and is not used.")
        return None
    return header_from(content[HEADER_KEY], str(place))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()

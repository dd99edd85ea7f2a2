"""What a checkpoint file says of itself; read without torch, because a tuner has to start within seconds."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..space import SearchSpace

HEADER_KEY = "nni_autoformer"
FORMAT = 1
LONGEST = 100_000_000
"""A safetensors header is never longer, in bytes; a larger number is another kind of file."""


@dataclass
class Header:
    """What a checkpoint file says of itself.

    Attributes:
        kind: 'supernet' or 'subnet'; for other people's files as `layouts.recognise` says.
        space: the search space; its number of classes is the data's.
        run: what the training knew: data set, classes, preprocessing, recipe, epoch, metrics, selection.
        versions: of this package and of torch, when the file was written.
    """

    kind: str
    space: SearchSpace
    run: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def own_header(path: str | Path) -> Header | None:
    """The header of a file that this package wrote; None for any other file.

    Raises:
        ConfigError: the file is missing, or its header is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such checkpoint.")
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        text = file.read(length) if 2 <= length <= LONGEST else b""
    try:
        metadata = json.loads(text).get("__metadata__", {})
    except (ValueError, AttributeError):
        return None
    return parse_header(path, metadata[HEADER_KEY]) if HEADER_KEY in metadata else None


def parse_header(path: Path, text: str) -> Header:
    """Read the JSON that stands in a file's header.

    Raises:
        ConfigError: it is damaged, or of a format that this version does not know.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ConfigError(
                f"{path}: the file has format {content['format']}; this version reads format {FORMAT}."
            )
        space = SearchSpace.from_dict(content["space"], f"{path}: space")
        return Header(content["kind"], space, content["run"], content["versions"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: the header is damaged ({type(error).__name__}: {error}).") from None

"""What stands beside decoded images: which they are, what they were decoded from, and checksums."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import write_json
from .contents import Contents, look_at

if TYPE_CHECKING:
    from .source import ImageSource

FACTS_FILE = "facts.json"

_PART = 64 << 20
"""Bytes of which one checksum is kept; the parts of an array are checked side by side."""


@dataclass(frozen=True)
class StoredFacts:
    """What a file beside decoded images says of them.

    Attributes:
        identifiers: names of the images.
        contents: contents of the source, taken strictly, as `Contents.to_dict` gives them.
        root: folder that the names are paths below; None where they are not the files' names.
        watched: what else a look at the file system is about: files, and the folder of the class folders.
        taken: when that look was taken, in nanoseconds since 1970.
        look: digest of what the file system says, see `contents.look_at`.
        checksums: checksums of the parts of each array.
    """

    identifiers: list[str]
    contents: dict[str, Any]
    root: str | None
    watched: list[str]
    taken: int
    look: str
    checksums: Mapping[str, list[int]]

    @classmethod
    def of(cls, source: ImageSource) -> StoredFacts:
        """What is known of images that are not decoded yet; a change while they are will be seen later."""
        taken = time.time_ns()
        files, root = source.used_files(), getattr(source.files, "root", None)
        watched = [*(files if root is None else ()), *source.watched]
        contents = Contents.of(source, taken, strict=True)
        facts = cls(list(source.identifiers), contents.to_dict(), root, watched, taken, "", {})
        return replace(facts, look=facts.seen())

    @classmethod
    def read(cls, place: Path) -> StoredFacts:
        """Read the file in a folder.

        Raises:
            OSError, ValueError, KeyError, TypeError: it is missing, damaged, or something else.
        """
        content = json.loads((place / FACTS_FILE).read_text(encoding="utf-8"))
        if content["checksum"] != _checksum(content["facts"]):
            raise ValueError("the checksum is another one")
        return cls(**content["facts"])

    def write(self, place: Path) -> None:
        """Write the file in a folder atomically."""
        content = dict(vars(self))
        write_json(place / FACTS_FILE, {"checksum": _checksum(content), "facts": content})

    def seen(self) -> str:
        """The look at the file system, taken anew."""
        files = [] if self.root is None else [os.path.join(self.root, name) for name in self.identifiers]
        return look_at([*files, *self.watched], self.taken)

    def of_contents(self, source: ImageSource) -> bool:
        """Whether a source holds what these images were decoded from."""
        return not Contents.from_dict(self.contents, FACTS_FILE).changes(source, strict=True)

    def damaged(self, arrays: Mapping[str, np.ndarray]) -> str | None:
        """The name of an array that is not as it was written; None if all are."""
        wrong = (name for name, array in arrays.items() if self.checksums[name] != checksums(array))
        return next(wrong, None)


def _checksum(facts: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def checksums(array: np.ndarray) -> list[int]:
    """CRC-32 of an array's parts and first of its shape and type; 100 MB take a twentieth of a second."""
    content = array.reshape(-1).view(np.uint8).data
    parts = [content[start : start + _PART] for start in range(0, len(content), _PART)]
    with ThreadPoolExecutor() as pool:
        return [zlib.crc32(f"{array.dtype} {array.shape}".encode()), *pool.map(zlib.crc32, parts)]

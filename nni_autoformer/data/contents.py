"""What a set of images holds, as a few digests that a run or a cache keeps and compares later.

A file counts as unchanged while its size and its time of change are the same. The time cannot tell where it
is not older by `COARSE` than the moment of looking (a second change may fall into the same tick of the file
system's clock), where it lies in the future, and where it is one of the constants that archives and images of
disks put in its place (up to 1980): then the file's content is part of the digest. In sets of up to `SMALL`
bytes the content of every file is, and the times are not, so that a copy of them is the same set.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..files import open_regular
from .disk import is_hidden

if TYPE_CHECKING:
    import numpy as np

    from .source import ImageSource

COARSE = 2_000_000_000
"""Nanoseconds that the coarsest clock of a file system (FAT's) goes on at once."""

CONSTANT = 315_705_600_000_000_000
"""Times up to the second of January 1980, in nanoseconds, stand for no time at all."""

SMALL = 64 << 20
"""Bytes up to which a set's files are all read, which takes less than a second."""

_BLOCK = 4096
"""Bytes that a file counts at least: opening a smaller one takes longer than reading it."""

_AT_ONCE = 1 << 20

_PARTS = 1024
"""Parts of a list of files whose states are told apart."""

_WORDS = {
    "images": "the number of images",
    "classes": "the list of classes",
    "names": "which images there are, or their order",
    "labels": "the classes of images",
    "pixels": "the content of images",
}


@dataclass(frozen=True)
class Contents:
    """What a set of images holds. Two are compared by `changes`, which needs the later set itself.

    Attributes:
        images: number of images.
        classes: digest of the names of the classes, in order.
        names: digest of the images' names, in order.
        labels: digest of the images' classes.
        pixels: digest of the files, or of the array, that the images are in; empty if neither is known.
        taken: when it was taken, in nanoseconds since 1970; it decides which times could tell.
    """

    images: int
    classes: str
    names: str
    labels: str
    pixels: str
    taken: int

    @classmethod
    def of(
        cls,
        source: ImageSource,
        taken: int | None = None,
        strict: bool = False,
        states: FileStates | None = None,
    ) -> Contents:
        """Take a set's contents.

        Args:
            source: the images.
            taken: time of the contents that these will be compared with; None for now.
            strict: whether to look in large sets also at the time at which a file's state last changed, which
                a program cannot set back as it can the time of change: a copied set is then another one.
            states: gets what the file system says beside of a large set's files.
        """
        taken = time.time_ns() if taken is None else taken
        return cls(
            images=len(source),
            classes=_digest(source.classes),
            names=_digest(source.identifiers),
            labels=hashlib.sha256(source.targets.astype("<i8").tobytes()).hexdigest(),
            pixels=_pixels(source, taken, strict, states),
            taken=taken,
        )

    @classmethod
    def from_dict(cls, content: Any, where: str) -> Contents:
        """Read what `to_dict` gives.

        Args:
            content: value as JSON has it.
            where: file and key, for the error message.

        Raises:
            ConfigError: it is something else.
        """
        kinds = {field.name: int if field.type == "int" else str for field in fields(cls)}
        if not isinstance(content, Mapping) or set(content) != set(kinds):
            raise ConfigError(f"{where}: this does not describe a set of images.")
        if wrong := next((name for name, kind in kinds.items() if type(content[name]) is not kind), None):
            value = repr(content[wrong])[:50]
            raise ConfigError(f"{where}: {wrong} is {value}, which describes no set of images.")
        return cls(**content)

    def to_dict(self) -> dict[str, Any]:
        """The attributes, as JSON values."""
        return asdict(self)

    def changes(
        self, source: ImageSource, strict: bool = False, states: FileStates | None = None
    ) -> list[str]:
        """What is different in a set as it is now, in words; empty where nothing is.

        Args:
            source: the images now.
            strict: whether these contents were taken so.
            states: as for `of`.
        """
        now = Contents.of(source, self.taken, strict, states)
        return [text for name, text in _WORDS.items() if getattr(self, name) != getattr(now, name)]


class FileStates:
    """What a program cannot set back as it can a file's time: at which place of the disk it is, and when that
    last changed. Of a long list of files, digests of its parts; empty for a small set, whose files are read.

    Attributes:
        parts: a digest per part, in order.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []

    def take(self, entries: Iterable[os.stat_result | None], count: int) -> Iterator[os.stat_result | None]:
        """Go through the files' states, of which there are so many, and give them on."""
        size, found = self.size_of(count), hashlib.sha256()
        for number, entry in enumerate(entries, start=1):
            found.update(f"{entry.st_ino} {entry.st_ctime_ns}\n".encode() if entry else b"missing\n")
            if number % size == 0 or number == count:
                self.parts.append(found.hexdigest()[:16])
                found = hashlib.sha256()
            yield entry

    def touched(self, before: Sequence[str], files: Sequence[str]) -> str:
        """Where files were written or replaced, in words; empty where none was, and where all were, as in a
        set that was copied or moved.

        Args:
            before: the parts of earlier states of the same files.
            files: names of the files.
        """
        other = [i for i, pair in enumerate(zip(before, self.parts)) if pair[0] != pair[1]]
        if not other or len(other) == len(self.parts):
            return ""
        size = self.size_of(len(files))
        first, last = files[other[0] * size], files[min(len(files), (other[0] + 1) * size) - 1]
        more = f", and in {len(other) - 1:,} more places" if len(other) > 1 else ""
        return f"{first}{more}" if first == last else f"among those from {first} to {last}{more}"

    @staticmethod
    def size_of(count: int) -> int:
        """Files of a part."""
        return max(1, -(-count // _PARTS))


def _pixels(source: ImageSource, taken: int, strict: bool, states: FileStates | None) -> str:
    if source.array is not None:
        return _array_digest(source.array, source.indices)
    files = source.used_files() or source.watched
    return stamp_files(files, taken, strict, states) if files else ""


def _array_digest(array: np.ndarray, indices: np.ndarray) -> str:
    found = hashlib.sha256(f"{array.dtype} {array.shape[1:]}".encode())
    for start in range(0, len(indices), 1024):
        found.update(array[indices[start : start + 1024]].tobytes())
    return found.hexdigest()


def stamp_files(
    paths: Sequence[str], taken: int, strict: bool = False, states: FileStates | None = None
) -> str:
    """One digest of files in their order, by the rule that this module's docstring gives.

    Args:
        paths: the files; that one is missing counts too.
        taken, strict, states: how to look, see `Contents.of`.
    """
    if _is_small(paths):
        return _digest(_content(path) for path in paths)
    entries: Iterable[os.stat_result | None] = map(_stat, paths)
    if states is not None:
        entries = states.take(entries, len(paths))
    return _digest(_line(entry, path, taken, strict) for path, entry in zip(paths, entries))


def _is_small(paths: Sequence[str]) -> bool:
    total = 0
    for entry in map(_stat, paths):
        total += max(_BLOCK, entry.st_size) if entry else 0
        if total > SMALL:
            return False
    return True


def look_at(paths: Iterable[str], taken: int) -> str:
    """One digest of what the file system says of files, the strict way, and of which names folders hold.

    Args:
        paths: files and folders; that one is missing counts too.
        taken: time of the comparison, see `Contents.of`.
    """
    return _digest(_seen(path, taken) for path in paths)


def _seen(path: str, taken: int) -> str:
    entry = _stat(path)
    if entry is not None and stat.S_ISDIR(entry.st_mode):
        return _names(path)
    return _line(entry, path, taken, strict=True)


def _digest(lines: Iterable[str]) -> str:
    """As `files.digest`, of a million lines that are never all there."""
    found = hashlib.sha256()
    for line in lines:
        found.update(f"{line}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _line(entry: os.stat_result | None, path: str, taken: int, strict: bool) -> str:
    if entry is None:
        return "missing"
    times = [entry.st_mtime_ns, entry.st_ctime_ns] if strict else [entry.st_mtime_ns]
    cannot_tell = max(times) > taken - COARSE or entry.st_mtime_ns <= CONSTANT
    return f"{entry.st_size} {times} {_content(path) if cannot_tell else ''}"


def _names(folder: str) -> str:
    try:
        return _digest(sorted(name for name in os.listdir(folder) if not is_hidden(name)))
    except OSError:
        return "missing"


def _content(path: str) -> str:
    found = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while part := file.read(_AT_ONCE):
                found.update(part)
    except OSError:
        return "unreadable"
    return found.hexdigest()

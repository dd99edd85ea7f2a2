"""Folders and files as people have them: what systems and tools leave there is passed over, links that lead
back are not followed, and what is no regular file is never waited for.
"""

from __future__ import annotations

import os
from collections import Counter

from ..errors import ConfigError
from .formats import image_suffixes, suffix_of

HIDDEN = "hidden or system"
NO_SUFFIX = "without a suffix"
SPECIAL = "that are no regular files"
LEADING_BACK = "links that lead back"
OUTSIDE = "outside of the class folders"
"""Kinds of what is left out; the others are suffixes."""

MOST_LINKED = 10_000
"""How many folders a class may reach through links."""

_LONGEST_SUFFIX = 12

_LEFT_BY_SYSTEMS = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "__macosx",
        "__pycache__",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    }
)

Identity = tuple[int, int]
"""Device and number of a folder."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden (its name starts with a dot), or one that an operating system or a
    tool leaves in other people's folders.
    """
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def kind_of(name: str) -> str:
    """The kind by which a file that is no image is counted: its suffix."""
    suffix = suffix_of(name)
    return suffix if 1 < len(suffix) <= _LONGEST_SUFFIX else NO_SUFFIX


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; not for a link that leads to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a pipe, a socket or a device, or a link to one; not for a broken link."""
    try:
        return not entry.is_file() and os.path.exists(entry.path)
    except OSError:
        return False


def identity(path: str) -> Identity:
    """What a folder is, whichever way leads to it."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def folders_above(path: str) -> set[Identity]:
    """A folder and all that it lies in."""
    real = os.path.realpath(path)
    found = {identity(real)}
    while (above := os.path.dirname(real)) != real:
        real = above
        found.add(identity(real))
    return found


def class_folders(split: str, left_out: Counter[str]) -> list[str]:
    """The names of a split's class folders, sorted.

    Args:
        split: the folder.
        left_out: counts what else lies there.
    """
    above, names = folders_above(split), []
    with os.scandir(split) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                left_out[HIDDEN] += 1
            elif not is_folder(entry):
                left_out[OUTSIDE] += 1
            elif entry.is_symlink() and identity(entry.path) in above:
                left_out[LEADING_BACK] += 1
            else:
                names.append(entry.name)
    return sorted(names)


def images_below(
    split: str, label: str, left_out: Counter[str], above: frozenset[Identity] = frozenset()
) -> list[str]:
    """The image files of a class as LABEL/…/NAME, in the order of torchvision's `ImageFolder`: folders in it
    and links are followed. A broken link counts as an image, which cannot be read.

    Args:
        split: the folder that the class folder lies in.
        label: name of the class folder.
        left_out: counts by kind what is no image.
        above: the split and what it lies in, see `folders_above`.

    Raises:
        ConfigError: links lead to endlessly many folders.
        OSError: a folder cannot be listed.
    """
    suffixes, found, linked = image_suffixes(), [], 0
    waiting = [(label, above, False)]
    while waiting:
        place, above, through_link = waiting.pop()
        linked += through_link
        if linked > MOST_LINKED:
            raise ConfigError(f"{split}/{label}: links lead to more than {MOST_LINKED:,} folders in it.")
        above, names = above | {identity(f"{split}/{place}")}, []
        with os.scandir(f"{split}/{place}") as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    left_out[HIDDEN] += 1
                elif is_folder(entry):
                    link = entry.is_symlink()
                    if link and identity(entry.path) in above:
                        left_out[LEADING_BACK] += 1
                    else:
                        waiting.append((f"{place}/{entry.name}", above, through_link or link))
                elif not entry.name.lower().endswith(suffixes):
                    left_out[kind_of(entry.name)] += 1
                elif is_special(entry):
                    left_out[SPECIAL] += 1
                else:
                    names.append(entry.name)
        found.append((place, sorted(names)))
    return [f"{place}/{name}" for place, names in sorted(found) for name in names]


def process_lives(process: int) -> bool:
    """Whether a process of this machine has a number; where that cannot be asked, it may."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True

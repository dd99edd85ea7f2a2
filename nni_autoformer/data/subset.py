"""The paper's selection set as a folder of its own: links to training images, or copies."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

from ..errors import ConfigError
from .disk import process_lives
from .source import ImageSource

LIST_FILE = "selection.txt"


def write_subset(source: ImageSource, root: Path, folder: Path, copy: bool) -> None:
    """Make a folder CLASS/IMAGE of a source's images; whole, or not at all.

    Args:
        source: images that are files of their own.
        root: folder of the data set, which the identifiers start at.
        folder: must not exist yet. Its links are relative if it lies within the root, so that both can be
            moved together.
        copy: copies in place of links.

    Raises:
        ConfigError: the folder exists, or cannot be written.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists already; give another --output, or delete it.")
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        if (number := left.name.split(".")[-2]).isdecimal() and not process_lives(int(number)):
            shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    place, within = folder.resolve(), root.resolve() in folder.resolve().parents
    try:
        for identifier in source.identifiers:
            below = Path(*Path(identifier).parts[1:])  # without the split
            image, goal = root.resolve() / identifier, temporary / below
            goal.parent.mkdir(parents=True, exist_ok=True)
            if copy:
                shutil.copy2(image, goal)
            else:
                goal.symlink_to(os.path.relpath(image, (place / below).parent) if within else image)
        os.replace(temporary, folder)
    except OSError as error:
        raise ConfigError(f"{folder}: the images cannot be put there ({error}).") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

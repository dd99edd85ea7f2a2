"""A folder of images: a folder per split, in it one per class, as torchvision's `ImageFolder` reads it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from .disk import HIDDEN, class_folders, folders_above, images_below, is_folder, is_hidden
from .source import DataSplits, ImageSource, named_source, statistics


def open_folder(root: Path, mode: str, test_only: bool = False) -> DataSplits:
    """`root/train/CLASS/…` and `root/val/CLASS/…`, or `root/test/CLASS/…` where there is no val/.

    Raises:
        ConfigError: a folder is missing, holds no class or an empty one, or the splits' classes differ.
    """
    if not root.is_dir():
        raise ConfigError(f"--data {root}: there is no such folder.")
    if not test_only and not (root / "train").is_dir():
        raise ConfigError(f"--data {root}: the folder train/ with a folder per class is missing.")
    held = next((name for name in ("val", "test") if (root / name).is_dir()), None)
    if held is None:
        raise ConfigError(f"--data {root}: a folder val/ or test/ with a folder per class is missing.")
    test = split_source(root, held, mode)
    train = test if test_only else split_source(root, "train", mode)
    _require_same_classes(root, train, test, held)
    names = (held if test_only else "train", held)
    with os.scandir(root) as entries:
        others = [entry.name for entry in entries if is_folder(entry) and not is_hidden(entry.name)]
    unused = [f"{name}/" for name in sorted(set(others) - set(names))]
    return DataSplits(train, test, *statistics(mode), names=(f"{names[0]}/", f"{held}/"), unused=unused)


def _require_same_classes(root: Path, train: ImageSource, test: ImageSource, held: str) -> None:
    if train.classes == test.classes:
        return
    here, there = set(train.classes) - set(test.classes), set(test.classes) - set(train.classes)
    parts = [
        f"only in {name}/: {', '.join(sorted(only)[:3])}{' …' if len(only) > 3 else ''}"
        for name, only in (("train", here), (held, there))
        if only
    ]
    raise ConfigError(f"--data {root}: train/ and {held}/ hold different classes ({'; '.join(parts)}).")


def split_source(root: Path, name: str, mode: str = "RGB") -> ImageSource:
    """The images of one split, in torchvision's order: nested folders and links are followed. What systems
    and tools leave behind is passed over, and counted as everything else that is no image.

    Raises:
        ConfigError: there is no class folder, or one without an image, or a folder cannot be listed.
    """
    folder, left_out = str(root / name), Counter[str]()
    try:
        classes = class_folders(folder, left_out)
        if not classes:
            raise ConfigError(f"--data {root}: {name}/ holds no class folders.")
        above = frozenset(folders_above(folder))
        images: list[str] = []
        counts, empty = [], []
        for label in classes:
            others = Counter[str]()
            found = images_below(folder, label, others, above)
            left_out.update(others)
            images += [f"{name}/{image}" for image in found]
            counts.append(len(found))
            if not found:
                empty.append(f"{label}{_instead(others)}")
    except OSError as error:
        raise ConfigError(f"--data {root}: {error.filename} cannot be listed ({error.strerror}).") from None
    if empty:
        more = f" and {len(empty) - 3:,} more" if len(empty) > 3 else ""
        raise ConfigError(
            f"--data {root}: {name}/ has classes without an image: {', '.join(empty[:3])}{more}."
        )
    targets = np.repeat(np.arange(len(classes)), counts)
    return named_source(root, images, targets, classes, mode, watched=(folder,), left_out=left_out)


def _instead(others: Counter[str]) -> str:
    found = [f"{count:,} {kind}" for kind, count in others.most_common() if kind != HIDDEN]
    return f" (it holds {', '.join(found[:3])})" if found else ""

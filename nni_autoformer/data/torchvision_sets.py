"""Data sets through torchvision's classes, by the table in `catalogue`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from .catalogue import TorchvisionSet
from .source import DataSplits, ImageSource, array_source, file_source, statistics


def open_torchvision(entry: TorchvisionSet, root: Path, mode: str, download: bool) -> DataSplits:
    """Open a data set of the table.

    Args:
        entry: entry of the table.
        root: folder that torchvision looks in.
        mode: Pillow's, of the images that are given.
        download: let torchvision fetch what is missing.

    Raises:
        ConfigError: it is not there, damaged, or cannot be fetched.
    """
    train = [_open(entry, root, arguments, download) for arguments in entry.train]
    test = _open(entry, root, entry.test, download)
    classes = _classes(test)
    mean, std = statistics(mode)
    if entry.mean is not None and entry.std is not None:
        mean, std = entry.mean * len(mean), entry.std * len(std)
    if different := set(_classes(train[0])) ^ set(classes):
        raise ConfigError(
            f"{entry.title} in {root / entry.folder} has different classes for training and testing: "
            f"{', '.join(sorted(different)[:3])}."
        )
    return DataSplits(
        _source(entry, root, "train", train, classes, mode),
        _source(entry, root, "test", [test], classes, mode),
        mean,
        std,
        names=("+".join(_split(arguments) for arguments in entry.train), _split(entry.test)),
    )


def _split(arguments: dict[str, Any]) -> str:
    (value,) = arguments.values()
    return value if isinstance(value, str) else ("train" if value else "test")


def _open(entry: TorchvisionSet, root: Path, arguments: dict[str, Any], download: bool) -> Any:
    from torchvision import datasets

    place = root / entry.folder
    if download and not entry.download:
        raise ConfigError(
            f"--download: {entry.title} cannot be fetched any more; put it into {place} as torchvision's "
            f"{entry.class_name} expects it."
        )
    if not download and not root.is_dir():  # before torchvision makes it
        raise ConfigError(f"--data {root}: there is no such folder.")
    try:
        return getattr(datasets, entry.class_name)(
            str(root), **arguments, **({"download": True} if download else {})
        )
    except (RuntimeError, FileNotFoundError) as error:
        if download:
            raise ConfigError(f"--download: {place} is still incomplete ({error}).") from None
        remedy = (
            "--download fetches it"
            if entry.download
            else f"it cannot be fetched any more, so put it there as torchvision's {entry.class_name} expects"
        )
        raise ConfigError(
            f"{entry.title} was looked for in {place} and is not there, or is damaged; {remedy}."
        ) from None
    except OSError as error:
        raise ConfigError(f"--download: {entry.title} could not be fetched into {root} ({error}).") from None


def _classes(data: Any) -> list[str]:
    return [str(name) for name in getattr(data, "all_categories", None) or data.classes]


def _source(
    entry: TorchvisionSet, root: Path, split: str, parts: list[Any], classes: list[str], mode: str
) -> ImageSource:
    watched = sorted(str(path) for pattern in entry.labels for path in root.glob(pattern))
    if entry.samples is None:
        images = np.concatenate([np.asarray(part.data) for part in parts])
        targets = np.concatenate([np.asarray(part.targets) for part in parts])
        return array_source(split, images, targets, classes, mode, watched)
    # sorted: iNaturalist's are in the order of the file system
    samples = sorted((str(path), target) for part in parts for path, target in entry.samples(part))
    return file_source(root, samples, classes, mode, watched)

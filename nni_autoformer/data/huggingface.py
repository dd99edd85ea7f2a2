"""Data sets of the Hugging Face Hub, or files that its `datasets` reads, through timm's dataset factory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .opening import open_image
from .source import DataSplits, ImageSource, numbered, statistics

TEST_SPLITS = ("validation", "val", "valid", "test", "eval")
"""Names of a split to test on, the first that there is."""


def open_huggingface(
    dataset: str, cache: Path | None, mode: str, download: bool, test_only: bool
) -> DataSplits:
    """Open 'hfds/NAME': the split 'train', and the first of `TEST_SPLITS`.

    The columns are the first of images and the first of class labels.

    Args:
        dataset: the name on the Hub, or a folder, after 'hfds/'.
        cache: folder that Hugging Face keeps it in; None for its own cache.
        mode: Pillow's, of the images that are given.
        download: let Hugging Face fetch what is not in the cache.
        test_only: leave the training images alone.

    Raises:
        ConfigError: the package `datasets` is missing, or the data is not there or has no such splits or
            columns.
    """
    try:
        import datasets
    except ImportError:
        raise ConfigError(
            f"--dataset {dataset} needs the package datasets, which is not installed: pip install datasets."
        ) from None
    from timm.data import create_dataset

    name, place = dataset.split("/", 1)[1], None if cache is None else str(cache)
    where = "its cache" if cache is None else str(cache)
    try:
        with _offline(not download):
            found = datasets.load_dataset(name, cache_dir=place)
            test = next((split for split in TEST_SPLITS if split in found), None)
            if test is None or "train" not in found:
                raise ConfigError(
                    f"--dataset {dataset}: the splits are {', '.join(found)}; needed are train and one of "
                    f"{', '.join(TEST_SPLITS)}."
                )
            columns = _columns(dataset, found[test].features, datasets)
            names = [test] if test_only else ["train", test]
            readers = [create_dataset(dataset, root=place, split=split, **columns).reader for split in names]
    except ConfigError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        hint = "" if download else "; --download fetches what is missing"
        raise ConfigError(
            f"--dataset {dataset}: '{name}' was looked for in {where} and could not be opened{hint} "
            f"({type(error).__name__}: {str(error).splitlines()[0]})."
        ) from None
    classes = _classes(readers, columns["target_key"])
    sources = [_source(*pair, columns["target_key"], classes, mode) for pair in zip(names, readers)]
    unused = sorted(set(found) - set(names))
    used = (names[0], names[-1])
    return DataSplits(sources[0], sources[-1], *statistics(mode), names=used, unused=unused)


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Keep Hugging Face to its cache."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    if wanted:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _columns(dataset: str, features: Any, datasets: Any) -> dict[str, str]:
    """The arguments of timm's reader that say which columns to read."""
    columns = {}
    for key, kind, word in (
        ("input_key", datasets.Image, "images"),
        ("target_key", datasets.ClassLabel, "classes"),
    ):
        fitting = [name for name, feature in features.items() if isinstance(feature, kind)]
        if not fitting and word == "classes" and "label" in features:
            fitting = ["label"]
        if not fitting:
            raise ConfigError(
                f"--dataset {dataset}: no column holds {word}; the columns are {', '.join(features)}."
            )
        columns[key] = fitting[0]
    return columns


def _classes(readers: list[Any], column: str) -> list[str]:
    if names := getattr(readers[0].dataset.features[column], "names", None):
        return [str(name) for name in names]
    return [str(number) for number in range(1 + max(max(reader.dataset[column][:]) for reader in readers))]


def _source(split: str, reader: Any, column: str, classes: list[str], mode: str) -> ImageSource:
    targets = np.asarray(reader.dataset[column][:], dtype=np.int64)
    if len(targets) and targets.min() < 0:
        raise ConfigError(f"the split '{split}' has images without a class (class {targets.min()}).")
    return ImageSource(
        identifiers=numbered(split, len(reader)),
        targets=targets,
        classes=classes,
        opener=partial(_open, reader),
        indices=np.arange(len(reader)),
        mode=mode,
        files=_files(reader),
        watched=_tables(reader),
    )


def _tables(reader: Any) -> list[str]:
    """The files of the data set's table."""
    return [str(entry["filename"]) for entry in reader.dataset.cache_files]


def _files(reader: Any) -> list[str]:
    """For each image the file that it is; nothing where the table holds the images themselves."""
    parts = reader.dataset.data.column(reader.image_key).chunks
    if not any(part.field("bytes").null_count for part in parts):
        return []
    table = next(iter(_tables(reader)), "")
    return [path or table for part in parts for path in part.field("path").to_pylist()]


@contextmanager
def _open(reader: Any, index: int) -> Iterator[Image.Image]:
    with reader[index][0] as file, open_image(file) as image:
        yield image

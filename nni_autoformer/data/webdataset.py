"""WebDataset shards on disk, found by timm's dataset factory and read by number.

timm's reader streams a shard from its start. A shard that lies on a disk is an ordinary tar file, so each of
its images can be read alone: then the order, the selection set and a resume are as with any other source.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..files import open_regular, read_text
from .huggingface import TEST_SPLITS
from .opening import open_image
from .source import DataSplits, ImageSource, statistics

MOST_CLASSES = 1 << 20
"""A larger number of a class is damage; a name is made for each."""

_NAME = re.compile(r"((?:.*/)?[^./][^.]*)\.([^/]+)")
"""A sample's key, and the field's name, from a tar member's name."""


def open_webdataset(dataset: str, root: Path, mode: str, test_only: bool) -> DataSplits:
    """Open 'wds/NAME': the shards of 'train' and of the first of `TEST_SPLITS`.

    The splits are those of `_info.json` or `info.json` in the folder, as timm has them; without such a file
    the shards with the split's name in theirs, as in `train-0000.tar`.

    Args:
        dataset: the name after 'wds/' is for people.
        root: folder of the shards.
        mode: Pillow's, of the images that are given.
        test_only: leave the training shards unread.

    Raises:
        ConfigError: the package `webdataset` is missing, or the shards are not there or not as they should
            be.
    """
    if not root.is_dir():
        raise ConfigError(f"--data {root}: there is no such folder.")
    names = _splits(root)
    test = next((split for split in TEST_SPLITS if split in names), None)
    if test is None or (not test_only and "train" not in names):
        raise ConfigError(
            f"--data {root}: the splits of its shards are {', '.join(names) or 'none'}; needed are train and "
            f"one of {', '.join(TEST_SPLITS)}."
        )
    shards = [
        _read(dataset, root, split, names[split]) for split in ([test] if test_only else ["train", test])
    ]
    count = 1 + max(max(part.targets, default=0) for part in shards)
    classes = [str(number) for number in range(count)]
    sources = [part.source(classes, mode) for part in shards]
    used = (test if test_only else "train", test)
    unused = sorted(set(names) - set(used))
    return DataSplits(sources[0], sources[-1], *statistics(mode), names=used, unused=unused)


def _splits(root: Path) -> dict[str, str]:
    """For each split what timm's reader takes for it."""
    for name in ("_info.json", "info.json"):
        if (root / name).is_file():
            try:
                splits = json.loads(read_text(root / name))["splits"]
                return {str(split): str(split) for split in splits}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{root / name}: this names no splits of shards ({error!r}).") from None
    files = sorted(path.name for path in root.glob("*.tar"))
    found = {
        split: [file for file in files if split in re.split(r"[-_.\d]+", file)]
        for split in ("train", *TEST_SPLITS)
    }
    return {split: "::".join(shards) for split, shards in found.items() if shards}


@dataclass
class _Shards:
    """What the shards of a split hold.

    Attributes:
        files: the shards.
        places: place of each image: the shard's number, and where in it the image starts and how long it is.
        names, targets: names and classes of the images.
    """

    files: list[str]
    places: list[tuple[int, int, int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def source(self, classes: list[str], mode: str) -> ImageSource:
        places = np.array(self.places, dtype=np.int64)
        return ImageSource(
            identifiers=self.names,
            targets=np.array(self.targets, dtype=np.int64),
            classes=classes,
            opener=partial(_open, self.files, places),
            indices=np.arange(len(places)),
            mode=mode,
            files=_FileOfImage(self.files, places[:, 0]),
        )


class _FileOfImage(Sequence[str]):
    """The file of each image, without a list of a million paths."""

    def __init__(self, files: list[str], numbers: np.ndarray) -> None:
        self.files, self.numbers = files, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        return self.files[self.numbers[index]]


def _read(dataset: str, root: Path, split: str, wanted: str) -> _Shards:
    from timm.data import create_dataset

    try:
        reader = create_dataset(dataset, root=str(root), split=wanted).reader
    except RuntimeError as error:
        if "install webdataset" in str(error):
            raise ConfigError(
                f"--dataset {dataset} needs the package webdataset, which is not installed: pip install "
                "webdataset."
            ) from None
        raise ConfigError(f"--data {root}: timm cannot read the split {split} ({error}).") from None
    except (KeyError, TypeError) as error:
        raise ConfigError(f"--data {root}: timm cannot read the split {split} ({error!r}).") from None
    found = _Shards([str(root / name) for name in reader.split_info.filenames])
    for number, file in enumerate(found.files):
        try:
            with open_regular(file) as content, tarfile.open(fileobj=content, mode="r:") as shard:
                _index(shard, number, found, reader)
        except FileNotFoundError:
            raise ConfigError(f"{file}: the shard is missing; shards have to lie on a disk.") from None
        except (tarfile.TarError, OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise ConfigError(
                f"{file}: the shard cannot be read as an uncompressed tar file of samples ({error})."
            ) from None
    if not found.names:
        raise ConfigError(f"--data {root}: the shards of {split} hold no image.")
    return found


def _index(shard: tarfile.TarFile, number: int, found: _Shards, reader: Any) -> None:
    """Find the images of a shard, each with its class; a sample is a run of members of one key."""
    key: str | None = None
    members: dict[str, Any] = {}
    for member in [*shard, None]:
        match = _NAME.fullmatch(member.name) if member is not None and member.isfile() else None
        if member is not None and match is None:
            continue
        if match is None or match[1] != key:
            if key is not None:
                _add(shard, number, key, members, found, reader)
            key, members = match and match[1], {}
        if match is not None:
            members[match[2].lower()] = member


def _add(
    shard: tarfile.TarFile, number: int, key: str, members: dict[str, Any], found: _Shards, reader: Any
) -> None:
    image = next((members[name] for name in reader.input_key.split(";") if name in members), None)
    if image is None:
        raise ValueError(f"the sample '{key}' has no image")
    label = reader.split_info.alt_label
    file = shard.extractfile(members["json" if label else "cls"])
    assert file is not None
    text = file.read()
    target = int(json.loads(text)[label] if label else text)
    if target < 0:  # timm passes over these, too
        return
    if target >= MOST_CLASSES:
        raise ValueError(
            f"the sample '{key}' is of class {target}; classes are numbers below {MOST_CLASSES:,}"
        )
    found.names.append(f"{Path(found.files[number]).name}/{key}")
    found.targets.append(target)
    found.places.append((number, image.offset_data, image.size))


@contextmanager
def _open(files: list[str], places: np.ndarray, index: int) -> Iterator[Image.Image]:
    shard, start, size = places[index]
    with open_regular(files[shard]) as file:
        file.seek(start)
        content = BytesIO(file.read(size))
    with open_image(content) as image:
        yield image

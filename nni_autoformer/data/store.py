"""Decoded images on disk: decoded once per machine, memory-mapped by every process that evaluates.

A trial of an NNI experiment is a process of its own; it finds the images here and needs neither the data set
nor the libraries that decode it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock

from ..files import digest, write_json
from .cache import DecodedImages, Transform, decode

if TYPE_CHECKING:
    from .source import ImageSource

FORMAT = 1
SPARE_BYTES = 1 << 30
"""What has to stay free on the disk."""


def default_store() -> Path:
    """`$NNI_AUTOFORMER_CACHE`, or `nni_autoformer` in the user's cache folder."""
    if folder := os.environ.get("NNI_AUTOFORMER_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nni_autoformer"


def image_key(**facts: Any) -> str:
    """The name of a set of decoded images: a digest of what decides their pixels, as JSON values."""
    return digest([json.dumps({"format": FORMAT, **facts}, sort_keys=True)])[:32]


class ImageStore:
    """A folder of decoded image sets, each written whole under its key and never changed.

    Args:
        folder: made if it is missing.

    Raises:
        OSError: from every method, when the folder cannot be written.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = default_store() if folder is None else Path(folder)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Let one process at a time look for a set and write it; the others then find it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{key}.lock"):
            yield

    def get(self, key: str, stamp: str | None = None) -> DecodedImages | None:
        """The images of a key, memory-mapped, or None.

        Args:
            key: from `image_key`.
            stamp: of the images as they are now; a set with another one is out of date. None trusts the set.
        """
        place = self.folder / key
        try:
            facts = json.loads((place / "facts.json").read_text(encoding="utf-8"))
            if stamp is not None and facts["stamp"] != stamp:
                return None
            # copy on write: torch wants memory that it may write, the file stays as it is
            images = np.load(place / "images.npy", mmap_mode="c")
            targets = np.load(place / "targets.npy")
        except (OSError, ValueError, KeyError):
            return None
        return DecodedImages(torch.from_numpy(images), torch.from_numpy(targets), facts["identifiers"])

    def put(
        self,
        key: str,
        source: ImageSource,
        transform: Transform,
        progress: str | None = None,
        workers: int = 0,
    ) -> DecodedImages:
        """Decode the images of a source and keep them; an older set under the key is replaced.

        Raises:
            OSError: also when the disk has too little room.
            ConfigError: as `decode`.
        """
        place, temporary = self.folder / key, self.folder / f".{key}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:

            def allocate(shape: tuple[int, ...]) -> torch.Tensor:
                if shutil.disk_usage(self.folder).free < int(np.prod(shape)) + SPARE_BYTES:
                    raise OSError(f"the disk of {self.folder} has too little room")
                name = temporary / "images.npy"
                array = np.lib.format.open_memmap(name, mode="w+", dtype=np.uint8, shape=shape)
                return torch.from_numpy(array)

            decoded = decode(source, transform, progress, workers, allocate)
            np.save(temporary / "targets.npy", decoded.targets.numpy())
            facts = {"identifiers": decoded.identifiers, "stamp": source.stamp()}
            write_json(temporary / "facts.json", facts)
            del decoded  # the map reaches the file
            shutil.rmtree(place, ignore_errors=True)
            os.replace(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        found = self.get(key)
        if found is None:
            raise OSError(f"{place} cannot be read")
        return found

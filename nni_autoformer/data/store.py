"""Decoded images on disk: decoded once per machine, memory-mapped by every process that evaluates.

A trial of an NNI experiment is a process of its own; it finds the images here and needs neither the libraries
that read the data set nor those that decode it. That nothing has changed since it learns from the file
system alone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from ..files import digest
from .cache import DecodedImages, Transform, decode
from .disk import process_lives
from .stored_facts import StoredFacts, checksums

if TYPE_CHECKING:
    from .source import ImageSource

FORMAT = 2
SPARE_BYTES = 1 << 30
"""What has to stay free on the disk."""

_logger = logging.getLogger("nni_autoformer")


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
        self._remove_unfinished()
        with FileLock(self.folder / f"{key}.lock"):
            yield

    def get(self, key: str, source: ImageSource | None = None, trust: bool = False) -> DecodedImages | None:
        """The images of a key, memory-mapped; None if there are none, or of other contents, or damaged ones.

        Args:
            key: name of the set, from `image_key`.
            source: the images as they are now, which the set is compared with. Without them a look at the
                file system has to show what it showed when the set was decoded.
            trust: the data set is not on this machine, so leave out the look.
        """
        place = self.folder / key
        try:
            facts = StoredFacts.read(place)
            changed = not (trust or source is not None) and facts.seen() != facts.look
            if changed or (source is not None and not facts.of_contents(source)):
                return None
            # copy on write: torch wants memory that it may write, the file stays as it is
            images = np.load(place / "images.npy", mmap_mode="c")
            targets = np.load(place / "targets.npy")
            damaged = facts.damaged({"images": images, "targets": targets})
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever damaged files make JSON and NumPy say
            _logger.warning(f"{place} cannot be read ({error}); the images are decoded again.")
            return None
        if damaged is not None:
            _logger.warning(
                f"{place / damaged}.npy is not as it was written, so the disk or a program has damaged it; "
                "the images are decoded again."
            )
            return None
        if source is not None:
            self._look_again(place, facts, source)
        arrays = torch.from_numpy(images), torch.from_numpy(targets)
        return DecodedImages(*arrays, facts.identifiers, facts.checksums)

    def _look_again(self, place: Path, facts: StoredFacts, source: ImageSource) -> None:
        """Note how the file system shows the same contents now, so that trials recognise them by it."""
        if facts.seen() == facts.look:
            return
        fresh = StoredFacts.of(source)
        if facts.of_contents(source):
            with contextlib.suppress(OSError):
                replace(fresh, checksums=facts.checksums).write(place)

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
        self._remove_unfinished()
        place, temporary = self.folder / key, self.folder / f".{key}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:

            def allocate(shape: tuple[int, ...]) -> torch.Tensor:
                if shutil.disk_usage(self.folder).free < int(np.prod(shape)) + SPARE_BYTES:
                    raise OSError(f"the disk of {self.folder} has too little room")
                name = temporary / "images.npy"
                array = np.lib.format.open_memmap(name, mode="w+", dtype=np.uint8, shape=shape)
                _take_room(name)
                return torch.from_numpy(array)

            facts = StoredFacts.of(source)
            decoded = decode(source, transform, progress, workers, allocate)
            arrays = {"images": decoded.images.numpy(), "targets": decoded.targets.numpy()}
            np.save(temporary / "targets.npy", arrays["targets"])
            sums = {name: checksums(array) for name, array in arrays.items()}
            replace(facts, checksums=sums).write(temporary)
            del decoded, arrays  # the map reaches the file
            shutil.rmtree(place, ignore_errors=True)
            os.replace(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        found = self.get(key, trust=True)
        if found is None:
            raise OSError(f"{place} cannot be read")
        return found

    def _remove_unfinished(self) -> None:
        """Remove what killed processes have left: no process has the number or holds the key's lock."""
        with contextlib.suppress(OSError):
            for folder in self.folder.iterdir():
                match = re.fullmatch(r"\.([^.]+)\.(\d{1,9})", folder.name)
                if match is None or process_lives(int(match[2])):
                    continue
                with contextlib.suppress(Timeout), FileLock(self.folder / f"{match[1]}.lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)


def _take_room(file: Path) -> None:
    """Have the disk set aside all of a file: one that is full later would end the process that writes."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "rb+") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)

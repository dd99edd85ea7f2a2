"""What each candidate makes of each image: what a killed search goes on from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..architecture import Architecture
from ..files import replacing, told_when_full
from .accuracy import Accuracy, added

ARRAYS = ("first", "five", "losses", "seen", "broken")


class Correctness:
    """The outcomes of several subnets on one list of images, in the order in which these are evaluated.

    Args:
        images: how many there are.
        setting: JSON values that decide the outcomes, beside the architecture; a file of another setting is
            not read.

    Attributes:
        first, five: (subnets, images) bool: the class is the first, or among the first five; False where a
            subnet has not been evaluated.
        losses: (subnets, images) float32: cross-entropies; 0 where a subnet has not been evaluated.
        seen: (subnets,) images evaluated, from the first one on.
        broken: (subnets,) bool: has logits that are not finite, so it has no accuracy.
    """

    def __init__(self, images: int, setting: Mapping[str, Any] | None = None) -> None:
        self.images, self.setting = images, dict(setting or {})
        self.architectures: list[Architecture] = []
        self.first = np.zeros((0, images), dtype=bool)
        self.five = np.zeros((0, images), dtype=bool)
        self.losses = np.zeros((0, images), dtype=np.float32)
        self.seen = np.zeros(0, dtype=np.int64)
        self.broken = np.zeros(0, dtype=bool)

    def rows(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """The rows of these subnets; new ones are added."""
        known = {architecture: row for row, architecture in enumerate(self.architectures)}
        new = [architecture for architecture in architectures if architecture not in known]
        known |= {architecture: len(known) + i for i, architecture in enumerate(new)}
        self.architectures += new
        for name in ARRAYS:
            values = getattr(self, name)
            fresh = np.zeros((len(new), *values.shape[1:]), values.dtype)
            setattr(self, name, np.concatenate((values, fresh)))
        return np.array([known[architecture] for architecture in architectures], dtype=np.int64)

    def keep(self, architectures: Collection[Architecture]) -> None:
        """Forget all other subnets."""
        kept = [row for row, known in enumerate(self.architectures) if known in architectures]
        self.architectures = [self.architectures[row] for row in kept]
        for name in ARRAYS:
            setattr(self, name, getattr(self, name)[kept])

    def accuracy(self, row: int) -> Accuracy:
        """The accuracy of a subnet on the images that it has seen."""
        right, among_five = int(self.first[row].sum()), int(self.five[row].sum())
        return Accuracy.of(right, among_five, int(self.seen[row]), added(self.losses[row]))

    def open_rows(self, rows: np.ndarray) -> np.ndarray:
        """Those that still have images to see."""
        return rows[(self.seen[rows] < self.images) & ~self.broken[rows]]

    def save(self, path: Path) -> None:
        """Write all of it, atomically.

        Raises:
            ConfigError: the disk is full, or cannot be written.
        """
        facts = {
            "setting": self.setting,
            "architectures": [a.to_dict() for a in self.architectures],
            "digest": self._digest(),
        }
        with told_when_full(path), replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
                first=np.packbits(self.first, axis=1),
                five=np.packbits(self.five, axis=1),
                losses=self.losses,
                seen=self.seen,
                broken=self.broken,
            )

    def load(self, path: Path) -> bool:
        """Take what a file of the same setting holds; False if there is none that is whole. Then all is
        evaluated again, with the same result.
        """
        found = Correctness(self.images, self.setting)
        try:
            with np.load(path, allow_pickle=False) as file:
                facts = json.loads(file["facts"].tobytes())
                if facts["setting"] != json.loads(json.dumps(self.setting)):
                    return False
                found.architectures = [Architecture.from_dict(values) for values in facts["architectures"]]
                for name in ("first", "five"):
                    packed = file[name]
                    setattr(found, name, np.unpackbits(packed, axis=1, count=self.images).astype(bool))
                for name in ("losses", "seen", "broken"):
                    setattr(found, name, file[name])
            if facts["digest"] != found._digest():
                return False
        except Exception:  # whatever a damaged archive makes numpy, zipfile and json say
            return False
        self.architectures = found.architectures
        for name in ARRAYS:
            setattr(self, name, getattr(found, name))
        return True

    def _digest(self) -> str:
        """Of all that a file keeps; an archive notices damage to its members, not to its own tables."""
        found = hashlib.sha256(json.dumps([a.to_dict() for a in self.architectures]).encode())
        for name in ARRAYS:
            values = getattr(self, name)
            found.update(f"{name} {values.dtype} {values.shape}".encode())
            found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()

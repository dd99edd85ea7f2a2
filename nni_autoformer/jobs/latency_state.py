"""The file of an unfinished measurement, beside the output: what it was told, and a line per turn."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..config import shown
from ..errors import ConfigError
from ..files import append_line, parse_json, told_when_full
from ..latency.rounds import Turn


class LatencyState:
    """The turns of an unfinished measurement.

    Args:
        path: the file.
        told: what decides which turns there are, and the machine, as JSON values.
    """

    def __init__(self, path: Path, told: Mapping[str, Any]) -> None:
        self.path = path
        self.told = json.loads(json.dumps(told))
        self.turns: dict[Turn, list[float]] = {}

    def open(self, resume: bool, overwrite: bool) -> None:
        """Read what an earlier process has measured, or begin.

        Raises:
            ConfigError: there is an unfinished measurement and neither flag was given, or it was told
                something else, or its file is damaged or cannot be written.
        """
        with told_when_full(self.path):
            if self.path.is_file() and overwrite:
                self.path.unlink()
            lines = self._lines()
            if not lines:
                self.path.unlink(missing_ok=True)
                append_line(self.path, _line({"told": self.told}), to_disk=True)
                return
        if not resume:
            raise ConfigError(
                f"{self.path} holds an unfinished measurement: continue it with --resume, or replace it with "
                "--overwrite."
            )
        rows = [self._row(number, line) for number, line in enumerate(lines, start=1)]
        self._require_same(rows[0].get("told", {}))
        self.turns = {(row["round"], row["piece"]): row["ms"] for row in rows[1:]}

    def record(self, turn: Turn, times: list[float]) -> None:
        """Store the times of a turn.

        Raises:
            ConfigError: the disk is full, or cannot be written.
        """
        with told_when_full(self.path):
            append_line(self.path, _line({"round": turn[0], "piece": turn[1], "ms": times}))

    def remove(self) -> None:
        """Remove the file; the table has taken its place."""
        self.path.unlink(missing_ok=True)

    def _lines(self) -> list[str]:
        """The whole lines of the file; a kill may have cut the last one."""
        if not self.path.is_file():
            return []
        return self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]

    def _row(self, number: int, line: str) -> dict[str, Any]:
        row = _whole(line, {"told"} if number == 1 else {"round", "piece", "ms"})
        if row is None:
            raise ConfigError(
                f"{self.path}, line {number}: the file is damaged here. "
                + (
                    "Start anew with --overwrite."
                    if number == 1
                    else "Delete the line, and --resume goes on."
                )
            )
        return row

    def _require_same(self, before: Mapping[str, Any]) -> None:
        for key in sorted({*before, *self.told}):
            if before.get(key) != self.told.get(key):
                raise ConfigError(
                    f"{self.path} cannot be resumed: {key} was {shown(before.get(key))} when the measurement "
                    f"began and is {shown(self.told.get(key))} now. Start anew with --overwrite."
                )


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({**row, "checksum": zlib.crc32(json.dumps(row).encode())})


def _whole(line: str, keys: set[str]) -> dict[str, Any] | None:
    """The row that a line holds, None if it is not as it was written."""
    try:
        row = parse_json(line)
        sound = row.pop("checksum") == zlib.crc32(json.dumps(row).encode())
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
    return row if sound and set(row) == keys else None


@contextlib.contextmanager
def sole_owner(output: Path) -> Iterator[None]:
    """Keep other processes from measuring into the same output.

    Raises:
        ConfigError: one does already, or the place cannot be written.
    """
    path = output.with_name(f".{output.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"--output {output}: another process measures into this file.") from None
    except OSError as error:
        raise ConfigError(f"--output {shown(output)} cannot be written: {error.strerror}.") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()

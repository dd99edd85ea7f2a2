"""Progress bars, on standard error: on a terminal one line of at most 80 columns that is written over,
anywhere else a line now and then.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Any

COLUMNS = 80
"""Widest line on a terminal."""

MINUTE = 60.0
"""Least number of seconds between two lines where there is no terminal; the last line comes at any time."""

TEN_MINUTES = 600.0
"""The same within an epoch or a generation, which has a line of its own at its end."""

REFRESH = 0.5
"""Least number of seconds between two looks of a terminal's line; the numbers in it may make a GPU wait."""


class Bar:
    """How far a piece of work is. The name and the time left come first, so that nothing cuts them off.

    No bar is shown where the logger `nni_autoformer` is set to warnings and errors only.

    Args:
        total: how much there is to do.
        name: what is done.
        unit: plural of what is counted; empty shows no count.
        initial: how much was done before.
        shown: whether there is anything to see.
        leave: whether the last state stays to be seen.
        interval: seconds between two lines of `update` where there is no terminal.

    Attributes:
        done, total, name: as above, to be changed by whoever counts otherwise than with `update`.
        note: text behind the count.
        left: seconds left; None to estimate them from what was done.
    """

    def __init__(
        self,
        total: int,
        name: str,
        unit: str = "images",
        *,
        initial: int = 0,
        shown: bool = True,
        leave: bool = True,
        interval: float = MINUTE,
    ) -> None:
        self.total, self.name, self.unit, self.done = total, name, unit, initial
        self.note, self.left = "", None
        self._initial, self._leave, self._interval = initial, leave, interval
        self.shown = shown and sys.stderr is not None and not _is_quiet()
        self._start = self._seen = time.monotonic()
        self._line = ""  # the last one that was written
        self._tqdm = self._open() if self.shown and sys.stderr.isatty() else None
        if self.on_terminal and name:
            self.show()

    left: float | None

    def _open(self) -> Any:
        from tqdm import tqdm

        columns, rows = shutil.get_terminal_size((COLUMNS, 24))
        size = {"ncols": min(columns, COLUMNS) - 1, "nrows": rows}
        return tqdm(total=self.total, leave=self._leave, file=sys.stderr, bar_format=" ", **size)

    @property
    def on_terminal(self) -> bool:
        """Whether the bar is a line that is written over."""
        return self._tqdm is not None

    def due(self) -> bool:
        """Whether a look would be shown now; to prepare nothing in vain."""
        interval = REFRESH if self.on_terminal else self._interval
        return self.shown and time.monotonic() - self._seen >= interval

    def update(self, count: int = 1) -> None:
        """Count what was done, and show it if that is due."""
        self.done += count
        if self.due():
            self.show()

    def milestone(self) -> None:
        """Show where the work stands: on a terminal at once, else if the last line is a minute old or there
        is none yet.
        """
        if self.on_terminal or not self._line or time.monotonic() - self._seen >= MINUTE:
            self.show()

    def show(self) -> None:
        """Show where the work stands."""
        if not self.shown:
            return
        self._seen = time.monotonic()
        if self._tqdm is None:
            self._write(", ".join(part for part in (self._head(), self._tail()) if part))
            return
        bar, tail = self._tqdm, self._tail().replace("{", "{{").replace("}", "}}")
        bar.total, bar.n, bar.desc = self.total, min(self.done, self.total), self._head()
        bar.bar_format = f"{{desc}} |{{bar}}| {tail}"
        bar.refresh()

    def _write(self, line: str) -> None:
        if line != self._line:
            self._line = line
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def _head(self) -> str:
        spent = time.monotonic() - self._start
        left, done = self.left, self.done - self._initial
        if self.done >= self.total and left is None:
            return f"{self.name}, done in {told(spent)}"
        if left is None and done > 0:
            left = spent / done * (self.total - self.done)
        return f"{self.name}, {'?' if left is None else told(left)} left"

    def _tail(self) -> str:
        count = f"{self.done:,}/{self.total:,} {self.unit}" if self.unit else ""
        return ", ".join(part for part in (count, self.note) if part)

    def close(self) -> None:
        """Show the last state, if it stays to be seen."""
        if self._leave:
            self.show()
        if self._tqdm is not None:
            self._tqdm.close()
        self.shown = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def told(seconds: float) -> str:
    """A time as '0:12:34'."""
    return str(timedelta(seconds=round(seconds)))


def _is_quiet() -> bool:
    # the logger's own level: that of a program which sets none is the root's, and says nothing of bars
    return logging.getLogger("nni_autoformer").level >= logging.WARNING

"""What a person sees: results and news on standard output, what needs attention on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..training.ranks import Ranks


class Screen(logging.Handler):
    """Shows what the package logs: news on standard output, warnings on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a sentence."""
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        print(self.format(record), file=stream, flush=True)


@contextmanager
def log_shown() -> Iterator[None]:
    """Let the package's log reach the screen while a command runs; of several processes that of the main one,
    and everyone's warnings.
    """
    logger, screen = logging.getLogger("nni_autoformer"), Screen()
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO if Ranks.current().main else logging.WARNING)
    logger.propagate = False
    logger.addHandler(screen)
    try:
        yield
    finally:
        logger.removeHandler(screen)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def say(text: str, end: str = "\n") -> None:
    """Print a result, once and not by every process of a run."""
    if Ranks.current().main:
        print(text, end=end)


def say_summary(output: Path) -> None:
    """Print the summary that a run has left in its folder, and where that is."""
    from ..report.summary import SUMMARY_FILE

    if not Ranks.current().main:
        return  # the folder may be on another machine
    say(f"\n{(output / SUMMARY_FILE).read_text(encoding='utf-8')}\nResults are in {output}")

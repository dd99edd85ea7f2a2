"""What a person sees: results on standard output, everything that is said about them on standard error."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..costs import COSTS
from ..experiment.quiet import quieten
from ..space import SearchSpace
from ..training.ranks import Ranks

_logger = logging.getLogger("nni_autoformer")

NEXT = "Next: "
"""What stands in front of the command to give next."""


class Screen(logging.Handler):
    """Shows what the package logs, above the progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a sentence."""
        sys.stdout.flush()  # in a file for both, the order is that of a terminal
        with _above_the_bars():
            print(_wrapped(self.format(record)), file=sys.stderr, flush=True)


def _wrapped(text: str) -> str:
    """A text without a word that goes on in the next line of the terminal; commands stay in one, to copy."""
    if not sys.stderr.isatty() or text.startswith(NEXT):
        return text
    columns = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(line, columns, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


def _above_the_bars() -> AbstractContextManager[Any]:
    tqdm = sys.modules.get("tqdm")
    return nullcontext() if tqdm is None else tqdm.tqdm.external_write_mode(file=sys.stderr)


@contextmanager
def log_shown() -> Iterator[None]:
    """Let the package's log reach the screen while a command runs; of several processes that of the main one,
    and everyone's warnings.
    """
    screen = Screen()
    before = _logger.level, _logger.propagate
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    _logger.addHandler(screen)
    try:
        yield
    finally:
        _logger.removeHandler(screen)
        _logger.setLevel(before[0])
        _logger.propagate = before[1]


def add_level(parser: argparse.ArgumentParser) -> None:
    """How much is said."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="also say what is for debugging, and what the libraries log and warn of",
    )
    group.add_argument(
        "-q", "--quiet", action="store_true", help="say warnings and errors only, and show no progress"
    )


def set_level(arguments: argparse.Namespace) -> None:
    """Say as much as the flags want; with --verbose the libraries speak too."""
    level = logging.DEBUG if arguments.verbose else logging.WARNING if arguments.quiet else logging.INFO
    _logger.setLevel(level if Ranks.current().main else logging.WARNING)
    if not arguments.verbose:
        quieten()
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of DDP's advice, which is no Python warning


def say(text: str, end: str = "\n") -> None:
    """Print a result, once and not by every process of a run."""
    if Ranks.current().main:
        print(text, end=end)


def say_summary(output: Path) -> None:
    """Print the summary that a run has left in its folder, and where that is."""
    from ..report.summary import SUMMARY_FILE

    if not Ranks.current().main:
        return  # the folder may be on another machine
    say(f"{(output / SUMMARY_FILE).read_text(encoding='utf-8')}\nResults are in {output}")


def say_next(command: str, flags: Mapping[str, Any], *more: str) -> None:
    """Name the command to give next.

    Args:
        command: name of the command.
        flags: values of its flags by name; None and False are left out, True is a switch.
        more: words behind them.
    """
    words = ["nni-autoformer", command]
    for name, value in flags.items():
        if value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    if Ranks.current().main:
        _logger.info("%s%s", NEXT, " ".join(map(shlex.quote, [*words, *more])))


def middle_of(space: SearchSpace) -> str:
    """A limit of parameters in the middle of a space, for a command that a user can give as it is."""
    cost = COSTS["params"]
    return f"{sum(cost.range(space)) / 2 / cost.scale:.2g}"


def images_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that name the data set, for the next command on the same images."""
    dataset = None if arguments.dataset == "folder" else arguments.dataset
    return {"dataset": dataset, "data": arguments.data}

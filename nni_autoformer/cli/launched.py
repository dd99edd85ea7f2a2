"""A command under torchrun: a mistake of the user's is told once, is reported once, and is not tried again.

torchrun starts all processes anew when one has failed, whatever the reason, as often as --max-restarts says,
and then lists each that has failed. So the processes of a machine agree through the folder that torchrun
keeps for them over all attempts: its first process fails, last of all, the others leave without a failure,
and those of a further attempt leave at once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError
from ..files import digest, write_text
from ..training.ranks import Ranks

MISTAKE = 2
"""Exit status after what the user can put right."""

PATIENCE = 5.0
"""Seconds that the processes of a machine wait for each other before they leave."""

PATIENCE_FOR_WORDS = 60.0
"""Seconds that a process waits for another one that has the sentence to print and may be closing its files or
data loaders first; torchrun would end that one if this one failed before.
"""

TOGETHER = ("train", "search", "test", "retrain", "finetune", "sample")
"""The commands that several processes do together."""


def given_up() -> int | None:
    """The exit status of this process where an earlier attempt of the run has ended with a mistake of the
    user's; None where there was none.
    """
    folder = _folder()
    if folder is None or not any(folder.glob("mistake-*")):
        return None
    return _left(folder, Ranks.current())


def parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """The arguments of a command; what the parser prints is printed by one process of a machine.

    Raises:
        ConfigError: the command is not for several processes.
    """
    ranks, nowhere = Ranks.current(), io.StringIO()
    with contextlib.ExitStack() as stack:
        if ranks.local_rank > 0:
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            arguments = parser.parse_args(words)
        except SystemExit as stop:
            raise SystemExit(leave("flags", None) if stop.code == MISTAKE else stop.code) from None
    if ranks.world_size > 1 and arguments.command not in TOGETHER:
        raise ConfigError(
            f"'{arguments.command}' is the work of one process; start it without torchrun "
            f"(for several there are {', '.join(TOGETHER)})."
        )
    return arguments


def leave(sentence: str, tell: Callable[[], None] | None) -> int:
    """The exit status of this process after a mistake of the user's.

    Args:
        sentence: says what is wrong; processes with the same sentence have failed together.
        tell: prints it; None where another process does.
    """
    folder, ranks = _folder(), Ranks.current()
    mark = None if folder is None else folder / f"mistake-{digest([sentence])[:16]}"
    patience = PATIENCE_FOR_WORDS if tell is None else PATIENCE
    together = mark is not None and ranks.local_rank > 0 and _within(patience, mark.is_file)
    if tell is not None and not (together and mark is not None and mark.read_text()):
        tell()
    if folder is None or mark is None:
        return MISTAKE
    if together:
        return _left(folder, ranks)
    write_text(mark, "" if tell is None else "told")
    return _left(folder, ranks) if ranks.local_rank == 0 else MISTAKE


def _folder() -> Path | None:
    """The folder that torchrun keeps for the run on this machine: FOLDER/attempt_N/RANK/error.json."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(file).parents[2] if file else None


def _left(folder: Path, ranks: Ranks) -> int:
    """The exit status of a process that leaves: the first of a machine fails when the others have left."""

    def mark(rank: int) -> Path:
        return folder / f"left-{ranks.restarts}-{rank}"

    def has_left(rank: int) -> bool:
        import psutil

        with contextlib.suppress(OSError, ValueError):
            return not psutil.pid_exists(int(mark(rank).read_text()))
        return False

    if ranks.local_rank > 0:
        mark(ranks.local_rank).write_text(str(os.getpid()))
        return 0
    _within(PATIENCE, lambda: all(has_left(rank) for rank in range(1, ranks.local_world_size)))
    return MISTAKE


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True

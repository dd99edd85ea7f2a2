"""The command line: ``nni-autoformer train | search | test | retrain | finetune | sample | …``."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Sequence

from .. import __version__
from ..config import shown
from ..errors import ConfigError, Terminated
from ..experiment import current_trial
from ..training.ranks import Ranks
from . import launched
from .old_flags import advice_for
from .overrides import overrides_of
from .parsing import CommandParser, add_completion
from .screen import add_level, log_shown, set_level
from .streams import forgiving_streams

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it (128 + SIGINT)."""

OF_THE_SYSTEM = (
    *(errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENOTDIR, errno.EISDIR),
)
"""What files and disks say no with; where it is not said better below, it is said here."""

LONGEST_WORD = 500
"""Characters of a message without a space, as in a value from a damaged file, that are printed at most."""

LONGEST_MESSAGE = 4000
"""Characters of a message that are printed at most."""

TERMINATED = 143
"""Exit status after SIGTERM, with everything saved (128 + SIGTERM)."""


def build_parser() -> CommandParser:
    """The parser of the whole command line."""
    from . import (
        conversion,
        data,
        demo,
        exporting,
        finetune,
        latency,
        launch,
        pick,
        plot,
        retrain,
        sample,
        search,
        spaces,
        test,
        train,
    )

    parser = CommandParser(
        prog="nni-autoformer",
        description="Search vision transformers with AutoFormer, inside NNI.",
    )
    parser.add_argument("--version", action="version", version=f"nni-autoformer {__version__}")
    add_completion(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (
        demo,
        train,
        search,
        test,
        retrain,
        finetune,
        latency,
        sample,
        pick,
        plot,
        spaces,
        launch,
        exporting,
        data,
    ):
        module.add_parser(commands)
    conversion.add_info_parser(commands)
    conversion.add_convert_parser(commands)
    for command in parser.commands():
        command.description = (command.description or "").replace("``", "")
        add_level(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, or 2 for what the user can put right, or 130 after Ctrl-C,
    or 143 after SIGTERM.

    In a trial of an NNI experiment the parameters of the trial take the place of flags.
    """
    if (status := launched.given_up()) is not None:
        return status
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with forgiving_streams(), log_shown():
            return _run(build_parser(), words)
    except OSError as error:  # of standard output, as on a full disk
        print(f"nni-autoformer: error: standard output: {error.strerror}.", file=sys.stderr)
        return 2


def _run(parser: CommandParser, words: list[str]) -> int:
    try:
        sample = None
        if (trial := current_trial()) is not None:
            overrides, sample = overrides_of(parser, words, trial.parameters)
            words += overrides
        if any("\0" in word for word in words):
            raise ConfigError("a value has a NUL character in it, which no name of a file can have.")
        if told := advice_for(parser, words):
            raise ConfigError(told)
        arguments = launched.parsed(parser, words)
        set_level(arguments)
        if sample:
            arguments.sample = sample
        arguments.run(arguments)
    except ConfigError as error:
        return _mistake(_sentence(error), error.told)
    except OSError as error:
        if error.errno not in OF_THE_SYSTEM:
            raise
        where = f"{shown(error.filename)}: " if error.filename else ""
        return _mistake(f"{where}{error.strerror}.")
    except Terminated as error:
        if Ranks.current().main:
            print(f"\nnni-autoformer: {error}", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        way = " The same command with --resume goes on from here." if "resume" in arguments else ""
        if Ranks.current().main:
            print(f"\nnni-autoformer: stopped.{way}", file=sys.stderr)  # below the progress bar
        return INTERRUPTED
    return 0


def _mistake(sentence: str, told: bool = False) -> int:
    def tell() -> None:
        print(f"nni-autoformer: error: {sentence}", file=sys.stderr)

    return launched.leave(sentence, None if told else tell)


def _sentence(error: ConfigError) -> str:
    # a DataLoader worker's exception arrives with the worker's traceback as its text, the sentence last
    text = str(error)
    text = (text.rsplit("ConfigError: ", 1)[-1] if text.startswith("Caught ") else text).strip()
    text = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:LONGEST_WORD]}…", text)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"

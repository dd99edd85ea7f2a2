"""The words of a trial command, which NNI gives to a shell."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
from pathlib import Path

from ..config import shown
from ..errors import ConfigError

PROGRAM, MODULE = "nni-autoformer", "nni_autoformer"

_OF_THE_SHELL = {
    *(
        ".",
        ":",
        "[",
        "[[",
        "{",
        "}",
        "!",
        "alias",
        "break",
        "case",
        "cd",
        "command",
        "continue",
        "do",
        "done",
    ),
    *("echo", "elif", "else", "esac", "eval", "exit", "export", "false", "fi", "for", "function", "if", "in"),
    *("local", "printf", "pwd", "read", "return", "set", "shift", "source", "test", "then", "time", "trap"),
    *("true", "ulimit", "umask", "unset", "until", "wait", "while"),
}
"""Words at the beginning of a statement that are no programs."""

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_NUMBERED = re.compile(r"(?<!\S)\d+(?=[<>])")
"""The 2 of `2> log`."""

_SEPARATOR = re.compile(r"[;&|()]+")


def command_words(command: str, folder: Path, local: bool) -> list[str] | None:
    """The words behind the program's name of a command of this package; None for a command of somebody else,
    or one that a shell has more to do with than to start it.

    Args:
        command: trial command of an experiment.
        folder: folder that it is run in.
        local: whether it runs on this machine, so that its program must be here.

    Raises:
        ConfigError: it is empty, its quotes do not match, or its program is not there.
    """
    statements = _statements(command)
    if not statements:
        raise ConfigError("trialCommand is empty.")
    found = None
    for number, words in enumerate(statements):
        if words[0] in _OF_THE_SHELL or any("$" in word or "`" in word for word in words):
            return None
        if local:
            _require_program(words[0], folder)
        if (rest := _of_this_package(words)) is not None:
            found = rest if number == len(statements) - 1 else None
    return found


def _statements(command: str) -> list[list[str]]:
    """The statements of a shell's text, in words, without assignments and redirections."""
    statements: list[list[str]] = []
    for line in command.replace("\\\n", " ").splitlines():
        try:
            text = _NUMBERED.sub("", os.path.expandvars(line))
            lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            tokens = list(lexer)
        except ValueError as error:
            raise ConfigError(f"trialCommand: '{shown(line)}' is no command of a shell: {error}.") from None
        words: list[str] = []
        for token in tokens:
            if _SEPARATOR.fullmatch(token):
                statements.append(words)
                words = []
            else:
                words.append(token)
        statements.append(words)
    cleaned = [_without_assignments(_without_redirections(words)) for words in statements]
    return [words for words in cleaned if words]


def _without_redirections(words: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word and set(word) <= set("<>&"):
            skip = True
        else:
            kept.append(word)
    return kept


def _without_assignments(words: list[str]) -> list[str]:
    rest = list(words)
    while rest and (_ASSIGNMENT.match(rest[0]) or rest[0] in ("exec", "env", "nohup")):
        rest.pop(0)
    return rest


def _of_this_package(words: list[str]) -> list[str] | None:
    if Path(words[0]).name == PROGRAM:
        return words[1:]
    python = re.fullmatch(r"python[\d.]*", Path(words[0]).name)
    return words[3:] if python and words[1:3] == ["-m", MODULE] else None


def _require_program(name: str, folder: Path) -> None:
    place = str(folder / name) if "/" in name and not os.path.isabs(name) else name
    if shutil.which(place) is not None:
        return
    near = difflib.get_close_matches(Path(name).name, [PROGRAM], cutoff=0.8)
    if "/" in name:
        raise ConfigError(f"trialCommand: {shown(name)}: there is no such program, or it may not be run.")
    if near == [PROGRAM] and name != PROGRAM:
        raise ConfigError(f"trialCommand: there is no program '{shown(name)}'; did you mean '{PROGRAM}'?")
    way = ", for example by activating the environment that it is installed in" if name == PROGRAM else ""
    raise ConfigError(
        f"trialCommand: the program '{shown(name)}' is not on the PATH of the trials, which is that of this "
        f"command; put it there{way}, or give its whole path."
    )

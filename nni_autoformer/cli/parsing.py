"""The parser of a command: help of one screen, and mistakes told as a sentence that names what was meant."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

SCREEN = 40
"""Lines of a help that is shown whole."""

WIDTH = 80


class CommandParser(argparse.ArgumentParser):
    """A parser whose `--help` fits a screen: a command with many flags shows its common ones there, and all
    of them with `--help-all`.

    Attributes:
        common: the common flags; empty where all are.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings.setdefault("formatter_class", _Formatter)
        super().__init__(*arguments, **(settings | {"add_help": False}))
        self.common: Sequence[str] = ()
        self.add_argument("-h", "--help", action=_Help, help="show the common flags and exit")
        self.add_argument("--help-all", action=_Help, help="show every flag and exit")

    def format_short_help(self) -> str:
        """The help of one screen."""
        whole = self.format_help()
        if not self.common or whole.count("\n") <= SCREEN:
            return whole
        formatter = self._get_formatter()
        assert isinstance(formatter, _Formatter)
        formatter.brief = True
        shown = [action for action in self._actions if self._is_common(action)]
        usage = f"{self.prog} {' '.join(_required(action) for action in shown if action.required)} [flags]"
        formatter.add_usage(usage, [], [])
        formatter.add_text((self.description or "").split(". ")[0].split(".\n")[0].rstrip(".") + ".")
        formatter.start_section("common flags")
        formatter.add_arguments(shown)
        formatter.end_section()
        more = len(self._actions) - len(shown)
        formatter.add_text(f"{more} more flags: {self.prog} --help-all")
        return formatter.format_help()

    def _is_common(self, action: argparse.Action) -> bool:
        return action.required or any(name in self.common for name in action.option_strings)

    def commands(self) -> Iterator[CommandParser]:
        """The parsers of all commands, also of those within a command."""
        nested = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        if not nested:
            yield self
        for action in nested:
            for command in action.choices.values():
                yield from command.commands()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, after a look for flags that there are not."""
        words = list(sys.argv[1:] if args is None else args)
        self._require_known(words)
        return super().parse_known_args(words, namespace)

    def _require_known(self, words: Sequence[str]) -> None:
        """Say which flag is unknown before argparse says which is missing."""
        nested = any(isinstance(action, argparse._SubParsersAction) for action in self._actions)
        for word in words:
            if word == "--" or (nested and not word.startswith("-")):
                return
            name = word.partition("=")[0]
            if not name.startswith("--") or " " in name:
                continue
            if not any(known.startswith(name) for known in self._option_string_actions):
                self.error(f"there is no flag {name}{self._meant(name)}")

    def _meant(self, name: str) -> str:
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        return did_you_mean(name, known) or f"; {self.prog} --help-all shows all flags."

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            other = f"; {self.prog} --help lists the commands."
            self.error(f"there is no command '{value}'{did_you_mean(str(value), choices) or other}")
        known = did_you_mean(str(value), choices) or f"; it should be one of {', '.join(choices)}."
        raise argparse.ArgumentError(action, f"'{value}' is not known{known}")

    def error(self, message: str) -> NoReturn:
        """End with the sentence and status 2."""
        if message.endswith("required: COMMAND"):
            self.print_help(sys.stderr)
            self.exit(2)
        sentence = message if message[-1] in ".?" else f"{message}."
        if message.startswith("the following arguments are required"):
            sentence += f" {self.prog} --help shows the common flags."
        print(f"{self.prog}: error: {sentence}", file=sys.stderr)
        self.exit(2)


class _Formatter(argparse.HelpFormatter):
    """As wide as the terminal, and no wider than a screen of text is read well."""

    def __init__(self, prog: str) -> None:
        width = shutil.get_terminal_size((WIDTH, 24)).columns
        super().__init__(prog, max_help_position=24, width=min(width, WIDTH) - 2)
        self.brief = False

    def _split_lines(self, text: str, width: int) -> list[str]:
        """The lines of a flag's help; in the help of one screen the first two, cut where a thought ends."""
        lines = super()._split_lines(text, width)
        if not self.brief or len(lines) <= 2:
            return lines
        text = " ".join(lines[:2])
        cut = max(text.rfind(end) for end in ("; ", " (", ", ", ": "))
        if text[:cut].count("(") > text[:cut].count(")"):
            cut = text.rfind(" (", 0, cut)
        return super()._split_lines(f"{text[:cut]} …" if cut > 0 else f"{text} …", width)


class _Help(argparse.Action):
    """Prints the help, the whole one for `--help-all`."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(
            option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help
        )

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        assert isinstance(parser, CommandParser)
        whole = self.option_strings[0] == "--help-all"
        print(parser.format_help() if whole else parser.format_short_help(), end="")
        parser.exit()


class _Completion(argparse.Action):
    """Prints what a shell needs to complete commands and flags."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, shell: Any, *_: Any) -> None:
        import shtab

        assert isinstance(parser, CommandParser)
        for command in parser.commands():
            for action in command._actions:
                if action.type is Path or action.dest in ("data", "recipe", "space", "architecture"):
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell))
        parser.exit()


def add_completion(parser: CommandParser) -> None:
    """A flag that prints the completion for a shell."""
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh", "tcsh"),
        metavar="SHELL",
        help="print the completion of commands and flags for bash, zsh or tcsh and exit",
    )


def _required(action: argparse.Action) -> str:
    name = action.metavar or action.dest.upper()
    value = name if isinstance(name, str) else " ".join(name)
    return f"{action.option_strings[-1]} {value}" if action.option_strings else value


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The end of a sentence that names what was probably meant; empty if nothing is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""

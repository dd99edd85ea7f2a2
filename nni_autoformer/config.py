"""Configuration as data: each field of a configuration class says its kind, its range and what it is for.
Flags of the command line, keys of files, checks and messages are all made from that one table, and a default
is written once.
"""

from __future__ import annotations

import math
import reprlib
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any

from .errors import ConfigError
from .files import read_yaml


@dataclass(frozen=True)
class Check:
    """The range of a value.

    Attributes:
        fits: whether a value is in the range.
        words: the range in words.
        choices: all values, where they can be listed.
    """

    fits: Callable[[Any], bool]
    words: str
    choices: tuple[str, ...] = ()


ANY = Check(lambda value: True, "")
POSITIVE = Check(lambda value: value > 0, "above 0")
NOT_NEGATIVE = Check(lambda value: value >= 0, "0 or more")
SHARE = Check(lambda value: 0 <= value <= 1, "from 0 to 1")
BELOW_ONE = Check(lambda value: 0 <= value < 1, "from 0 to below 1")

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", tuple: "two numbers"}


def at_least(low: float) -> Check:
    """Values from `low` on."""
    return Check(lambda value: value >= low, f"at least {low}")


def one_of(*names: str) -> Check:
    """One of some words."""
    return Check(lambda value: value in names, f"one of {', '.join(names)}", names)


def setting(
    default: Any,
    text: str,
    check: Check = ANY,
    group: str = "",
    metavar: str = "",
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """A field of a configuration class.

    Args:
        default: value of who says nothing; None means what `text` says, or off.
        text: what the field is for, as the flag's help.
        check: range of the value; None is always in it where the field's type allows None.
        group: heading of the flag in the help.
        metavar: name of the flag's value in the help.
        parse: function from the command line's text to the value, for a field of another kind than those in
            `KINDS`; its ValueError says what would be right.
    """
    metadata = {"text": text, "check": check, "group": group, "metavar": metavar, "parse": parse}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """A field as the command line and the files see it.

    Attributes:
        name: name of the field.
        kind: int, float, bool, str, or tuple for two numbers.
        optional: whether None, 'none' on the command line, is a value.
        default, text, check, group, metavar, parse: as in `setting`.
    """

    name: str
    kind: type
    optional: bool
    default: Any
    text: str
    check: Check
    group: str
    metavar: str
    parse: Callable[[str], Any] | None

    @property
    def flag(self) -> str:
        """Name of the flag, without the dashes in front."""
        return self.name.replace("_", "-")

    def problem(self, value: Any) -> str:
        """What the value should be, if it is of another kind or out of its range; else nothing."""
        if value is None and self.optional:
            return ""
        try:
            value = value if self.parse is not None else self.read(value)
            return "" if self.check.fits(value) else self.check.words
        except ValueError as error:
            return str(error)
        except TypeError:
            return self.check.words or KINDS[self.kind]

    def read(self, value: Any) -> Any:
        """A value from YAML or JSON.

        Raises:
            ValueError: it is of another kind; the text says which is right.
        """
        if value is None and self.optional:
            return None
        if self.kind is tuple and isinstance(value, (list, tuple)) and len(value) == 2:
            return tuple(_number(entry) for entry in value)
        if self.kind is float:
            return _number(value)
        if self.kind is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if type(value) is self.kind and self.kind is not tuple:
            return value
        raise ValueError(KINDS[self.kind])


def _number(value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)  # YAML takes 1e-5, without a point, for text
    except (TypeError, ValueError, OverflowError):
        raise ValueError(KINDS[float]) from None
    if not math.isfinite(number):
        raise ValueError("a finite number")
    return number


def settings_of(configuration: type) -> dict[str, Setting]:
    """The settings of a configuration class, by name, in its order."""
    return _settings_of(configuration)


@lru_cache
def _settings_of(configuration: Any) -> dict[str, Setting]:
    hints = typing.get_type_hints(configuration)
    found = {}
    for entry in fields(configuration):
        if not entry.metadata:
            continue
        hint, optional = hints[entry.name], False
        if isinstance(hint, UnionType):
            kinds = [arg for arg in hint.__args__ if arg is not type(None)]
            hint, optional = kinds[0], len(kinds) < len(hint.__args__)
        kind = typing.get_origin(hint) or hint
        default = None if entry.default is MISSING else entry.default
        found[entry.name] = Setting(entry.name, kind, optional, default, **entry.metadata)
    return found


def require_ranges(configuration: Any, problems: Mapping[str, str] | None = None) -> None:
    """Check every setting of an instance of a configuration class.

    Args:
        configuration: the instance.
        problems: what else is wrong, by the names of settings: what the value should be.

    Raises:
        ConfigError: a value is of another kind or out of its range; the sentence names the flag.
    """
    entries = settings_of(type(configuration))
    found = {name: entry.problem(getattr(configuration, name)) for name, entry in entries.items()}
    for name, wanted in {**found, **(problems or {})}.items():
        if wanted:
            value = shown(getattr(configuration, name))
            raise ConfigError(f"--{entries[name].flag} is {value}; it should be {wanted}.")


def shown(value: Any, longest: int = 80) -> str:
    """A value for an error message, cut if it is long."""
    text = (
        value
        if isinstance(value, str)
        else reprlib.repr(value)
        if isinstance(value, (dict, list))
        else str(value)
    )
    return text if len(text) <= longest else f"{text[:longest]}…"


def read_values(configuration: type, path: str | Path) -> dict[str, Any]:
    """The values that a file gives for a configuration class, checked one by one.

    Raises:
        ConfigError: the file cannot be read, has an unknown key, or a value of another kind or out of its
            range; the sentence names file and key.
    """
    return checked_values(configuration, read_yaml(path), str(path))


def checked_values(configuration: type, content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check the values of a mapping, see `read_values`."""
    entries = settings_of(configuration)
    values = {}
    for key, value in content.items():
        if key not in entries:
            raise ConfigError(f"{source}: unknown key '{shown(key)}'; a recipe has {', '.join(entries)}.")
        if wanted := entries[key].problem(value):
            raise ConfigError(f"{source}: {key} is {shown(repr(value))}; it should be {wanted}.")
        values[key] = entries[key].read(value)
    return values

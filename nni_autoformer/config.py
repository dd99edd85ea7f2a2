"""The one table of a recipe's values: each field says its kind, its range and what it is for. Flags of the
command line, keys of recipe files, checks and messages are all made from it.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any

from .errors import ConfigError
from .files import read_yaml

Check = tuple[Callable[[Any], bool], str]
"""Whether a value is in its range, and the range in words."""

ANY: Check = (lambda value: True, "")
POSITIVE: Check = (lambda value: value > 0, "above 0")
NOT_NEGATIVE: Check = (lambda value: value >= 0, "0 or more")
SHARE: Check = (lambda value: 0 <= value <= 1, "from 0 to 1")
BELOW_ONE: Check = (lambda value: 0 <= value < 1, "from 0 to below 1")

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", tuple: "two numbers"}


def at_least(low: float) -> Check:
    """Values from `low` on."""
    return (lambda value: value >= low, f"at least {low}")


def one_of(*names: str) -> Check:
    """One of some words."""
    return (lambda value: value in names, f"one of {', '.join(names)}")


def setting(default: Any, text: str, check: Check = ANY, group: str = "recipe", metavar: str = "") -> Any:
    """A field of a recipe.

    Args:
        default: the value; None means what `text` says, or off.
        text: what it is for, as the flag's help.
        check: its range; None is always in it where the field's type allows None.
        group: of the help.
        metavar: name of the flag's value in the help.
    """
    metadata = {"text": text, "check": check, "group": group, "metavar": metavar}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """A field as the command line and the files see it.

    Attributes:
        name: of the field.
        kind: int, float, bool, str, or tuple for two numbers.
        optional: whether None, 'none' on the command line, is a value.
        text, check, group, metavar: as in `setting`.
    """

    name: str
    kind: type
    optional: bool
    text: str
    check: Check
    group: str
    metavar: str

    @property
    def flag(self) -> str:
        """On the command line, without the dashes in front."""
        return self.name.replace("_", "-")

    def problem(self, value: Any) -> str:
        """What the value should be, if it is out of its range; else nothing."""
        fits, words = self.check
        return "" if (value is None and self.optional) or fits(value) else words

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
        return float(value)  # YAML takes 1e-5, without a point, for text
    except (TypeError, ValueError):
        raise ValueError(KINDS[float]) from None


@lru_cache
def settings_of(recipe: type) -> dict[str, Setting]:
    """The settings of a recipe class, by name, in its order."""
    hints = typing.get_type_hints(recipe)
    settings = {}
    for entry in fields(recipe):
        hint, optional = hints[entry.name], False
        if isinstance(hint, UnionType):
            hint, optional = next(arg for arg in hint.__args__ if arg is not type(None)), True
        kind = typing.get_origin(hint) or hint
        settings[entry.name] = Setting(entry.name, kind, optional, **entry.metadata)
    return settings


def require_ranges(configuration: Any) -> None:
    """Check every setting of an instance of a configuration class.

    Raises:
        ConfigError: a value is out of its range; the sentence names the flag.
    """
    kind: type = type(configuration)
    for name, entry in settings_of(kind).items():
        if wanted := entry.problem(getattr(configuration, name)):
            raise ConfigError(f"--{entry.flag} is {getattr(configuration, name)}; it should be {wanted}.")


def read_values(recipe: type, path: str | Path) -> dict[str, Any]:
    """The values that a recipe file gives, checked one by one.

    Raises:
        ConfigError: the file cannot be read, has an unknown key, or a value of another kind or out of its
            range; the sentence names file and key.
    """
    return checked_values(recipe, read_yaml(path), str(path))


def checked_values(recipe: type, content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check the values of a mapping, see `read_values`."""
    settings = settings_of(recipe)
    values = {}
    for key, value in content.items():
        if key not in settings:
            raise ConfigError(f"{source}: unknown key '{key}'; a recipe has {', '.join(settings)}.")
        try:
            values[key] = settings[key].read(value)
            wanted = settings[key].problem(values[key])
        except ValueError as error:
            wanted = str(error)
        if wanted:
            raise ConfigError(f"{source}: {key} is {value!r}; it should be {wanted}.")
    return values

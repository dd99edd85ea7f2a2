"""The file that a search goes on from: written atomically with a checksum, and read by one function that
checks everything.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..architecture import Architecture
from ..config import shown
from ..errors import ConfigError
from ..files import told_when_full, write_text

CHECKSUM = "checksum"


def write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write a state, atomically.

    Args:
        path: the file.
        content: JSON values by key; a checksum of them is added.

    Raises:
        ConfigError: the disk is full, or cannot be written.
    """
    # in one line: Python indents ten times slower, and this is written after every answer
    text = json.dumps(content)
    with told_when_full(path):
        write_text(path, f'{text[:-1]}, "{CHECKSUM}": "{_checksum(text)}"}}\n')


def read_state(path: Path) -> dict[str, Any]:
    """The content of a state.

    Raises:
        ConfigError: the file cannot be read, is damaged, or is not as `write_state` writes it; the sentence
            names file and key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f"it cannot be read as JSON ({shown(error)})") from None
    if not isinstance(content, dict):
        raise _damaged(path, "it should hold keys with values")
    checksum = content.pop(CHECKSUM, None)  # earlier versions wrote none
    if checksum is not None and checksum != _checksum(json.dumps(content)):
        raise _damaged(path, "its content does not match its checksum")
    _Border(path).state(content)
    return content


def _checksum(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _damaged(path: Path, problem: str) -> ConfigError:
    return ConfigError(
        f"{path}: the search's state is damaged: {problem}. Put back a copy of it, or delete it: the search "
        "then begins again with the same candidates."
    )


Check = Callable[[Any], bool]


class _Border:
    """Checks a state key by key; behind it every value has its type and is in its range."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def state(self, content: Mapping[str, Any]) -> None:
        evolution = self._mapping(content, "evolution", "")
        setting = self._mapping(evolution, "setting", "evolution.")
        for part in setting:
            self._mapping(setting, part, "evolution.setting.")
        last = self._value(evolution, "generation", "evolution.", _is_count, "a whole number from 0")
        self._value(evolution, "closed", "evolution.", _is_flag, "true or false")
        candidates = self._value(evolution, "candidates", "evolution.", _is_list, "a list")
        self._candidates(candidates, last)
        details, numbers = self._mapping(content, "details", ""), set(map(str, range(len(candidates))))
        for number in details:
            if number not in numbers:
                raise self._wrong("a key of details", number, "a candidate's number")
            self._mapping(details, number, "details.")
        contents = self._mapping({"contents": {}, **content}, "contents", "")
        for name in contents:
            self._value(contents, name, "contents.", _is_text, "text")

    def _candidates(self, candidates: list[Any], last: int) -> None:
        seen: set[Architecture] = set()
        before = 0
        for number, entry in enumerate(candidates):
            place = f"evolution.candidates[{number}]"
            if not isinstance(entry, dict):
                raise self._wrong(place, entry, "a candidate")
            place += "."
            generation = self._value(entry, "generation", place, _is_count, "a whole number from 0")
            if not before <= generation <= last:
                raise self._wrong(f"{place}generation", generation, f"from {before} to {last}")
            before = generation
            self._value(entry, "origin", place, _is_text, "text")
            source = f"{self.path}: {place}architecture"
            architecture = Architecture.from_dict(self._layers(entry, place), source)
            if architecture in seen:
                raise ConfigError(f"{source} stands there a second time.")
            seen.add(architecture)
            self._answer({"failed": False, "loss": None, **entry}, place)

    def _layers(self, entry: Mapping[str, Any], place: str) -> dict[str, Any]:
        architecture = self._mapping(entry, "architecture", place)
        for key in ("num_heads", "mlp_ratio"):  # one number for all layers is for people who write by hand
            self._value(architecture, key, f"{place}architecture.", _is_list, "a list")
        return architecture

    def _answer(self, entry: Mapping[str, Any], place: str) -> None:
        accuracy = self._value(entry, "accuracy", place, _is_finite, "a number, or null")
        failed = self._value(entry, "failed", place, _is_flag, "true or false")
        self._value(entry, "loss", place, _is_finite, "a number, or null")
        if accuracy is not None and failed:
            raise ConfigError(f"{self.path}: {place[:-1]} should have an accuracy or 'failed', or neither.")

    def _mapping(self, content: Mapping[str, Any], key: str, place: str) -> dict[str, Any]:
        return self._value(content, key, place, lambda value: isinstance(value, dict), "keys with values")

    def _value(self, content: Mapping[str, Any], key: str, place: str, fits: Check, wanted: str) -> Any:
        if key not in content:
            raise ConfigError(f"{self.path}: the key '{place}{key}' is missing; it should be {wanted}.")
        if not fits(content[key]):
            raise self._wrong(f"{place}{key}", content[key], wanted)
        return content[key]

    def _wrong(self, place: str, value: Any, wanted: str) -> ConfigError:
        return ConfigError(f"{self.path}: {shown(place)} is {shown(repr(value))}; it should be {wanted}.")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_finite(value: Any) -> bool:
    try:
        return value is None or (type(value) in (int, float) and math.isfinite(value))
    except OverflowError:  # a whole number beyond all floating-point ones
        return False

"""The file of a latency table, checked to the last value: kind, range, size, completeness and checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

from .architecture import Architecture, is_integer, is_number
from .config import settings_of, shown
from .errors import ConfigError
from .files import read_yaml
from .latency_values import Conditions, Deviation, Measured, Parts
from .space import SearchSpace

FORMAT = "nni-autoformer latency 1"
"""Value of the key `format`."""

LONGEST = 1e7
"""Milliseconds of the slowest part that is believed, almost three hours."""

KEYS = (
    *("format", "date", "machine", "versions", "conditions", "space", "offset", "factor", "error", "parts"),
    *("subnets", "checksum"),
)

SHAPE = {"embed_dim": True, "num_heads": True, "mlp_ratio": False}
"""The keys of a block's shape, and whether the value is a whole number."""

MACHINE = ("processor", "cores", "gpu")


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of a table's content without its checksum, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def checked(path: str | Path) -> dict[str, Any]:
    """The attributes of the table that a file holds, by name.

    Raises:
        ConfigError: as `LatencyTable.load`.
    """
    content, source = read_yaml(path), str(path)
    if content.get("format") != FORMAT:
        raise ConfigError(
            f"{source}: format is {shown(repr(content.get('format')))}; a latency table, as nni-autoformer "
            f"latency writes it, has '{FORMAT}'."
        )
    found = _Reader(source).attributes(content)
    if content.pop("checksum") != checksum(content):
        raise ConfigError(
            f"{source}: checksum does not fit the content: the file is damaged or was edited. Measure anew "
            "with nni-autoformer latency."
        )
    return found


class _Reader:
    """Reads the content of a table's file.

    Args:
        source: the file, for error messages.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    def attributes(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """What the table is made of."""
        self._keys(content, KEYS, "")
        self._text(content["checksum"], "checksum")
        space = SearchSpace.from_dict(self._mapping(content["space"], "space"), f"{self.source}: space")
        return {
            "space": space,
            "conditions": self._conditions(content["conditions"]),
            "parts": self._parts(content["parts"], space),
            "offset": self._number(content["offset"], "offset", -LONGEST, LONGEST),
            "factor": self._number(content["factor"], "factor", 1e-3, 1e3),
            "error": self._error(content["error"]),
            "subnets": self._subnets(content["subnets"], space),
            "machine": self._machine(content["machine"]),
            "versions": self._texts(content["versions"], "versions"),
            "date": self._text(content["date"], "date"),
        }

    def _conditions(self, value: Any) -> Conditions:
        content, entries = self._mapping(value, "conditions"), settings_of(Conditions)
        self._keys(content, entries, "conditions.")
        for key, entry in entries.items():
            if wanted := entry.problem(content[key]):
                self._fail(f"conditions.{key}", content[key], wanted)
        return Conditions(**{key: entry.read(content[key]) for key, entry in entries.items()})

    def _parts(self, value: Any, space: SearchSpace) -> Parts:
        content = self._mapping(value, "parts")
        self._keys(content, ("stem", "head", "blocks"), "parts.")
        sizes = [(embed,) for embed in space.embed_dim]
        shapes = list(product(space.embed_dim, space.num_heads, space.mlp_ratio))
        stem, head = (
            {key[0]: time for key, time in self._timed(content[name], f"parts.{name}", sizes).items()}
            for name in ("stem", "head")
        )
        return Parts(stem, head, self._timed(content["blocks"], "parts.blocks", shapes))

    def _timed(self, value: Any, where: str, wanted: list) -> dict[Any, Measured]:
        """The times of a list of parts, by what tells the parts apart; each that is wanted, once."""
        names, found = list(SHAPE)[: len(wanted[0])], {}
        for number, entry in enumerate(self._list(value, where)):
            place = f"{where}[{number}]"
            content = self._mapping(entry, place)
            self._keys(content, (*names, "ms", "low", "high"), f"{place}.")
            key = []
            for name in names:
                if not (is_integer if SHAPE[name] else is_number)(content[name]):
                    self._fail(f"{place}.{name}", content[name], "one of the space's choices")
                key.append(int(content[name]) if SHAPE[name] else float(content[name]))
            if tuple(key) not in wanted or tuple(key) in found:
                told = ", ".join(f"{name} {part:g}" for name, part in zip(names, key))
                kind = "stands there twice" if tuple(key) in found else "is no part of the table's space"
                raise ConfigError(f"{self.source}: {place}: {told} {kind}.")
            found[tuple(key)] = self._measured(content, place)
        for key in wanted:
            if key not in found:
                told = ", ".join(f"{name} {part:g}" for name, part in zip(names, key))
                raise ConfigError(f"{self.source}: {where} has no entry for {told}.")
        return {key: found[key] for key in wanted}

    def _measured(self, content: Mapping[str, Any], where: str) -> Measured:
        low, median, high = (
            self._number(content[key], f"{where}.{key}", 0, LONGEST, above=True)
            for key in ("low", "ms", "high")
        )
        if not low <= median <= high:
            self._fail(f"{where}.ms", median, f"from low to high, {low:g} to {high:g}")
        return Measured(median, low, high)

    def _error(self, value: Any) -> Deviation:
        content = self._mapping(value, "error")
        self._keys(content, ("subnets", "median", "p95", "kendall_tau"), "error.")
        subnets = self._number(content["subnets"], "error.subnets", 1, 1e6)
        median, p95 = (self._number(content[key], f"error.{key}", 0, 1e6) for key in ("median", "p95"))
        tau = self._number(content["kendall_tau"], "error.kendall_tau", -1, 1)
        return Deviation(int(subnets), median, p95, tau)

    def _subnets(self, value: Any, space: SearchSpace) -> dict[Architecture, Measured]:
        found = {}
        for number, entry in enumerate(self._list(value, "subnets")):
            place = f"subnets[{number}]"
            content = self._mapping(entry, place)
            self._keys(content, ("architecture", "ms", "low", "high"), f"{place}.")
            where = f"{self.source}: {place}.architecture"
            architecture = Architecture.from_dict(content["architecture"], where)
            found[space.require(architecture, where)] = self._measured(content, place)
        return found

    def _machine(self, value: Any) -> dict[str, Any]:
        content = self._mapping(value, "machine")
        self._keys(content, MACHINE, "machine.")
        self._text(content["processor"], "machine.processor")
        self._number(content["cores"], "machine.cores", 1, 1e6)
        if content["gpu"] is not None:
            self._text(content["gpu"], "machine.gpu")
        return content

    # One value

    def _fail(self, key: str, value: Any, wanted: str) -> NoReturn:
        raise ConfigError(f"{self.source}: {key} is {shown(repr(value))}; it should be {wanted}.")

    def _keys(self, content: Mapping[str, Any], keys: Collection[str], prefix: str) -> None:
        for key in keys:
            if key not in content:
                raise ConfigError(f"{self.source}: the key '{prefix}{key}' is missing.")
        for key in content:
            if key not in keys:
                raise ConfigError(
                    f"{self.source}: unknown key '{prefix}{shown(key)}'; known here are {', '.join(keys)}."
                )

    def _number(self, value: Any, key: str, least: float, most: float, above: bool = False) -> float:
        if not is_number(value) or not least <= value <= most or (above and value == least):
            low = f"above {least:g}" if above else f"at least {least:g}"
            self._fail(key, value, f"a number {low}, up to {most:g}")
        return float(value)

    def _text(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not value or not value.isprintable():
            self._fail(key, value, "a text of one line")
        return value

    def _texts(self, value: Any, key: str) -> dict[str, str]:
        content = self._mapping(value, key)
        return {str(name): self._text(entry, f"{key}.{name}") for name, entry in content.items()}

    def _mapping(self, value: Any, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._fail(key, value, "keys with values")
        return value

    def _list(self, value: Any, key: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            self._fail(key, value, "a list with at least one entry")
        return value

"""Results of subnets and of other networks, read from whatever file they are in, for tables and figures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..architecture import Architecture
from ..costs import KNOWN
from ..errors import ConfigError
from ..files import parse_json, read_json, read_text, real_path

CANDIDATES, SAMPLES, BEST = "candidates.jsonl", "samples.jsonl", "best.yaml"
"""What a search and a sample leave in their folders, and the winner of a search."""

PEERS = Path(__file__).with_name("peers.csv")
"""Published results of other networks on ImageNet, with their sources."""

TIMM_COLUMNS: dict[str, dict[str, float]] = {
    "params": {"param_count": 1e6},
    "macs": {"gmacs": 1e9, "infer_gmacs": 1e9},
}
"""Names of a column in timm's tables (`results-imagenet.csv`), and what one of it is."""

COLUMNS: dict[str, dict[str, float]] = {
    **{
        name: {name: 1, f"{name}_{cost.unit.lower()}": cost.scale, **TIMM_COLUMNS.get(name, {})}
        for name, cost in KNOWN.items()
    },
    "top1": {"top1": 1, "accuracy": 1},
}
"""Names of a column, and what one of it is."""

LEAST_COUNT = 100
"""A smaller number under a count's name is in millions or billions."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Result:
    """One network.

    Attributes:
        top1: accuracy in percent.
        costs: counts of the network by the names in `costs.KNOWN`, where they are known.
        name: name of the network; empty for one of many subnets.
        family: networks of one family are joined by a line.
        given: the user asked for this one by name.
        loss: mean cross-entropy on the same images, where it is known.
        winner: a search has chosen it.
    """

    top1: float
    costs: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    family: str = ""
    given: bool = False
    loss: float | None = None
    winner: bool = False


@dataclass(frozen=True)
class Series:
    """Results from one place.

    Attributes:
        label: text for the legend.
        results: at least one result, in the place's order.
        kind: 'search', 'sample' or 'table'.
        split: the images that accuracies are on, if the place says so: 'selection' or 'test'.
    """

    label: str
    results: tuple[Result, ...]
    kind: str = "table"
    split: str = ""

    def best(self) -> Result:
        """The winner of a search; else the most accurate, of equal ones that of the lower loss, or the
        first.
        """
        return min(
            self.results,
            key=lambda result: (
                not result.winner,
                -result.top1,
                math.inf if result.loss is None else result.loss,
            ),
        )


def pareto(items: Iterable[Item], cost: Callable[[Item], float], accuracy: Callable[[Item], float]) -> list:
    """The items that none is both as cheap and more accurate, or cheaper and as accurate; cheapest first."""
    from ..search.front import front  # with NumPy, which the command line does without

    known = list(items)
    points = [(cost(item), -accuracy(item)) for item in known]
    return [known[place] for place in front(points)] if known else []


# Reading


def read_peers() -> list[Result]:
    """Published results of other networks on ImageNet."""
    return list(read_series(str(PEERS)).results)


def read_series(word: str) -> Series:
    """Results from a folder that a search, a demo or a sample has written, or from a .jsonl, .json or .csv
    file.

    A file has one row per network with the keys `params` (a count; in millions `params_m`), `macs` (a count;
    in billions `macs_g`), `memory` (bytes; in megabytes `memory_mb`), `latency` (milliseconds), `top1` in
    percent (or `accuracy`), and where wanted `name` (or `model`) and `family`; timm's `param_count`, `gmacs`
    and `infer_gmacs` are known too. Lines of a .csv file that begin with a # are remarks.

    Args:
        word: the path, or LABEL=PATH.

    Raises:
        ConfigError: there is no such place, or nothing that can be read as results; the sentence names file
            and row.
    """
    path, label = Path(word), ""
    if not path.exists() and "=" in word:
        label, _, rest = word.partition("=")
        path = Path(rest)
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder of results.")
    kind, file = _file_of(path)
    rows = _rows(file)
    # a candidate that was given up has no accuracy, and one that was stopped early has none on all images
    whole = [(row, where) for row, where in rows if not row.get("failed") and not row.get("stopped")]
    winner = _winner(file.parent) if kind == "search" else None
    results = [_result(row, where, kind, winner) for row, where in whole]
    if not results:
        raise ConfigError(f"{file}: there are no results in it.")
    split = "selection" if kind == "search" else str(rows[0][0].get("split") or "")
    return Series(label or _label(path), tuple(results), kind, split)


def _winner(folder: Path) -> dict[str, Any] | None:
    """The architecture that a finished search has chosen, by whatever it ranked by."""
    try:
        return Architecture.from_yaml(folder / BEST).to_dict()
    except (ConfigError, OSError):
        return None


def _label(path: Path) -> str:
    return real_path(path).name if path.is_dir() else path.stem


def _file_of(path: Path) -> tuple[str, Path]:
    kinds = {CANDIDATES: "search", SAMPLES: "sample"}
    if not path.is_dir():
        return kinds.get(path.name, "table"), path
    for name, kind in kinds.items():
        if (path / name).is_file():
            return kind, path / name
    raise ConfigError(
        f"{path}: the folder holds no results: neither {CANDIDATES} of a search nor {SAMPLES} of a finished "
        "sample."
    )


def _rows(file: Path) -> list[tuple[Mapping[str, Any], str]]:
    """The rows with their places, for messages."""
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}
    if file.suffix not in readers:
        raise ConfigError(f"{file}: results are read from .jsonl, .json and .csv files, and folders of runs.")
    return readers[file.suffix](file)


def _text(file: Path) -> str:
    try:
        return read_text(file, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the file cannot be read as text ({error}).") from None


def _jsonl(file: Path) -> list[tuple[Mapping[str, Any], str]]:
    rows = []
    for number, line in enumerate(_text(file).splitlines(), start=1):
        where = f"{file}, line {number}"
        try:
            content = parse_json(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: this is not valid JSON ({str(error)[:100]}).") from None
        if content is not None:
            rows.append((_mapping(content, where), where))
    return rows


def _json(file: Path) -> list[tuple[Mapping[str, Any], str]]:
    content = read_json(file)
    entries = content if isinstance(content, list) else [content]
    places = [f"{file}, entry {number}" for number in range(1, len(entries) + 1)]
    return [(_mapping(entry, where), where) for entry, where in zip(entries, places)]


def _csv(file: Path) -> list[tuple[Mapping[str, Any], str]]:
    lines = [(number, line) for number, line in enumerate(_text(file).splitlines(), start=1) if line.strip()]
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    reader = csv.DictReader(io.StringIO("\n".join(line for _, line in lines)))
    try:
        names = list(reader.fieldnames or ())
        if twice := [name for name in names if name and names.count(name) > 1]:
            raise ConfigError(f"{file}: the column '{twice[0]}' stands there twice.")
        return [(row, f"{file}, line {number}") for row, (number, _) in zip(reader, lines[1:])]
    except csv.Error as error:
        raise ConfigError(f"{file}, line {reader.line_num}: this is no CSV ({error}).") from None


def _mapping(content: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: a result should have keys with values, such as params and top1.")
    return content


def _result(row: Mapping[str, Any], where: str, kind: str, winner: Mapping[str, Any] | None) -> Result:
    top1 = _number(row, "top1", where)
    if top1 is None:
        raise ConfigError(f"{where}: the accuracy is missing; give it in percent under 'top1'.")
    if not 0 <= top1 <= 100:
        raise ConfigError(f"{where}: top1 is {top1:g}; it should be in percent, from 0 to 100.")
    given = row.get("origin") == "given"
    name = str(row.get("name") or row.get("model") or "") if kind == "table" or given else ""
    numbers = {key: _number(row, key, where) for key in KNOWN}
    costs = {key: number for key, number in numbers.items() if number is not None}
    loss = row.get("loss") if kind != "table" else None
    return Result(
        top1,
        costs,
        name=name,
        family=str(row.get("family") or ""),
        given=given,
        loss=loss if isinstance(loss, (int, float)) else None,
        winner=winner is not None and row.get("architecture") == winner,
    )


def _number(row: Mapping[str, Any], key: str, where: str) -> float | None:
    for name, unit in COLUMNS[key].items():
        value = row.get(name)
        if value is None or value == "":
            continue
        try:
            number = float(str(value).replace(",", "")) * unit
        except ValueError:
            number = float("nan")
        if isinstance(value, bool) or not abs(number) < float("inf"):
            raise ConfigError(f"{where}: {name} is {value!r}; it should be a number.")
        if unit == 1 and _is_count(key) and number < LEAST_COUNT:
            unit_name = KNOWN[key].unit
            raise ConfigError(
                f"{where}: {name} is {value}; it should be a count. Give numbers in {unit_name} under "
                f"{key}_{unit_name.lower()}."
            )
        return number
    return None


def _is_count(key: str) -> bool:
    return key in KNOWN and KNOWN[key].scale > 1


# Writing


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as the text of a CSV file; a list is written as its numbers with spaces between."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = (row.get(column) for column in columns)
        writer.writerow([" ".join(map(str, v)) if isinstance(v, (list, tuple)) else v for v in values])
    return text.getvalue()

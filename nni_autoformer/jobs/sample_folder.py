"""What a sample of random subnets leaves on disk, and how it goes on after a kill."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..architecture import KEYS
from ..costs import COST_NAMES, COSTS, Costs
from ..errors import ConfigError
from ..files import append_line, told_when_full, write_text
from ..report.results import SAMPLES, pareto, to_csv
from ..search.random_subnets import SampledSubnet, best_of_sizes, with_accuracy
from ..space import SearchSpace
from .evaluate import SPLITS

PART = "samples.{}.jsonl"
"""The answers of one process; a finished sample has none."""

ARCHITECTURES = "architectures"

CHECKSUM = "checksum"

NAMED, MEASURED = ("number", "origin", "name"), ("top1", "top5", "images", "loss", "split")
COLUMNS = {*NAMED, *COST_NAMES, *MEASURED, "architecture", "accuracy", "failed", CHECKSUM}
"""What stands in a line of answers."""


class SampleFolder:
    """The files of one sample.

    Each process appends its answers to a file of its own and makes sure that they reach the disk, so a kill
    at any moment costs the answer that is being written and no other. `collect` puts all of them into
    `samples.jsonl` atomically.

    Args:
        folder: existing folder that the files go to.
        subnets: what is evaluated.
        space: search space of the subnets.
        costs: what is known of a subnet's costs.
    """

    def __init__(
        self,
        folder: str | Path,
        subnets: Sequence[SampledSubnet],
        space: SearchSpace,
        costs: Costs = COSTS,
    ) -> None:
        self.folder = Path(folder)
        self.subnets = subnets
        self.space = space
        self.costs = costs
        self._row = (*NAMED, *KEYS, *costs, *MEASURED)
        self._size = ("from", "to", "subnets", "mean", "std", "number", *KEYS, *costs, "top1", "top5", "loss")

    def record(self, rank: int, subnet: SampledSubnet, found: Mapping[str, Any]) -> None:
        """Store what was measured of a subnet.

        Args:
            rank: the process that has measured it.
            subnet: which one.
            found: accuracies, as JSON values; null, with 'failed', for a subnet that has none.

        Raises:
            ConfigError: the disk is full, or cannot be written.
        """
        row = {**subnet.row(self.space, self.costs), "accuracy": found["top1"], **found}
        path = self.folder / PART.format(rank)
        with told_when_full(path):
            append_line(path, _line(row), to_disk=True)

    def collect(self) -> list[dict[str, Any]]:
        """The answers of all processes, also those of earlier runs, in the order of the subnets; they are in
        one file then. Nobody else may be writing.

        Raises:
            ConfigError: a file is damaged, or holds answers of other subnets.
        """
        parts = sorted(self.folder.glob(PART.format("*")))
        answers: dict[int, dict[str, Any]] = {}
        for file in (self.folder / SAMPLES, *parts):
            for row in _read(file):
                self._require_mine(row, file)
                subnet = self.subnets[row["number"]]
                answers[row["number"]] = {**subnet.row(self.space, self.costs), **row}
        rows = [answers[number] for number in sorted(answers)]
        if parts:
            self._write(SAMPLES, "".join(_line(row) + "\n" for row in rows))
        for file in parts:
            file.unlink()
        return rows

    def _require_mine(self, row: Mapping[str, Any], file: Path) -> None:
        number = row.get("number")
        mine = self.subnets[number] if type(number) is int and 0 <= number < len(self.subnets) else None
        if mine is None or row.get("architecture") != mine.architecture.to_dict():
            raise ConfigError(
                f"{file}: the answers are of other subnets than this run's; give another --output."
            )

    def tables(self, rows: Sequence[dict[str, Any]], sizes: int) -> tuple[list[dict], list[dict]]:
        """The two short tables of a sample.

        Args:
            rows: all answers.
            sizes: about how many sizes the best are wanted of.

        Returns:
            The best of each size, see `best_of_sizes`, and the rows of the Pareto front over parameters.

        Raises:
            ConfigError: no random subnet has an accuracy.
        """
        whole = with_accuracy(rows)
        if not any(row["origin"] == "random" for row in whole):
            raise ConfigError(
                f"{self.folder / SAMPLES}: none of the {len(rows):,} subnets has an accuracy, because their "
                "logits are NaN or infinite; has the supernet's training diverged?"
            )
        front = pareto(whole, lambda row: row["params"], lambda row: row["top1"])
        return best_of_sizes(whole, sizes), front

    def write(
        self, rows: Sequence[dict[str, Any]], best: Sequence[dict[str, Any]], front: Sequence[dict[str, Any]]
    ) -> None:
        """Write all tables, and the architectures that stand in the two short ones.

        Args:
            rows: all answers.
            best, front: short tables, see `tables`.
        """
        flat = [row | row["architecture"] for row in rows]
        self._write("samples.csv", to_csv(flat, self._row))
        self._write("sizes.json", json.dumps(list(best), indent=2) + "\n")
        self._write("sizes.csv", to_csv([_flat(entry) for entry in best], self._size))
        self._write("pareto.json", json.dumps(list(front), indent=2) + "\n")
        self._write("pareto.csv", to_csv([row | row["architecture"] for row in front], self._row))
        for row in [*(entry["best"] for entry in best), *front]:
            self._write_architecture(row)

    def _write(self, name: str, text: str) -> None:
        with told_when_full(self.folder / name):
            write_text(self.folder / name, text)

    def _write_architecture(self, row: Mapping[str, Any]) -> None:
        costs = ", ".join(f"{cost.told(row[name])} {cost.title}" for name, cost in self.costs.items())
        comment = (
            f"{row['top1']:.2f} % with inherited weights on {row['images']:,} {row['split']} images,\n"
            f"{costs} (subnet {row['number']})."
        )
        file = self.folder / ARCHITECTURES / f"{row['number']}.yaml"
        with told_when_full(file):
            model = self.space.model.to_dict()
            self.subnets[row["number"]].architecture.to_yaml(file, comment, model)


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry["best"], **entry["best"]["architecture"], **entry}


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """The answers of all processes in the order of the subnets, of a sample that may still be running; no
    file is changed.

    Raises:
        ConfigError: a file is damaged.
    """
    answers: dict[int, dict[str, Any]] = {}
    for file in (folder / SAMPLES, *sorted(folder.glob(PART.format("*")))):
        for row in _read(file):
            if type(row.get("number")) is not int:
                raise ConfigError(f"{file}: number is {row.get('number')!r}; it should be a whole number.")
            answers[row["number"]] = row
    return [answers[number] for number in sorted(answers)]


def _read(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; a kill may have cut the last one."""
    if not file.is_file():
        return []
    rows = []
    *lines, _ = file.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        row = _whole(line)
        if row is None:
            raise ConfigError(
                f"{file}, line {number}: the answers are damaged here. Delete the line, and --resume "
                "evaluates its subnet again."
            )
        rows.append(row)
    return rows


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({**row, CHECKSUM: zlib.crc32(json.dumps(row).encode())})


def _whole(line: str) -> dict[str, Any] | None:
    """The row that a line holds; None if it is not as it was written. Earlier versions wrote no checksum."""
    try:
        row = json.loads(line)
        known = isinstance(row, dict) and COLUMNS.issuperset(row)
        checksum = row.pop(CHECKSUM, None)
        sound = checksum in (None, zlib.crc32(json.dumps(row).encode()))
        return row if known and sound and _is_answer(row) else None
    except (ValueError, RecursionError, AttributeError, TypeError):
        return None


def _is_answer(row: Mapping[str, Any]) -> bool:
    numbers = [row.get("top1"), row.get("top5")]
    if row.get("failed") is True:
        return numbers == [None, None]
    shares = all(isinstance(number, (int, float)) and 0 <= number <= 100 for number in numbers)
    return shares and type(row.get("images")) is int and row["images"] > 0 and row.get("split") in SPLITS

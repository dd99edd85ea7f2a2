"""The winners of a search by a latency table, measured as whole networks.

What a table predicts is a sum of parts. So the winner of a search, or every member of its front, is measured
under the table's conditions before it is reported, and a winner that measures above the limit gives its place
to the best of the ranking that does not. All times are kept in the run's folder; which candidate has won is
read from them and from the ranking alone, so that a run that was killed, or is opened again, says the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..architecture import Architecture, is_number
from ..config import shown
from ..deployment import Target
from ..errors import ConfigError
from ..files import read_yaml, told_when_full, write_text
from ..latency_table import LatencyTable, Measured
from ..search.folder import BEST_FILE
from ..search.ledger import Candidate
from ..search.searcher import Searcher

_logger = logging.getLogger("nni_autoformer")

MEASURED_FILE = "measured.yaml"

MOST_MEASURED = 10
"""How many of the ranking are measured before the search says that none of them is within the limit."""

Measure = Callable[[LatencyTable, Sequence[Architecture]], list[Measured]]


def measure_here(table: LatencyTable, architectures: Sequence[Architecture]) -> list[Measured]:
    """Measure subnets on this machine, see `latency.measure_by_table`."""
    from ..latency import measure_by_table

    return measure_by_table(table, architectures)


def elsewhere(table: LatencyTable) -> str:
    """Why subnets cannot be measured here as the table was; empty if they can."""
    from ..latency.machine import machine
    from ..latency.runtimes import require_runtime

    try:
        require_runtime(table.conditions)
        here = machine(table.conditions)
    except ConfigError as error:
        return str(error).rstrip(".")
    return "; ".join(
        f"{_WORDS.get(name, name)} here: {here.get(name)}, where the table was measured: {value}"
        for name, value in table.machine.items()
        if here.get(name) != value
    )


_WORDS = {"gpu": "GPU"}


@dataclass(frozen=True)
class MeasuredWinners:
    """What was measured of a search's winners.

    Attributes:
        searcher: the search, complete.
        target: its deployment, with a table.
        folder: folder of the run.
        times: latencies of whole subnets in milliseconds, by the candidate's number.
        obstacle: why nothing was measured; empty where it was, or where the folder was only opened again.
    """

    searcher: Searcher
    target: Target
    folder: Path
    times: Mapping[int, Measured] = field(default_factory=dict)
    obstacle: str = ""

    @property
    def table(self) -> LatencyTable:
        """The latency table."""
        assert self.target.table is not None
        return self.target.table

    @property
    def limit(self) -> float | None:
        """The most milliseconds that are allowed."""
        return self.searcher.limits["latency"][1]

    # Taking them

    @classmethod
    def read(cls, searcher: Searcher, target: Target, folder: Path) -> MeasuredWinners:
        """What a run's folder holds; nothing is measured.

        Raises:
            ConfigError: the file is not as it was written.
        """
        path = folder / MEASURED_FILE
        times = _read(path, searcher) if path.is_file() else {}
        return cls(searcher, target, folder, times)

    @classmethod
    def take(
        cls,
        searcher: Searcher,
        target: Target,
        folder: Path,
        members: Sequence[Candidate] = (),
        measure: Measure = measure_here,
    ) -> MeasuredWinners:
        """Measure what the folder does not know yet.

        Args:
            searcher: the search, complete.
            target: its deployment, with a table.
            folder: folder of the run.
            members: members of a front, each of which is measured; none for a search with one winner.
            measure: what measures.

        Raises:
            ConfigError: the file of an earlier measurement is damaged, or a network does not run.
        """
        found = cls.read(searcher, target, folder)
        if found._open(members) and (obstacle := elsewhere(found.table)):
            found = cls(searcher, target, folder, found.times, obstacle)
            _logger.warning(found._not_measured)
            return found
        while candidates := found._open(members):
            subnets = [candidate.architecture for candidate in candidates]
            _logger.info(f"Measuring {len(subnets)} subnet{'s' * (len(subnets) > 1)} as a whole.")
            times = measure(found.table, subnets)
            numbers = [candidate.number for candidate in candidates]
            found = cls(searcher, target, folder, {**found.times, **dict(zip(numbers, times))})
            found._save()
        if found.replaced or found.above:
            _logger.warning(found._told_choice)
        return found

    def _open(self, members: Sequence[Candidate]) -> list[Candidate]:
        """Who has to be measured next."""
        if left := [member for member in members if member.number not in self.times]:
            return left[:MOST_MEASURED]  # a kill costs no more than these
        ranking = [candidate for candidate, _ in self.searcher.ledger.ranking()[:MOST_MEASURED]]
        for candidate in ranking:
            if candidate.number not in self.times:
                return [candidate]
            if not self._exceeds(candidate):
                break
        return []

    def _exceeds(self, candidate: Candidate) -> bool:
        return self.limit is not None and self.times[candidate.number].median > self.limit

    # What they say

    @property
    def winner(self) -> Candidate:
        """The best candidate that was not measured above the limit; the best one if all were."""
        ranking = [candidate for candidate, _ in self.searcher.ledger.ranking()]
        within = [entry for entry in ranking if entry.number in self.times and not self._exceeds(entry)]
        return within[0] if within else ranking[0]

    @property
    def replaced(self) -> bool:
        """Whether another candidate than the ranking's best has won."""
        return self.winner.number != self.searcher.ledger.best()[0].number

    @property
    def above(self) -> bool:
        """Whether even the winner measures above the limit."""
        return self.winner.number in self.times and self._exceeds(self.winner)

    def rows(self) -> list[tuple[str, str]]:
        """Predicted and measured, side by side, as rows of a summary."""
        if self.obstacle:
            return [("latency measured", self._not_measured)]
        winner = self.winner
        if winner.number not in self.times:
            return []
        rows = [("latency measured", f"{self._told(winner)}; {self.table.conditions.told}")]
        if self.replaced or self.above:
            rows.append(("limit of latency", self._told_choice))
        others = [number for number in sorted(self.times) if number != winner.number]
        return rows + [(f"candidate {number}", self._told(self._candidate(number))) for number in others]

    def _candidate(self, number: int) -> Candidate:
        return self.searcher.ledger[number].candidate

    def _told(self, candidate: Candidate) -> str:
        time = self.times[candidate.number]
        predicted = self.table.predicted(candidate.architecture)
        return (
            f"{time.median:.2f} ms ({time.low:.2f} to {time.high:.2f}); predicted {predicted:.2f} ms, "
            f"{100 * (predicted / time.median - 1):+.1f} %"
        )

    @property
    def _not_measured(self) -> str:
        return (
            f"not measured, because {self.obstacle}: {self.table.predicted(self.winner.architecture):.2f} ms "
            "is what the table predicts. Measure on the target: nni-autoformer latency --table "
            f"{self.target.path} --architecture {self.folder / BEST_FILE}"
        )

    @property
    def _told_choice(self) -> str:
        """Why the winner is who it is, where the limit has a part in that."""
        assert self.limit is not None
        above = [candidate for candidate in map(self._candidate, self.times) if self._exceeds(candidate)]
        if self.above:
            return (
                f"none of the best {len(above)} candidates measures within --max-latency {self.limit:g}; the "
                "best one is reported. Search again with a lower limit."
            )
        told = ", ".join(f"{entry.number} ({self.times[entry.number].median:.2f} ms)" for entry in above)
        return (
            f"candidate {self.winner.number} is the best that measures within --max-latency {self.limit:g}; "
            f"above it: {told}"
        )

    # The file

    def _save(self) -> None:
        rows = [
            {
                "candidate": number,
                "architecture": self._candidate(number).architecture.to_dict(),
                "predicted": self.table.predicted(self._candidate(number).architecture),
                "ms": time.median,
                "low": time.low,
                "high": time.high,
            }
            for number, time in sorted(self.times.items())
        ]
        head = f"# whole subnets, in milliseconds: {self.table.conditions.told}\n"
        text = yaml.safe_dump({"subnets": rows}, sort_keys=False, default_flow_style=None, width=110)
        with told_when_full(self.folder / MEASURED_FILE):
            write_text(self.folder / MEASURED_FILE, head + text)


def _read(path: Path, searcher: Searcher) -> dict[int, Measured]:
    """The times of a file.

    Raises:
        ConfigError: an entry is not as it was written, or of another search.
    """
    rows = read_yaml(path).get("subnets")
    if not isinstance(rows, list):
        raise _damaged(path, "subnets", rows)
    return dict(_entry(row, f"subnets[{place}]", path, searcher) for place, row in enumerate(rows))


def _entry(row: Any, where: str, path: Path, searcher: Searcher) -> tuple[int, Measured]:
    if not isinstance(row, dict):
        raise _damaged(path, where, row)
    number, ledger = row.get("candidate"), searcher.ledger
    if type(number) is not int or not 0 <= number < len(ledger):
        raise _damaged(path, f"{where}.candidate", number)
    if row.get("architecture") != ledger[number].candidate.architecture.to_dict():
        raise _damaged(path, f"{where}.architecture", row.get("architecture"))
    low, median, high = (
        float(row[key]) if is_number(row.get(key)) else -1.0 for key in ("low", "ms", "high")
    )
    if not 0 < low <= median <= high:
        raise _damaged(path, f"{where}.ms", row.get("ms"))
    return number, Measured(median, low, high)


def _damaged(path: Path, key: str, value: Any) -> ConfigError:
    return ConfigError(
        f"{path}: {key} is {shown(repr(value))}, which this search has not measured; the file is damaged. "
        "Delete it: --resume measures again, where the run is unfinished."
    )

"""The ledger of a search: what was proposed, and what has become of it.

One entry per candidate, with one status, is all that a search knows of it. The search algorithm proposes into
the ledger, whoever runs trials writes answers into it, and the state, the list of candidates on disk and the
ranking are read from it.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

from ..architecture import Architecture
from ..errors import ConfigError
from .ranking import Ranking

UNMEASURED: Mapping[int, float] = MappingProxyType({})
"""What is measured of candidates, by number, where nothing is."""


class Status(Enum):
    """Where a candidate stands."""

    OPEN = "waits for somebody who evaluates it"
    RUNNING = "is being evaluated"
    DONE = "has an accuracy"
    FAILED = "was given up: it has no rank and is nobody's parent"

    @property
    def answered(self) -> bool:
        """Whether nothing more is expected of the candidate."""
        return self not in (Status.OPEN, Status.RUNNING)


@dataclass(frozen=True)
class Candidate:
    """A proposed subnet.

    Attributes:
        number: position in the order of proposals, from 0.
        generation: number of the generation, from 0.
        architecture: the subnet.
        origin: how it was proposed: 'random', 'mutation', 'crossover' or 'surrogate'.
    """

    number: int
    generation: int
    architecture: Architecture
    origin: str


@dataclass
class Entry:
    """What is known of a candidate.

    Attributes:
        candidate: the proposal.
        status: status of the candidate.
        accuracy: what it ranks by, in percent; None unless it is done.
        details: whatever else was measured, as JSON values; the mean cross-entropy under 'loss'.
        attempts: trials of it that have failed in this process.
        deadline: until when, by `time.monotonic`, the result of a trial that has ended well is waited for.
    """

    candidate: Candidate
    status: Status = Status.OPEN
    accuracy: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    deadline: float | None = None

    @property
    def loss(self) -> float | None:
        """The mean cross-entropy; None if it is not known, as of trials that report none."""
        loss = self.details.get("loss")  # a trial may report anything
        if not isinstance(loss, (int, float)) or isinstance(loss, bool):
            return None
        return float(loss) if abs(loss) <= sys.float_info.max else None


class Ledger:
    """The candidates of one search, in the order of proposal.

    Args:
        key: sorts entries that have an accuracy, best first.
    """

    def __init__(self, key: Callable[[Entry], Any] = Ranking()) -> None:
        self._key = key
        self._entries: list[Entry] = []
        self._numbers: dict[Architecture, int] = {}
        self._counts: Counter[Status] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __contains__(self, architecture: Architecture) -> bool:
        """Whether an architecture was proposed."""
        return architecture in self._numbers

    def __getitem__(self, number: int) -> Entry:
        """The entry of a candidate.

        Raises:
            ValueError: there is no such candidate.
        """
        if not 0 <= number < len(self._entries):
            raise ValueError(f"No candidate has the number {number}.")
        return self._entries[number]

    def find(self, architecture: Architecture) -> Entry | None:
        """The entry of the candidate that has proposed an architecture, if one has."""
        number = self._numbers.get(architecture)
        return None if number is None else self._entries[number]

    def of(self, status: Status) -> list[Entry]:
        """The entries that stand so, in the order of proposal."""
        return [entry for entry in self._entries if entry.status is status] if self._counts[status] else []

    @property
    def told(self) -> int:
        """Number of candidates with an accuracy."""
        return self._counts[Status.DONE]

    @property
    def failed(self) -> int:
        """Number of candidates that were given up."""
        return self._counts[Status.FAILED]

    @property
    def answered(self) -> int:
        """Number of candidates that nothing more is expected of."""
        return self.told + self.failed

    def ranking(self) -> list[tuple[Candidate, float]]:
        """All candidates with an accuracy, of all generations, best first."""
        done = sorted((entry for entry in self._entries if entry.accuracy is not None), key=self._key)
        return [(entry.candidate, entry.accuracy) for entry in done if entry.accuracy is not None]

    def best(self) -> tuple[Candidate, float]:
        """The best candidate and its accuracy.

        Raises:
            ValueError: no candidate has an accuracy yet.
        """
        if not self.told:
            raise ValueError("No candidate has an accuracy yet.")
        return self.ranking()[0]

    # A candidate's way

    def add(self, generation: int, architecture: Architecture, origin: str) -> Candidate:
        """Enter a proposal, which is open."""
        candidate = Candidate(len(self._entries), generation, architecture, origin)
        self._entries.append(Entry(candidate))
        self._numbers[architecture] = candidate.number
        self._counts[Status.OPEN] += 1
        return candidate

    def start(self, number: int) -> Candidate:
        """Note that somebody evaluates a candidate, so that it is not handed out a second time."""
        self._move(self._unanswered(number), Status.RUNNING)
        return self._entries[number].candidate

    def reopen(self, number: int) -> None:
        """Note that a candidate has to be evaluated once more."""
        self._move(self._unanswered(number), Status.OPEN)

    def tell(self, number: int, accuracy: float, details: Mapping[str, Any] | None = None) -> Entry:
        """Say how good a candidate is; higher is better.

        Args:
            number: number of the candidate.
            accuracy: what it ranks by.
            details: whatever else was measured.

        Raises:
            ValueError: there is no such candidate, it has an answer already, or the accuracy is NaN.
        """
        entry = self._unanswered(number)
        if math.isnan(accuracy):
            raise ValueError(f"The accuracy of candidate {number} is NaN.")
        entry.accuracy, entry.details = float(accuracy), {**entry.details, **(details or {})}
        return self._move(entry, Status.DONE)

    def fail(self, number: int) -> Entry:
        """Give a candidate up; raises as `tell`."""
        return self._move(self._unanswered(number), Status.FAILED)

    def _unanswered(self, number: int) -> Entry:
        entry = self[number]
        if entry.status.answered:
            raise ValueError(f"Candidate {number} has an answer already.")
        return entry

    def _move(self, entry: Entry, status: Status) -> Entry:
        self._counts[entry.status] -= 1
        self._counts[status] += 1
        entry.status, entry.deadline = status, None
        return entry

    # State

    def state(self) -> list[dict[str, Any]]:
        """The candidates as JSON values. What runs is open in it: after a resume nobody waits for it."""
        return [
            {
                "generation": entry.candidate.generation,
                "origin": entry.candidate.origin,
                "architecture": entry.candidate.architecture.to_dict(),
                "accuracy": entry.accuracy,
                "loss": entry.loss,
                "failed": entry.status is Status.FAILED,
            }
            for entry in self._entries
        ]

    @classmethod
    def from_state(
        cls, state: Sequence[Mapping[str, Any]], key: Callable[[Entry], Any] = Ranking()
    ) -> Ledger:
        """The ledger that `state` was taken of.

        Args:
            state: its state.
            key: as for `Ledger`.

        Raises:
            ConfigError: an earlier version has stopped a candidate early, so it has no accuracy to rank by.
        """
        ledger = cls(key)
        for values in state:
            if values.get("stopped"):
                raise ConfigError(
                    f"candidate {len(ledger)} was stopped early by --racing, which this version does not "
                    "have, so it has no rank; finish the search with the version that began it, or begin a "
                    "new one."
                )
            architecture = Architecture.from_dict(values["architecture"])
            number = ledger.add(values["generation"], architecture, values["origin"]).number
            if values["accuracy"] is not None:
                loss = values.get("loss")  # earlier versions had none
                ledger.tell(number, values["accuracy"], None if loss is None else {"loss": loss})
            elif values.get("failed", False):
                ledger.fail(number)
        return ledger

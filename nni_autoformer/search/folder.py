"""What a search leaves on disk: its state after every answer, all candidates, and the best one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..complexity import cost_rows, costs_of
from ..files import read_json, write_text
from .ledger import Entry, Status
from .searcher import Searcher

STATE_FILE = "search.json"
CANDIDATES_FILE = "candidates.jsonl"
BEST_FILE = "best.yaml"


class SearchFolder:
    """The files of one search.

    The state is written by rename after every answer, or after all answers that come `together`, so a search
    that is killed goes on from its last answer. The list of candidates is appended to; after a resume it is
    written again from the state, which is the newer one.

    Args:
        folder: where the files go; made if it is missing.
        searcher: the search, whose ledger is written.
    """

    def __init__(self, folder: str | Path, searcher: Searcher) -> None:
        self.folder = Path(folder)
        self.searcher = searcher
        self._together = False

    def resume(self) -> bool:
        """Continue what the folder holds, if it holds a search; True if so.

        Raises:
            ConfigError: the state cannot be read, or is of another search.
        """
        path = self.folder / STATE_FILE
        if not path.is_file():
            # killed in its first generation, whose answers are listed before the state is written
            (self.folder / CANDIDATES_FILE).unlink(missing_ok=True)
            return False
        state = read_json(path)
        self.searcher.load_state_dict(state["evolution"])
        for number, details in state["details"].items():
            self.searcher.ledger[int(number)].details = details
        rows = [self._row(entry) for entry in self.searcher.ledger if entry.status.answered]
        write_text(self.folder / CANDIDATES_FILE, "".join(json.dumps(row) + "\n" for row in rows))
        return True

    def record(self, entry: Entry) -> None:
        """Store an answer that the ledger has just got."""
        self.save()
        self._append(self._row(entry))

    def image_evaluations(self) -> int:
        """How many images all candidates have seen together."""
        return sum(entry.details.get("images", 0) for entry in self.searcher.ledger)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the state once after all answers inside the `with` block, which is left when they are in or
        something fails; for answers that are known beforehand, so that a kill loses none.
        """
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self.save()

    def save(self) -> None:
        """Write the state, by rename."""
        if self._together:
            return
        ledger = self.searcher.ledger
        details = {str(entry.candidate.number): entry.details for entry in ledger if entry.details}
        state = {"evolution": self.searcher.state_dict(), "details": details}
        # in one line: Python indents ten times slower, and this is written after every answer
        write_text(self.folder / STATE_FILE, json.dumps(state) + "\n")

    def _append(self, row: Mapping[str, Any]) -> None:
        with open(self.folder / CANDIDATES_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def write_best(self) -> None:
        """Write the best architecture as YAML, with what is known of it at the top."""
        ledger, space = self.searcher.ledger, self.searcher.space
        candidate, accuracy = ledger.best()
        costs = ", ".join(
            f"{count} {title}" for title, count in cost_rows(candidate.architecture, space.model)
        )
        comment = (
            f"Best of {ledger.told + ledger.stopped} candidates in the space '{space.name}': "
            f"{accuracy:.2f} % on the selection images,\n"
            f"{costs} (candidate {candidate.number})."
        )
        candidate.architecture.to_yaml(self.folder / BEST_FILE, comment)

    def _row(self, entry: Entry) -> dict[str, Any]:
        candidate = entry.candidate
        row = {
            "number": candidate.number,
            "generation": candidate.generation,
            "origin": candidate.origin,
            "architecture": candidate.architecture.to_dict(),
            **costs_of(candidate.architecture, self.searcher.space.model),
            "accuracy": entry.accuracy,
            **entry.details,
        }
        marks = {Status.FAILED: {"failed": True}, Status.STOPPED: {"stopped": True}}
        return row | marks.get(entry.status, {})

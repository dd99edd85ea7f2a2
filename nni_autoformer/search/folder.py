"""What a search leaves on disk: its state after every answer, all candidates, and the best one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..complexity import cost_rows, costs_of
from ..files import read_json, write_text
from .evolution import Candidate, Evolution

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
        evolution: the search.
    """

    def __init__(self, folder: str | Path, evolution: Evolution) -> None:
        self.folder = Path(folder)
        self.evolution = evolution
        self._details: dict[str, dict[str, Any]] = {}
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
        self.evolution.load_state_dict(state["evolution"])
        self._details = state["details"]
        rows = [self._row(*entry) for entry in self.evolution.ranking()]
        rows += [self._failure_row(candidate) for candidate in self.evolution.given_up()]
        rows += [self._row(candidate, None) for candidate in self.evolution.stopped_early()]
        rows.sort(key=lambda row: row["number"])
        write_text(self.folder / CANDIDATES_FILE, "".join(json.dumps(row) + "\n" for row in rows))
        return True

    def record(self, candidate: Candidate, accuracy: float, details: Mapping[str, Any]) -> None:
        """Store an answer that the search has just been told.

        Args:
            candidate: what was evaluated.
            accuracy: what the search ranks by.
            details: whatever else was measured; goes to the candidate's line.
        """
        self._details[str(candidate.number)] = dict(details)
        self.save()
        self._append(self._row(candidate, accuracy))

    def record_failure(self, candidate: Candidate) -> None:
        """Store that a candidate has been given up."""
        self.save()
        self._append(self._failure_row(candidate))

    def record_stopped(self, candidate: Candidate, details: Mapping[str, Any]) -> None:
        """Store that a candidate has been stopped early.

        Args:
            candidate: what was evaluated.
            details: with 'stopped', and what was measured until then; go to the candidate's line.
        """
        self._details[str(candidate.number)] = dict(details)
        self.save()
        self._append(self._row(candidate, None))

    def image_evaluations(self) -> int:
        """How many images all candidates have seen together."""
        return sum(details.get("images", 0) for details in self._details.values())

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
        state = {"evolution": self.evolution.state_dict(), "details": self._details}
        # in one line: Python indents ten times slower, and this is written after every answer
        write_text(self.folder / STATE_FILE, json.dumps(state) + "\n")

    def _append(self, row: Mapping[str, Any]) -> None:
        with open(self.folder / CANDIDATES_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def write_best(self) -> None:
        """Write the best architecture as YAML, with what is known of it at the top."""
        candidate, accuracy = self.evolution.best()
        architecture, model = candidate.architecture, self.evolution.space.model
        costs = ", ".join(f"{count} {title}" for title, count in cost_rows(architecture, model))
        evaluated = self.evolution.told + self.evolution.stopped
        comment = (
            f"Best of {evaluated} candidates in the space '{self.evolution.space.name}': "
            f"{accuracy:.2f} % on the selection images,\n"
            f"{costs} (candidate {candidate.number})."
        )
        candidate.architecture.to_yaml(self.folder / BEST_FILE, comment)

    def _failure_row(self, candidate: Candidate) -> dict[str, Any]:
        return self._row(candidate, None) | {"failed": True}

    def _row(self, candidate: Candidate, accuracy: float | None) -> dict[str, Any]:
        architecture, model = candidate.architecture, self.evolution.space.model
        return {
            "number": candidate.number,
            "generation": candidate.generation,
            "origin": candidate.origin,
            "architecture": architecture.to_dict(),
            **costs_of(architecture, model),
            "accuracy": accuracy,
            **self._details.get(str(candidate.number), {}),
        }

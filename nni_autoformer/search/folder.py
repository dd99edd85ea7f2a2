"""What a search leaves on disk: its state after every answer, all candidates, and the best one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..costs import cost_rows, costs_of
from ..errors import ConfigError
from ..files import append_line, told_when_full, write_text
from .ledger import Candidate, Entry, Status
from .searcher import Searcher
from .state_file import read_state, write_state

STATE_FILE = "search.json"
CANDIDATES_FILE = "candidates.jsonl"
BEST_FILE = "best.yaml"

CONTENTS = {
    "checkpoint": "the supernet's file",
    "supernet": "the supernet's weights",
    "images": "the selection images",
    "trial images": "the images that trials evaluate on",
    "latency table": "the latency table",
}
"""What accuracies depend on beside the setting of a search, in words."""


IMAGES_CHECKSUM = "images_checksum"
"""Key of what a trial reports of the images that it has seen."""


class SearchFolder:
    """The files of one search.

    The state is written by rename after every answer, or after all answers that come `together`, so a search
    that is killed goes on from its last answer. The list of candidates is appended to; after a resume it is
    written again from the state, which is the newer one. When the disk is full, a sentence says so, and the
    files are as they were.

    Args:
        folder: folder of the files; made if it is missing.
        searcher: the search, whose ledger is written.
        contents: digests of what candidates are evaluated with, by the names in `CONTENTS`; a resume must
            find the same, where the search has recorded them.
    """

    def __init__(
        self, folder: str | Path, searcher: Searcher, contents: Mapping[str, str] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.searcher = searcher
        self.contents = dict(contents or {})
        self._together = False

    def resume(self) -> bool:
        """Continue what the folder holds, if it holds a search; True if so.

        Raises:
            ConfigError: the state cannot be read, is damaged or of another search, or what candidates were
                evaluated with has changed.
        """
        path, listed = self.folder / STATE_FILE, self.folder / CANDIDATES_FILE
        if not path.is_file():
            # killed in its first generation, whose answers are listed before the state is written
            with told_when_full(listed):
                listed.unlink(missing_ok=True)
            return False
        state = read_state(path)
        self._require_same(path, state.get("contents", {}))
        try:
            self.searcher.load_state_dict(state["evolution"])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        for number, details in state["details"].items():
            self.searcher.ledger[int(number)].details = details
        rows = [self._row(entry) for entry in self.searcher.ledger if entry.status.answered]
        with told_when_full(listed):
            write_text(listed, "".join(json.dumps(row) + "\n" for row in rows))
        return True

    def _require_same(self, path: Path, before: Mapping[str, str]) -> None:
        mine = {**before, **self.contents}
        if changed := [CONTENTS.get(name, name) for name in before if mine[name] != before[name]]:
            raise ConfigError(
                f"{path}: the search cannot be resumed, because this is no longer what it began with: "
                f"{', '.join(changed)}. New candidates could not be compared with the earlier ones; put back "
                "what was there, or begin a new search."
            )
        self.contents = mine

    def record(self, entry: Entry) -> None:
        """Store an answer that the ledger has just got."""
        self.save()
        self._append(self._row(entry))

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
        """Write the state atomically."""
        if self._together:
            return
        ledger = self.searcher.ledger
        details = {str(entry.candidate.number): entry.details for entry in ledger if entry.details}
        state = {"evolution": self.searcher.state_dict(), "details": details, "contents": self.contents}
        write_state(self.folder / STATE_FILE, state)

    def _append(self, row: Mapping[str, Any]) -> None:
        listed = self.folder / CANDIDATES_FILE
        with told_when_full(listed):
            append_line(listed, json.dumps(row))

    def write_found(self) -> None:
        """Write the best architecture, and the front of a search that trades accuracy."""
        self.write_best()
        if self.searcher.traded:
            from .front_files import write_front

            write_front(self.folder, self.searcher)

    def write_best(self, winner: Candidate | None = None) -> None:
        """Write the best architecture as YAML, with what is known of it at the top.

        Args:
            winner: who is the best in the end; None for the ranking's first.
        """
        ledger, space = self.searcher.ledger, self.searcher.space
        candidate = winner or ledger.best()[0]
        accuracy = ledger[candidate.number].accuracy
        costs = ", ".join(
            f"{count} {title}"
            for title, count in cost_rows(candidate.architecture, space.model, self.searcher.costs)
        )
        comment = (
            f"Best of {ledger.told} candidates in the space '{space.name}': "
            f"{accuracy:.2f} % on the selection images,\n"
            f"{costs} (candidate {candidate.number})."
        )
        with told_when_full(self.folder / BEST_FILE):
            candidate.architecture.to_yaml(self.folder / BEST_FILE, comment, space.model.to_dict())

    def _row(self, entry: Entry) -> dict[str, Any]:
        candidate, searcher = entry.candidate, self.searcher
        row = {
            "number": candidate.number,
            "generation": candidate.generation,
            "origin": candidate.origin,
            "architecture": candidate.architecture.to_dict(),
            **costs_of(candidate.architecture, searcher.space.model, searcher.costs),
            "accuracy": entry.accuracy,
            **entry.details,
        }
        return row | ({"failed": True} if entry.status is Status.FAILED else {})

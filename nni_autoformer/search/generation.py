"""A generation's candidates evaluated together, image batch by image batch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..architecture import Architecture
from ..bars import TEN_MINUTES, Bar
from ..files import digest
from ..model import AutoFormer
from .accuracy import Accuracy, no_accuracy
from .correctness import Correctness
from .crew import Crew
from .parts import PartEvaluator
from .searcher import Searcher

if TYPE_CHECKING:
    from .evaluator import SubnetEvaluator

OUTCOMES_FILE = "outcomes.npz"

SAVE_INTERVAL = 10.0
"""Seconds after which a generation that is still being evaluated is saved."""

PARTS = 32
"""A generation may be saved after about so many parts of the images."""


@dataclass(frozen=True)
class Verdict:
    """What has become of a candidate.

    Attributes:
        accuracy: on all images; None if it has failed, because its logits are not finite.
        error: why it failed.
    """

    accuracy: Accuracy | None
    error: str = ""


class Generations:
    """Evaluates the candidates of a search on a live supernet, a generation at a time.

    All candidates are evaluated on a part of the images, see `PartEvaluator`, then on the next part. What is
    known of a generation is saved now and then, so a search that is killed loses seconds, and ends as if it
    had not been.

    Args:
        supernet: a trained supernet; is moved to the evaluator's device and set to evaluation mode.
        evaluator: the images, and where and how to compute.
        searcher: the search.
        folder: folder that outcomes are saved in; None keeps them in memory.
        progress: show a bar per generation.
        contents: digests of supernet and images; outcomes on others are not read.
        crew: the ranks that share the candidates; None evaluates all of them here.
    """

    def __init__(
        self,
        supernet: AutoFormer,
        evaluator: SubnetEvaluator,
        searcher: Searcher,
        folder: Path | None = None,
        progress: bool = True,
        contents: Mapping[str, str] | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.evaluator, self.searcher = evaluator, searcher
        self._parts, self._crew = PartEvaluator(supernet, evaluator), crew
        self.path = None if folder is None else folder / OUTCOMES_FILE
        self.progress = progress
        images = evaluator.images
        self.outcomes = Correctness(
            len(images),
            {
                "images": digest([*images.identifiers, *map(str, images.targets.tolist())]),
                "contents": dict(contents or {}),
                "precision": evaluator.precision,
            },
        )
        if self.path is not None:
            self.outcomes.load(self.path)
        self._saved = time.monotonic()

    def evaluate(self, architectures: Sequence[Architecture]) -> list[Verdict]:
        """Evaluate candidates of one generation: all that it still has to evaluate.

        Raises:
            ConfigError: the device has too little memory.
        """
        self.outcomes.keep(architectures)
        rows = self.outcomes.rows(architectures)
        self._parts.forget_unused()
        if self._crew is not None:
            self._crew.next_generation()
        if len(self.outcomes.open_rows(rows)):
            self._finish(rows)
            self._save()
        return [self._verdict(row) for row in rows.tolist()]

    def _verdict(self, row: int) -> Verdict:
        if self.outcomes.broken[row]:
            return Verdict(None, self._error(row))
        return Verdict(self.outcomes.accuracy(row))

    def _error(self, row: int) -> str:
        number = self.searcher.ledger.find(self.outcomes.architectures[row])
        whose = "a candidate's" if number is None else f"candidate {number.candidate.number}'s"
        return no_accuracy(whose, self.evaluator.precision)

    def _finish(self, rows: np.ndarray) -> None:
        """Evaluate subnets on what they have not seen; those that have seen as many images go together."""
        outcomes, size = self.outcomes, self._parts.batch_size
        rows = outcomes.open_rows(rows)
        part = size * -(-outcomes.images // (PARTS * size))
        with self._bar(rows) as bar:
            for start in np.unique(outcomes.seen[rows]).tolist():
                together = rows[outcomes.seen[rows] == start]
                architectures = [outcomes.architectures[row] for row in together]
                while start < outcomes.images:
                    stop = min(start + part, outcomes.images)
                    self._evaluate(architectures, together, start, stop, bar)
                    outcomes.seen[together] = start = stop
                    if time.monotonic() > self._saved + SAVE_INTERVAL:
                        self._save()

    def _bar(self, rows: np.ndarray) -> Bar:
        entry = self.searcher.ledger.find(self.outcomes.architectures[rows[0]])
        name = "images" if entry is None else f"images of generation {entry.candidate.generation + 1}"
        total = int((self.outcomes.images - self.outcomes.seen[rows]).sum())
        return Bar(total, name, "evaluations", shown=self.progress, leave=False, interval=TEN_MINUTES)

    def _evaluate(
        self, architectures: Sequence[Architecture], rows: np.ndarray, start: int, stop: int, bar: Bar
    ) -> None:
        if self._crew is None:
            marks = self._parts.marks(architectures, start, stop, bar.update)
        else:
            marks = self._crew.marks(self._parts, architectures, start, stop, bar.update)
        outcomes, (right, among_five, finite) = self.outcomes, marks.named
        outcomes.first[rows, start:stop], outcomes.five[rows, start:stop] = right, among_five
        outcomes.losses[rows, start:stop] = marks.losses
        outcomes.broken[rows] |= ~finite.all(axis=1)

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.path is not None:
            self.outcomes.save(self.path)

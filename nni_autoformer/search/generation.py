"""A generation's candidates evaluated together, image batch by image batch, and raced against each other."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from .ledger import Status
from .parts import PartEvaluator
from .racing import Race, Racing
from .searcher import Searcher

if TYPE_CHECKING:
    from .evaluator import SubnetEvaluator

_logger = logging.getLogger("nni.autoformer")

OUTCOMES_FILE = "outcomes.npz"

SAVE_INTERVAL = 10.0
"""Seconds after which a generation that is still being evaluated is saved."""

PARTS = 32
"""A generation may be saved after about so many parts of the images."""


@dataclass(frozen=True)
class Verdict:
    """What has become of a candidate.

    Attributes:
        status: done, stopped, or failed: its logits are not finite, so it has no accuracy.
        accuracy: on the images that it has seen: all of them, if it is done.
        error: why it failed.
    """

    status: Status
    accuracy: Accuracy
    error: str = ""


class Generations:
    """Evaluates the candidates of a search on a live supernet, a generation at a time.

    All candidates are evaluated on a part of the images, see `PartEvaluator`, then on the next part. What is
    known of a generation is saved now and then, so a search that is killed loses seconds, and ends as if it
    had not been.

    Args:
        supernet: a trained supernet; is moved to the evaluator's device and set to evaluation mode.
        evaluator: the images, and where and how to compute.
        searcher: the search; knows the best so far.
        folder: folder that outcomes are saved in; None keeps them in memory.
        racing: stop candidates early; None evaluates each on all images.
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
        racing: Racing | None = None,
        progress: bool = True,
        contents: Mapping[str, str] | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.evaluator, self.searcher, self.racing = evaluator, searcher, racing
        self._parts, self._crew = PartEvaluator(supernet, evaluator, racing, searcher.seed), crew
        self.path = None if folder is None else folder / OUTCOMES_FILE
        self.progress = progress
        images, seed = evaluator.images, searcher.seed
        self.outcomes = Correctness(
            len(images),
            {
                "images": digest([*images.identifiers, *map(str, images.targets.tolist())]),
                "contents": dict(contents or {}),
                "precision": evaluator.precision,
                "racing": None if racing is None else asdict(racing) | {"seed": seed},
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
        generation, told = self._generation_of(architectures[0])
        best = [] if self.racing is None else self.searcher.incumbents()
        self.outcomes.keep({*best, *told, *architectures})
        best_rows, rows = self.outcomes.rows(best), self.outcomes.rows(architectures)
        self._parts.forget_unused()
        if self._crew is not None:
            self._crew.next_generation()
        self._finish(best_rows, "evaluate the best again")  # the folder may have lost them
        if len(self.outcomes.open_rows(rows)):
            if self.racing is None:
                self._finish(rows, f"images of generation {generation + 1}")
            else:
                self._race(self.racing, rows, best_rows, generation)
            self._save()
        return [self._verdict(row) for row in rows.tolist()]

    def _generation_of(self, architecture: Architecture) -> tuple[int, list[Architecture]]:
        """Number of the generation that a candidate is of, and who of it has an accuracy already."""
        ledger = self.searcher.ledger
        entry = ledger.find(architecture)
        assert entry is not None
        number = entry.candidate.generation
        done = [entry.candidate for entry in ledger.of(Status.DONE)]
        return number, [candidate.architecture for candidate in done if candidate.generation == number]

    def _verdict(self, row: int) -> Verdict:
        status = Status.STOPPED if self.outcomes.stopped[row] else Status.DONE
        if self.outcomes.broken[row]:
            status = Status.FAILED
        accuracy = Accuracy(*self.outcomes.shares(row))
        return Verdict(status, accuracy, self._error(row) if status is Status.FAILED else "")

    def _error(self, row: int) -> str:
        number = self.searcher.ledger.find(self.outcomes.architectures[row])
        whose = "a candidate's" if number is None else f"candidate {number.candidate.number}'s"
        return no_accuracy(whose, self.evaluator.precision)

    def _finish(self, rows: np.ndarray, name: str) -> None:
        rows = self.outcomes.open_rows(rows)
        with self._bar(rows, name) as bar:
            self._advance(rows, self.outcomes.images, bar)

    def _race(self, racing: Racing, rows: np.ndarray, best: np.ndarray, generation: int) -> None:
        """Race on; looks that a killed search has had already stop nobody a second time."""
        outcomes = self.outcomes
        judge = Race(racing, self.searcher.keep, outcomes.images, outcomes.first[best])
        with self._bar(outcomes.open_rows(rows), f"images of generation {generation + 1}") as bar:
            for look in racing.looks(outcomes.images):
                self._advance(outcomes.open_rows(rows), look, bar)
                active = rows[~outcomes.stopped[rows] & ~outcomes.broken[rows]]
                if look == outcomes.images:
                    break
                lost = active[judge.losers(outcomes.first[active, :look])]
                outcomes.stopped[lost], outcomes.seen[lost] = True, look
                bar.total -= len(lost) * (outcomes.images - look)
        seen, everything = int(outcomes.seen[rows].sum()), len(rows) * outcomes.images
        _logger.info(
            "Race of generation %d: %d of %d candidates stopped, %d of %d image evaluations (%.1f %%).",
            *(generation, outcomes.stopped[rows].sum(), len(rows), seen, everything, 100 * seen / everything),
        )

    def _bar(self, rows: np.ndarray, name: str) -> Bar:
        total = int((self.outcomes.images - self.outcomes.seen[rows]).sum())
        disable = not self.progress or not total
        return Bar(total, name, "evaluations", shown=not disable, leave=False, interval=TEN_MINUTES)

    def _advance(self, rows: np.ndarray, until: int, bar: Bar) -> None:
        """Evaluate subnets up to a number of images; those that have seen as many go together."""
        seen = self.outcomes.seen
        for start in np.unique(seen[rows][seen[rows] < until]).tolist():
            together = rows[seen[rows] == start]
            architectures = [self.outcomes.architectures[row] for row in together]
            size = self._parts.batch_size
            while start < until:
                stop = min(start + size * -(-self.outcomes.images // (PARTS * size)), until)
                self._evaluate(architectures, together, start, stop, bar)
                seen[together] = start = stop
                if time.monotonic() > self._saved + SAVE_INTERVAL:
                    self._save()

    def _evaluate(
        self, architectures: Sequence[Architecture], rows: np.ndarray, start: int, stop: int, bar: Bar
    ) -> None:
        if self._crew is None:
            marks = self._parts.marks(architectures, start, stop, bar.update)
        else:
            marks = self._crew.marks(self._parts, architectures, start, stop, bar.update)
        outcomes, (right, among_five, finite) = self.outcomes, marks
        outcomes.first[rows, start:stop], outcomes.five[rows, start:stop] = right, among_five
        outcomes.broken[rows] |= ~finite.all(axis=1)

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.path is not None:
            self.outcomes.save(self.path)

"""What stands between a search algorithm and who runs its trials: a memory, and patience with failures."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ..architecture import Architecture
from ..config import shown
from ..costs import KNOWN
from ..errors import ConfigError
from .folder import IMAGES_CHECKSUM, SearchFolder
from .ledger import Candidate, Entry, Ledger, Status
from .searcher import Answer, Searcher

_logger = logging.getLogger("nni.autoformer")

RETRIES = 2
"""How often a failing trial is run again before its candidate is given up."""

HOPELESS = 3
"""So many candidates given up, and none evaluated, end the search: it is not the candidates' fault."""

GRACE = 10.0
"""Seconds that the result of a trial which has ended well may still be on its way."""


class SearchDriver:
    """A search whose trials run somewhere else, in several threads or processes; safe to call from any
    thread.

    Args:
        searcher: what proposes.
        folder: folder that the state is written to after every answer; None keeps it in memory.
        retries: how often a failing trial is run again before its candidate is given up.
        on_answer: called after every answer.
        remember_proposals: write the state after every proposal too: trials that outlive this process, as
            NNI's do, are then known after a resume.
        contents: digests of what candidates are evaluated with, see `SearchFolder`.
    """

    def __init__(
        self,
        searcher: Searcher,
        folder: str | Path | None = None,
        retries: int = RETRIES,
        on_answer: Callable[[Any], Any] | None = None,
        remember_proposals: bool = False,
        contents: Mapping[str, str] | None = None,
    ) -> None:
        if type(retries) is not int or retries < 0:
            raise ConfigError(f"--retries is {retries}; it should be a whole number, 0 or more.")
        self.searcher = searcher
        self.folder = None if folder is None else SearchFolder(folder, searcher, contents)
        self.retries = retries
        self.on_answer = on_answer
        self.remember_proposals = remember_proposals
        self._lock = threading.RLock()
        self._own_contents: dict[str, str] = {}

    @property
    def _contents(self) -> dict[str, str]:
        return self._own_contents if self.folder is None else self.folder.contents

    @property
    def ledger(self) -> Ledger:
        """All candidates and their answers."""
        return self.searcher.ledger

    def resume(self) -> bool:
        """Go on with the search that the folder holds, if it holds one; True if so."""
        with self._lock:
            return self.folder is not None and self.folder.resume()

    def next(self) -> Candidate | Answer:
        """The next trial to run, one to be run again first; or that there is none now, or none any more."""
        with self._lock:
            self._give_up_waiting()
            step = self.searcher.ask()
            if isinstance(step, Candidate) and self.remember_proposals and self.folder is not None:
                self.folder.save()
            return step

    def running(self, architecture: Architecture) -> Candidate | None:
        """The candidate of a trial that somebody else has taken up again after a resume; it is not proposed
        again. None for an architecture that was never proposed, or that has its answer.
        """
        with self._lock:
            entry = self.ledger.find(architecture)
            if entry is None or entry.status.answered:
                return None
            return self.ledger.start(entry.candidate.number)

    def answer(self, candidate: Candidate, metric: Any) -> bool:
        """Take a trial's result; False if its candidate had an answer already. A result that is no finite
        number gives the candidate up: another trial of it would report the same.

        Args:
            candidate: what was evaluated.
            metric: the accuracy, or a mapping with it under 'default' and whatever else was measured.

        Raises:
            ConfigError: it was measured on other images than earlier ones.
        """
        details = dict(metric) if isinstance(metric, Mapping) else {"default": metric}
        if not self.same_images(details):
            raise ConfigError(
                f"candidate {candidate.number} was evaluated on other images than the first one: they have "
                "changed since the search began, and its candidates could not be compared. Put back what was "
                "there and resume, or begin a new search."
            )
        details.pop(IMAGES_CHECKSUM, None)
        accuracy = _number(details.pop("default", None))
        kept = _plain({name: value for name, value in details.items() if name not in OF_THE_ARCHITECTURE})
        if "top5" in kept:  # a trial reports its accuracy once, the candidates' file has it beside top-5 too
            kept = {"top1": accuracy, **kept}
        if accuracy is None:
            _logger.warning(
                "Candidate %d is given up: its result is %s, and it should be a finite number.",
                *(candidate.number, shown(repr(metric))),
            )
            return self._take(candidate, self.ledger.fail)
        return self._take(candidate, lambda number: self.ledger.tell(number, accuracy, kept))

    def same_images(self, metric: Any) -> bool:
        """Whether a trial's result is on the images that the first result was on, as far as trials say it."""
        seen = metric.get(IMAGES_CHECKSUM) if isinstance(metric, Mapping) else None
        if type(seen) is not int:
            return True
        with self._lock:
            return self._contents.setdefault("trial images", str(seen)) == str(seen)

    def _take(self, candidate: Candidate, write: Callable[[int], Entry]) -> bool:
        with self._lock:
            if self.ledger[candidate.number].status.answered:
                return False
            entry = write(candidate.number)
            if self.folder is not None:
                self.folder.record(entry)
        if self.on_answer is not None:
            self.on_answer(self.searcher)
        return True

    def ended(self, candidate: Candidate, success: bool) -> None:
        """Take the end of a trial, which may arrive before its result.

        Args:
            candidate: what it evaluated.
            success: whether it ended well; then its result is waited for a while.
        """
        with self._lock:
            entry = self.ledger[candidate.number]
            if entry.status.answered:
                return
            if success:
                entry.deadline = time.monotonic() + GRACE
            else:
                self._failed(entry)

    def _give_up_waiting(self) -> None:
        now = time.monotonic()
        for entry in self.ledger.of(Status.RUNNING):
            if entry.deadline is not None and now > entry.deadline:
                self._failed(entry)

    def _failed(self, entry: Entry) -> None:
        entry.attempts += 1
        number = entry.candidate.number
        if entry.attempts <= self.retries:
            self.ledger.reopen(number)
            return
        self.ledger.fail(number)
        if self.folder is not None:
            self.folder.record(entry)

    @property
    def hopeless(self) -> bool:
        """Whether trials fail whatever they evaluate."""
        with self._lock:
            return self.ledger.told == 0 and self.ledger.failed >= min(HOPELESS, self.searcher.planned)

    def hopeless_error(self, trial_error: str) -> ConfigError:
        """The sentence that ends a search whose trials all fail."""
        return ConfigError(
            f"every trial has failed ({self.ledger.failed} candidates, {1 + self.retries} times each); "
            f"the first one's error: {trial_error or 'it left none'}"
        )


OF_THE_ARCHITECTURE = {f"{cost.name} ({cost.unit})" for cost in KNOWN.values()}
"""What a trial reports for the web UI, see `measured_costs`, and what is known without it."""


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial has measured, as values that JSON has: numbers that are not finite become null, and what
    is neither number nor text is left out.
    """
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, (bool, str)) or value is None:
            plain[str(name)] = value
        elif isinstance(value, Integral):
            plain[str(name)] = int(value)
        elif isinstance(value, Real):
            plain[str(name)] = _number(value)
    return plain

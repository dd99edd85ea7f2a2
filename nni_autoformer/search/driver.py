"""What stands between the evolution and whoever runs its trials: a memory, and patience with failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..architecture import Architecture
from ..errors import ConfigError
from .evolution import Answer, Candidate, Evolution
from .folder import SearchFolder

RETRIES = 2
"""How often a failing trial is run again before its candidate is given up."""

HOPELESS = 3
"""So many candidates given up, and none evaluated, end the search: it is not the candidates' fault."""

GRACE = 10.0
"""Seconds that the result of a trial which has ended well may still be on its way."""


class SearchDriver:
    """An evolution whose trials run somewhere else, in several threads or processes; safe to call from any
    thread.

    Args:
        evolution: what is searched.
        folder: where the state goes after every answer, by rename; None keeps it in memory.
        retries: how often a failing trial is run again before its candidate is given up.
        on_answer: called after every answer.
        remember_proposals: write the state after every proposal too: trials that outlive this process, as
            NNI's do, are then known after a resume.
    """

    def __init__(
        self,
        evolution: Evolution,
        folder: str | Path | None = None,
        retries: int = RETRIES,
        on_answer: Callable[[Evolution], Any] | None = None,
        remember_proposals: bool = False,
    ) -> None:
        if retries < 0:
            raise ConfigError(f"--retries is {retries}; it should be 0 or more.")
        self.evolution = evolution
        self.folder = None if folder is None else SearchFolder(folder, evolution)
        self.retries = retries
        self.on_answer = on_answer
        self.remember_proposals = remember_proposals
        self._lock = threading.RLock()
        self._again: list[Candidate] = []
        self._failures: dict[int, int] = {}
        self._ended: dict[int, tuple[Candidate, float]] = {}  # ended well, the result is not there yet

    def resume(self) -> bool:
        """Go on with the search that the folder holds, if it holds one; True if so."""
        with self._lock:
            return self.folder is not None and self.folder.resume()

    def next(self) -> Candidate | Answer:
        """The next trial to run, a failed one first; or that there is none now, or none any more."""
        with self._lock:
            self._give_up_waiting()
            if self._again:
                return self._again.pop(0)
            candidate = self.evolution.ask()
            if candidate is Answer.DONE and self._ended:
                return Answer.WAIT
            if isinstance(candidate, Candidate) and self.remember_proposals and self.folder is not None:
                self.folder.save()
            return candidate

    def running(self, architecture: Architecture) -> Candidate | None:
        """The candidate of a trial that somebody else has taken up again after a resume; it is not proposed
        again. None for an architecture that was never proposed, or that has its answer.
        """
        with self._lock:
            candidate = self.evolution.candidate_of(architecture)
            if candidate is None or self.evolution.has_answer(candidate.number):
                return None
            self.evolution.skip(candidate.number)
            return candidate

    def answer(self, candidate: Candidate, metric: float | Mapping[str, Any]) -> bool:
        """Take a trial's result; False if its candidate had an answer already.

        Args:
            candidate: what was evaluated.
            metric: the accuracy, or a mapping with it under 'default' and whatever else was measured.
        """
        details = dict(metric) if isinstance(metric, Mapping) else {"default": metric}
        accuracy = float(details.pop("default"))
        with self._lock:
            self._ended.pop(candidate.number, None)
            if self.evolution.has_answer(candidate.number):
                return False
            self._again = [waiting for waiting in self._again if waiting.number != candidate.number]
            self.evolution.tell(candidate.number, accuracy)
            if self.folder is not None:
                self.folder.record(candidate, accuracy, details)
        if self.on_answer is not None:
            self.on_answer(self.evolution)
        return True

    def stopped(self, candidate: Candidate, details: Mapping[str, Any]) -> bool:
        """Take that a candidate was stopped early; False if it had an answer already.

        Args:
            candidate: what was evaluated.
            details: what was measured until then.
        """
        with self._lock:
            if self.evolution.has_answer(candidate.number):
                return False
            self.evolution.stop(candidate.number)
            if self.folder is not None:
                self.folder.record_stopped(candidate, details)
        if self.on_answer is not None:
            self.on_answer(self.evolution)
        return True

    def ended(self, candidate: Candidate, success: bool) -> None:
        """Take the end of a trial, which may arrive before its result.

        Args:
            candidate: what it evaluated.
            success: whether it ended well; then its result is waited for a while.
        """
        with self._lock:
            if self.evolution.has_answer(candidate.number):
                return
            if success:
                self._ended[candidate.number] = (candidate, time.monotonic() + GRACE)
            else:
                self._failed(candidate)

    def _give_up_waiting(self) -> None:
        now = time.monotonic()
        for number, (candidate, deadline) in list(self._ended.items()):
            if now > deadline:
                del self._ended[number]
                self._failed(candidate)

    def _failed(self, candidate: Candidate) -> None:
        times = self._failures.get(candidate.number, 0) + 1
        self._failures[candidate.number] = times
        if times <= self.retries:
            self._again.append(candidate)
            return
        self.evolution.fail(candidate.number)
        if self.folder is not None:
            self.folder.record_failure(candidate)

    @property
    def hopeless(self) -> bool:
        """Whether trials fail whatever they evaluate."""
        with self._lock:
            evolution = self.evolution
            return evolution.told == 0 and evolution.failed >= min(HOPELESS, evolution.planned)

    def hopeless_error(self, trial_error: str) -> ConfigError:
        """The sentence that ends a search whose trials all fail."""
        return ConfigError(
            f"every trial has failed ({self.evolution.failed} candidates, {1 + self.retries} times each); "
            f"the first one's error: {trial_error or 'it left none'}"
        )

"""The one order of candidates: parents, winner, tables and figures all use it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..architecture import Architecture
from ..config import one_of, setting
from ..costs import Cost
from ..space import ModelConfig

if TYPE_CHECKING:
    from .ledger import Entry

RANK_BY = ("top1", "loss")


def rank_by_setting(group: str) -> Any:
    """The setting of a search algorithm that says what candidates rank by first.

    Args:
        group: heading of the flag in the help.
    """
    return setting(
        RANK_BY[0],
        "what candidates rank by first: 'top1' (default), or 'loss', the mean cross-entropy on the same "
        "images; the other one decides between equal ones, then the lower cost",
        one_of(*RANK_BY),
        group,
    )


class Ranking:
    """Sorts the entries of a ledger that have an accuracy, best first.

    By accuracy, among equals by the lower cross-entropy on the same images, then by the lower cost, then by
    the order of proposal; never by the order of answers. An unknown cross-entropy is above all known ones.

    Args:
        rank_by: 'top1', or 'loss' to have cross-entropy before accuracy.
        costs: what is compared in turn where both are equal.
        model: the network around the subnets.
    """

    def __init__(
        self, rank_by: str = RANK_BY[0], costs: Sequence[Cost] = (), model: ModelConfig = ModelConfig()
    ) -> None:
        self.rank_by, self.costs, self.model = rank_by, tuple(costs), model
        self._counts: dict[Architecture, tuple[float, ...]] = {}

    def __call__(self, entry: Entry) -> tuple[float, ...]:
        """The key to sort by."""
        assert entry.accuracy is not None
        candidate = entry.candidate
        return self.key(entry.accuracy, entry.loss, candidate.architecture, candidate.number)

    def key(
        self, accuracy: float, loss: float | None, architecture: Architecture, number: int
    ) -> tuple[float, ...]:
        """The key of what is no entry of a ledger.

        Args:
            accuracy, loss: accuracy and cross-entropy; None for an unknown one.
            architecture: the subnet.
            number: its place in the order of proposal.
        """
        known = math.inf if loss is None else loss
        measured = (known, -accuracy) if self.rank_by == "loss" else (-accuracy, known)
        return (*measured, *self._counts_of(architecture), number)

    def _counts_of(self, architecture: Architecture) -> tuple[float, ...]:
        found = self._counts.get(architecture)
        if found is None:  # a search ranks before every proposal
            found = tuple(cost.value(architecture, self.model) for cost in self.costs)
            self._counts[architecture] = found
        return found

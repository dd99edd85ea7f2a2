"""What it means to trade accuracy against costs: the order in which candidates survive, and the front.

A candidate is on the front if none is at least as accurate, as cheap in every traded cost, and better in one
of them. Of candidates that are equal in all of that, the front names the one that ranks first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy
from numpy.typing import NDArray

from ..architecture import Architecture
from ..costs import costs_of
from .front import crowding, front, fronts
from .ledger import Entry
from .random_subnets import standard_error
from .searcher import Searcher

Points = NDArray[numpy.float64]


def objectives(entries: Sequence[Entry], searcher: Searcher) -> Points:
    """What a search that trades minimises, (candidates, costs + 1): the traded costs, and minus the accuracy
    or, where it ranks by loss first, the cross-entropy; an unknown one is above all known ones.

    Args:
        entries: candidates with an accuracy.
        searcher: the search.
    """
    names, model, costs = searcher.traded, searcher.space.model, searcher.costs
    errors = [-(entry.accuracy or 0.0) for entry in entries]
    if searcher.rank_by == "loss":
        unknown = max((entry.loss for entry in entries if entry.loss is not None), default=0.0) + 1
        errors = [unknown if entry.loss is None else entry.loss for entry in entries]
    rows = [
        (*(costs[name].value(entry.candidate.architecture, model) for name in names), error)
        for entry, error in zip(entries, errors)
    ]
    return numpy.array(rows, dtype=float).reshape(len(rows), len(names) + 1)


def surviving(points: Points) -> list[int]:
    """The places of points in the order in which they survive (NSGA-II): by front, then the one with more
    room to itself, then as they stand. A point that equals an earlier one has no room.
    """
    if not len(points):
        return []
    ranks, room = fronts(points), numpy.zeros(len(points))
    for rank in range(int(ranks.max()) + 1):
        members = numpy.flatnonzero(ranks == rank)
        room[members] = crowding(points[members])
    copies = numpy.ones(len(points), dtype=bool)
    copies[numpy.unique(points, axis=0, return_index=True)[1]] = False
    room[copies] = 0
    return [int(place) for place in numpy.lexsort((-room, ranks))]


@dataclass(frozen=True)
class Member:
    """A subnet of the front.

    Attributes:
        number: position of the candidate in the order of proposals, from 0.
        architecture: the subnet.
        accuracy: top-1 in percent on the selection images.
        error: standard error of the accuracy in percent; None if the number of images is not known.
        top5, loss: top-5 in percent and cross-entropy on the same images, where they were reported.
        costs: counts of all costs, by name.
    """

    number: int
    architecture: Architecture
    accuracy: float
    error: float | None
    top5: float | None
    loss: float | None
    costs: Mapping[str, float]


def front_of(searcher: Searcher) -> list[Member]:
    """The front of all candidates so far over the costs that a search trades, cheapest in the first of them
    first.
    """
    entries = [searcher.ledger[candidate.number] for candidate, _ in searcher.ledger.ranking()]
    return [_member(entries[place], searcher) for place in front(objectives(entries, searcher))]


def _member(entry: Entry, searcher: Searcher) -> Member:
    candidate, accuracy, details = entry.candidate, entry.accuracy or 0.0, entry.details
    images = details.get("images")
    error = None
    if type(images) is int and images > 0 and 0 <= accuracy <= 100:  # a trial may report anything
        error = standard_error(accuracy, images)
    return Member(
        candidate.number,
        candidate.architecture,
        accuracy,
        error,
        _number(details.get("top5")),
        entry.loss,
        costs_of(candidate.architecture, searcher.space.model, searcher.costs),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None

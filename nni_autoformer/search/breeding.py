"""Children bred in numbers on a model of the accuracy, of which the most promising are evaluated."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy

from ..architecture import Architecture
from .surrogate import Array, Surrogate

ROUNDS = 4
"""How often the most promising children become parents of further ones."""

TRIES = 5
"""Draws per child that is wanted, of which many are known already or outside of the limits."""

SHORTLIST = 4
"""Children per place among which `Surrogate.apart` chooses."""


@dataclass(frozen=True)
class Wish:
    """What a generation wants of a model.

    Attributes:
        count: places for children.
        children: children that are bred for each.
        parents: how many of the best become parents.
        weight: standard deviations that a child is taken for better than is expected.
    """

    count: int
    children: int
    parents: int
    weight: float


Breed = Callable[[list[Architecture], random.Random], Architecture | None]
"""A new child of some parents within the limits; None if the draw was in vain."""

Objectives = Callable[[Sequence[Architecture], Array], Array]
"""From subnets and their accuracies to a row of numbers for each that should be small."""


def promising(
    surrogate: Surrogate,
    evaluated: tuple[Sequence[Architecture], Sequence[float]],
    parents: Sequence[Architecture],
    breed: Breed,
    wish: Wish,
    rng: random.Random,
    objectives: Objectives | None = None,
) -> list[Architecture]:
    """The children to evaluate next, the most promising first; fewer than wanted if so many are not found.

    Args:
        surrogate: the model.
        evaluated: what it was fitted to, with accuracies in percent.
        parents: the best of that, from which the first children come.
        breed: draws a child.
        wish: what is wanted.
        rng: decides all draws.
        objectives: what a front is searched by; None for the accuracy alone.
    """
    pool: dict[Architecture, None] = {}
    best: list[Architecture] = []
    bounds = numpy.zeros(0)
    for turn in range(1, ROUNDS + 1):
        size = wish.count * wish.children * turn // ROUNDS
        for _ in range(TRIES * (size - len(pool))):
            if (child := breed([*parents, *best], rng)) is not None:
                pool.setdefault(child)
            if len(pool) >= size:
                break
        children = list(pool)
        if not children:
            return []
        bounds = numpy.concatenate([bounds, _bounds(surrogate, children[len(bounds) :], wish.weight)])
        order = _order(children, bounds, evaluated, objectives)
        best = [children[position] for position in order[: wish.parents]]
    if objectives is not None:
        return [children[position] for position in order[: wish.count]]
    shortlist = [children[position] for position in order[: SHORTLIST * wish.count]]
    return [shortlist[position] for position in surrogate.apart(shortlist, wish.count, wish.weight)]


def _bounds(surrogate: Surrogate, architectures: Sequence[Architecture], weight: float) -> Array:
    if not architectures:
        return numpy.zeros(0)
    mean, deviation = surrogate.predict(architectures)
    bounds: Array = mean + weight * deviation
    return bounds


def _order(
    children: Sequence[Architecture],
    bounds: Array,
    evaluated: tuple[Sequence[Architecture], Sequence[float]],
    objectives: Objectives | None,
) -> list[int]:
    """Positions of the children, the most promising first: by their bounds, or, for a front, in the order in
    which they would survive among what is evaluated.
    """
    if objectives is None:
        return numpy.argsort(-bounds, kind="stable").tolist()
    from .trade import surviving

    known, accuracies = evaluated
    points = objectives([*known, *children], numpy.concatenate([numpy.asarray(accuracies, float), bounds]))
    return [place - len(known) for place in surviving(points) if place >= len(known)]

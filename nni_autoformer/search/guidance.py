"""What guides an evolution with `surrogate`: a model per generation, its children, and how well it predicts.

The accuracy that was expected of a candidate stands beside its own, so the model's quality is read from the
ledger, and `candidates.jsonl` has both.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy

from ..architecture import Architecture
from ..costs import COSTS, Costs
from ..randomness import generator
from ..space import SearchSpace
from .breeding import Breed, Wish, promising
from .ledger import Entry, Ledger
from .surrogate import FEWEST, Array, Surrogate

_logger = logging.getLogger("nni_autoformer")

PREDICTED = "predicted"
"""Key of the expected accuracy among a candidate's details."""

RANDOM_SHARE = 0.1
"""Part of a generation that is drawn at random, whatever the model says."""


@dataclass(frozen=True)
class Quality:
    """How well a model has predicted the accuracies of a generation that it had not seen.

    Attributes:
        generation: number of the generation, from 0.
        candidates: how many of it were predicted and evaluated.
        tau: Kendall rank correlation of expected and true accuracies; NaN where either are all the same.
        error: root of the mean squared difference, in percentage points.
    """

    generation: int
    candidates: int
    tau: float
    error: float

    @property
    def told(self) -> str:
        """As a text."""
        return _words(self.tau, self.error)


def qualities(ledger: Ledger) -> list[Quality]:
    """The quality of each generation's model, as far as its candidates have answers."""
    pairs: dict[int, list[tuple[float, float]]] = {}
    for entry in ledger:
        expected = entry.details.get(PREDICTED)
        if entry.accuracy is not None and isinstance(expected, float):
            pairs.setdefault(entry.candidate.generation, []).append((expected, entry.accuracy))
    return [_quality(generation, found) for generation, found in sorted(pairs.items()) if len(found) > 1]


def typical(found: Sequence[Quality]) -> str:
    """The quality of several generations in words: the medians."""
    taus = [quality.tau for quality in found if not math.isnan(quality.tau)]
    tau = median(taus) if taus else math.nan
    words = _words(tau, median(quality.error for quality in found))
    return f"{words} (of {len(found)} generations the median)"


def _words(tau: float, error: float) -> str:
    return f"Kendall tau {'unknown' if math.isnan(tau) else f'{tau:.2f}'}, RMS error {error:.2f} points"


def _quality(generation: int, pairs: Sequence[tuple[float, float]]) -> Quality:
    from scipy.stats import kendalltau

    expected, found = zip(*pairs)
    error = math.sqrt(math.fsum((a - b) ** 2 for a, b in pairs) / len(pairs))
    alike = len(set(expected)) == 1 or len(set(found)) == 1
    tau = math.nan if alike else float(kendalltau(expected, found).statistic)
    return Quality(generation, len(pairs), tau, error)


class Guidance:
    """Chooses the candidates of one search, generation by generation, on what complete ones have shown.

    Args:
        space: space that is searched.
        config: how: an `EvolutionConfig` with `surrogate`.
        traded: names of the costs that accuracy is traded against; empty for a search for one subnet.
        costs: where these have their values.
    """

    def __init__(
        self, space: SearchSpace, config: Any, traded: Sequence[str] = (), costs: Costs = COSTS
    ) -> None:
        self.space, self.config, self.traded, self.costs = space, config, traded, costs
        self._generation = -1
        self._surrogate: Surrogate | None = None
        self._chosen: list[Architecture] = []
        self._expected: dict[Architecture, float] = {}
        self._told = 0

    def chosen(
        self, generation: int, ledger: Ledger, parents: Sequence[Architecture], breed: Breed
    ) -> list[Architecture] | None:
        """The children of a generation, found once; None while too little is known.

        Args:
            generation: number of the generation.
            ledger: all candidates; only those of earlier generations count.
            parents: the best of these.
            breed: draws a child.
        """
        if generation != self._generation:
            self._generation, self._surrogate = generation, None
            earlier = [entry for entry in ledger if entry.candidate.generation < generation]
            self._chosen = self._found(earlier, parents, breed)
            self._expected = self._predicted(self._chosen)
        return None if self._surrogate is None else self._chosen

    def _found(
        self, earlier: Sequence[Entry], parents: Sequence[Architecture], breed: Breed
    ) -> list[Architecture]:
        pairs = [(e.candidate.architecture, e.accuracy) for e in earlier if e.accuracy is not None]
        if len(pairs) < FEWEST:
            return []
        known = {entry.candidate.architecture for entry in earlier}
        architectures, accuracies = zip(*pairs)
        self._surrogate = Surrogate(self.space, architectures, accuracies)
        config = self.config
        count = config.population_size - round(RANDOM_SHARE * config.population_size)
        wish = Wish(count, config.surrogate_children, config.num_parents, config.surrogate_spread)
        rng = generator(config.seed, "surrogate", self._generation)

        def new(chosen: list[Architecture], rng: Any) -> Architecture | None:
            child = breed(chosen, rng)
            return None if child in known else child

        evaluated = architectures, accuracies
        objectives = self._objectives if self.traded else None
        return promising(self._surrogate, evaluated, parents, new, wish, rng, objectives)

    def _objectives(self, architectures: Sequence[Architecture], accuracies: Array) -> Array:
        model, costs = self.space.model, [self.costs[name] for name in self.traded]
        rows = [
            [*(cost.value(architecture, model) for cost in costs), -accuracy]
            for architecture, accuracy in zip(architectures, accuracies)
        ]
        return numpy.array(rows, dtype=float)

    def note(self, entry: Entry) -> None:
        """Write beside a proposal what accuracy the generation's model expects of it, if there is a model."""
        candidate = entry.candidate
        if self._surrogate is not None and candidate.generation == self._generation:
            architecture = candidate.architecture
            if architecture not in self._expected:  # one at random
                self._expected |= self._predicted([architecture])
            entry.details[PREDICTED] = self._expected[architecture]

    def _predicted(self, architectures: Sequence[Architecture]) -> dict[Architecture, float]:
        if self._surrogate is None or not architectures:
            return {}
        return dict(zip(architectures, self._surrogate.predict(architectures)[0].tolist()))

    def forget(self, complete: int) -> None:
        """Begin anew with another ledger.

        Args:
            complete: its complete generations, whose quality has been told.
        """
        self._generation, self._surrogate, self._told = -1, None, complete

    def tell(self, ledger: Ledger, complete: int) -> None:
        """Say how good the predictions of the generations were that have become complete.

        Args:
            ledger: all candidates.
            complete: how many generations are complete.
        """
        if complete <= self._told:
            return
        for quality in qualities(ledger):
            if self._told <= quality.generation < complete:
                _logger.info(
                    "Generation %d: the surrogate's predictions for %d candidates have %s.",
                    *(quality.generation + 1, quality.candidates, quality.told),
                )
        self._told = complete

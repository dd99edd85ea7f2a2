"""What search algorithms have in common that propose generation by generation: order, seeds and state.

A further algorithm is one class that says how a subnet is drawn. Every proposal draws from a random generator
of its own, so a search is the same however many candidates are evaluated at once and in whatever order
answers arrive.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ..architecture import Architecture
from ..config import shown
from ..costs import COSTS, Costs
from ..errors import ConfigError
from ..randomness import generator
from ..space import SearchSpace
from .ledger import Candidate, Ledger, Status
from .limits import Limits
from .pareto import require_traded
from .ranking import Ranking
from .searcher import Answer

RANDOM_DRAWS = 10_000
"""How often a random subnet is drawn before the search concludes that no new one is left."""

Draw = Callable[[random.Random], Architecture | None]


class Pace(Protocol):
    """What the configuration of every such algorithm says."""

    @property
    def population_size(self) -> int:
        """Candidates of a generation."""

    @property
    def generations(self) -> int:
        """Number of generations."""

    @property
    def seed(self) -> int:
        """Random seed of every proposal."""

    @property
    def rank_by(self) -> str:
        """What candidates rank by first: 'top1' or 'loss'."""

    @property
    def pareto(self) -> str | None:
        """Names of the costs that accuracy is traded against, see `pareto.pareto_setting`."""


Config = TypeVar("Config", bound=Pace)


class GenerationalSearch(ABC, Generic[Config]):
    """A `Searcher` that proposes generation by generation; no subnet twice, none outside of the limits.

    Args:
        space: space that is searched.
        limits: what a subnet may cost.
        config: how the search runs; a dataclass.
        costs: what is known of a subnet's costs.

    Attributes:
        algorithm: name of the algorithm.
        configuration: class of its configuration.
        traded: names of the costs that accuracy is traded against; empty for a search for one subnet.

    Raises:
        ConfigError: no subnet of the space meets the limits, or a cost that is traded has no table.
    """

    algorithm: ClassVar[str]
    configuration: ClassVar[type]

    def __init__(self, space: SearchSpace, limits: Limits, config: Config, costs: Costs = COSTS) -> None:
        limits.require_feasible(space, costs)
        self.space, self.limits, self.config, self.costs = space, limits, config, costs
        self.traded = require_traded(config.pareto, costs)
        self.ledger = Ledger(self._ranking())
        self._generation = 0
        self._closed = False  # the generation has all of its candidates
        self._first = self._random(generator(config.seed, "proposal", 0, 0))
        if self._first is None:
            raise ConfigError(
                f"no subnet within the limits was found in '{space.name}' in {RANDOM_DRAWS:,} draws; widen "
                "the limits."
            )

    @abstractmethod
    def _draw(self, rng: random.Random, index: int) -> tuple[Architecture | None, str]:
        """A new subnet and its origin.

        Args:
            rng: decides all of it.
            index: position in the generation.

        Returns:
            None in place of the subnet, if no new one is left; it ends the generation.
        """

    @property
    def rank_by(self) -> str:
        """What candidates rank by first: 'top1' or 'loss'."""
        return self.config.rank_by

    @property
    def planned(self) -> int:
        """Number of candidates of the whole search, unless the space runs out of new ones before."""
        return self.config.population_size * self.config.generations

    @property
    def generations(self) -> int:
        """Number of generations that the planned candidates come in."""
        return self.config.generations

    @property
    def done(self) -> bool:
        """Whether the search is over: every candidate of every generation has its answer."""
        if not self._closed or self.answered < len(self.ledger):
            return False
        return self._generation + 1 >= self.config.generations or not self._in_generation()

    def ask(self) -> Candidate | Answer:
        """The next candidate, an open one first, or that all of the generation are out (`WAIT`), or that the
        search is over (`DONE`).
        """
        if entries := self.ledger.of(Status.OPEN):
            return self.ledger.start(entries[0].candidate.number)
        if self.done:
            return Answer.DONE
        if self._closed:
            if self.answered < len(self.ledger):
                return Answer.WAIT
            self._generation += 1
            self._closed = False
        candidate = self._propose()
        if candidate is None:
            self._closed = True
            return self.ask()
        return self.ledger.start(candidate.number)

    def _ranking(self) -> Ranking:
        """The order of the candidates; equally good ones by what the search limits or trades, or
        else by parameters.
        """
        names = {*self.limits.given, *self.traded}
        compared = [cost for name, cost in self.costs.items() if name in names]
        return Ranking(self.config.rank_by, compared or [COSTS["params"]], self.space.model)

    # Answers, as the ledger has them

    @property
    def told(self) -> int:
        """Number of candidates with an accuracy."""
        return self.ledger.told

    @property
    def failed(self) -> int:
        """Number of candidates that were given up."""
        return self.ledger.failed

    @property
    def answered(self) -> int:
        """Number of candidates that nothing more is expected of: told or given up."""
        return self.ledger.answered

    def tell(self, number: int, accuracy: float, details: Mapping[str, Any] | None = None) -> None:
        """Say how good a candidate is, see `Ledger.tell`; its cross-entropy is the detail 'loss'."""
        self.ledger.tell(number, accuracy, details)

    def fail(self, number: int) -> None:
        """Give a candidate up, see `Ledger.fail`."""
        self.ledger.fail(number)

    def ranking(self) -> list[tuple[Candidate, float]]:
        """All candidates with an accuracy, best first, see `Ledger.ranking`."""
        return self.ledger.ranking()

    def best(self) -> tuple[Candidate, float]:
        """The best candidate and its accuracy, see `Ledger.best`."""
        return self.ledger.best()

    # Proposals

    def _in_generation(self) -> int:
        return sum(entry.candidate.generation == self._generation for entry in self.ledger)

    def _propose(self) -> Candidate | None:
        index = self._in_generation()
        if index >= self.config.population_size:
            return None
        rng = generator(self.config.seed, "proposal", self._generation, index)
        architecture, origin = self._draw(rng, index) if len(self.ledger) else (self._first, "random")
        if architecture is None:
            return None
        self._closed = index + 1 == self.config.population_size
        return self.ledger.add(self._generation, architecture, origin)

    def _is_new(self, architecture: Architecture | None) -> bool:
        return (
            architecture is not None
            and architecture not in self.ledger
            and self.limits.allows(architecture, self.space.model, self.costs)
        )

    def _first_new(self, draw: Draw, rng: random.Random, attempts: int) -> Architecture | None:
        """The first drawn subnet that is new and within the limits, if there is one in so many draws."""
        return next((child for _ in range(attempts) if self._is_new(child := draw(rng))), None)

    @cached_property
    def _allowed(self) -> list[Architecture]:
        """All subnets within the limits, of a small space."""
        model, costs = self.space.model, self.costs
        return [a for a in self.space if self.limits.allows(a, model, costs)]

    def _random(self, rng: random.Random) -> Architecture | None:
        """A random new subnet within the limits, uniformly drawn; None if none is left."""
        if self.space.size <= RANDOM_DRAWS:  # small enough to know for certain what is left
            left = [architecture for architecture in self._allowed if architecture not in self.ledger]
            return rng.choice(left) if left else None
        return self._first_new(self.space.sample, rng, RANDOM_DRAWS)

    # State

    def _setting(self) -> dict[str, Any]:
        space = self.space.to_dict()
        return {
            "choices": space["choices"],
            "model": space["model"],
            "limits": self.limits.to_dict(),
            self.algorithm: asdict(self.config),  # type: ignore[call-overload]
        }

    def state_dict(self) -> dict[str, Any]:
        """The whole search as plain values that pass through JSON unchanged."""
        return {
            "setting": self._setting(),
            "generation": self._generation,
            "closed": self._closed,
            "candidates": self.ledger.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another search stopped; candidates without an answer are asked again first, in their
        order.

        Raises:
            ConfigError: the state is of a search in another space, under other limits, with another
                configuration or by another algorithm, or of one that stopped candidates early.
        """
        mine, theirs = self._setting(), state["setting"]
        if self.algorithm not in theirs:
            others = ", ".join(sorted(set(theirs) - set(mine)))
            raise ConfigError(
                f"the search cannot be resumed: the algorithm was {others} and is {self.algorithm} now."
            )
        defaults = {self.algorithm: asdict(self.configuration())}  # of settings that earlier versions lack
        for part, values in mine.items():
            before = {**defaults.get(part, {}), **theirs.get(part, {})}
            for key, value in values.items():
                if before.get(key) != value:
                    raise ConfigError(
                        f"the search cannot be resumed: {part}.{key} was {shown(before.get(key))} and is "
                        f"{shown(value)} now."
                    )
        ledger = Ledger.from_state(state["candidates"], self._ranking())
        for entry in ledger:
            self.space.require(entry.candidate.architecture, f"candidate {entry.candidate.number}")
        self._generation, self._closed, self.ledger = state["generation"], state["closed"], ledger

"""Evolutionary search (paper section 3.4) as ask and tell: it proposes subnets, and never evaluates one
itself.

The published algorithm without its faults: the last generation is ranked too, no subnet is proposed twice,
limits that nothing meets are an error, and a search can stop at any moment and go on later. Every proposal
draws from a generator of its own, so the search is the same however many candidates are evaluated at once and
in whatever order answers arrive.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from ..architecture import Architecture
from ..config import SHARE, at_least, require_ranges, setting
from ..errors import ConfigError
from ..randomness import generator
from ..space import SearchSpace
from .limits import Limits
from .operators import crossed, mutated

__all__ = ["Answer", "Candidate", "Evolution", "EvolutionConfig", "Limits"]

GROUP = "evolution"

OPERATOR_DRAWS = 100
"""How often a mutation or a crossover tries for a new subnet within the limits before a random one takes its
place.
"""

RANDOM_DRAWS = 10_000
"""How often a random subnet is drawn before the search concludes that no new one is left."""


class Answer(Enum):
    """What `Evolution.ask` says when it has no candidate."""

    WAIT = "the generation is still being evaluated"
    DONE = "the search is complete"


@dataclass(frozen=True)
class EvolutionConfig:
    """How the search runs; the defaults are the published ones: 20 generations of 50 are 1,000 candidates.
    The published names of the two probabilities are m_prob and s_prob.

    Raises:
        ConfigError: a value is out of its range.
    """

    population_size: int = setting(50, "candidates of a generation", at_least(1), GROUP, "N")
    num_parents: int = setting(10, "best candidates so far, which mutate and cross", at_least(1), GROUP, "N")
    num_mutations: int = setting(25, "mutations of a generation", at_least(0), GROUP, "N")
    num_crossovers: int = setting(
        25, "crossovers of a generation; random subnets fill it up", at_least(0), GROUP, "N"
    )
    generations: int = setting(20, "generations, the first, random one included", at_least(1), GROUP, "N")
    gene_probability: float = setting(
        0.2, "probability that a mutation redraws a layer's ratio, and its heads", SHARE, GROUP, "P"
    )
    size_probability: float = setting(
        0.4, "probability that a mutation redraws the depth, and the embedding size", SHARE, GROUP, "P"
    )
    seed: int = setting(0, "random seed of every proposal", group=GROUP, metavar="N")

    def __post_init__(self) -> None:
        require_ranges(self)
        if self.num_mutations + self.num_crossovers > self.population_size:
            raise ConfigError(
                f"--num-mutations {self.num_mutations} and --num-crossovers {self.num_crossovers} are more "
                f"than --population-size {self.population_size}."
            )


@dataclass(frozen=True)
class Candidate:
    """A proposed subnet.

    Attributes:
        number: position in the order of proposals, from 0; candidates of equal accuracy rank by it.
        generation: from 0.
        architecture: the subnet.
        origin: 'random', 'mutation' or 'crossover'.
    """

    number: int
    generation: int
    architecture: Architecture
    origin: str


Draw = Callable[[random.Random], Architecture | None]


class Evolution:
    """The search: `ask` for candidates, `tell` their accuracies, until `ask` says `Answer.DONE`.

    Args:
        space: where to search.
        limits: what a subnet may cost.
        config: how the search runs.

    Raises:
        ConfigError: no subnet of the space meets the limits.
    """

    def __init__(
        self, space: SearchSpace, limits: Limits = Limits(), config: EvolutionConfig = EvolutionConfig()
    ) -> None:
        limits.require_feasible(space)
        self.space, self.limits, self.config = space, limits, config
        self._candidates: list[Candidate] = []
        self._accuracies: dict[int, float] = {}
        self._failed: set[int] = set()
        self._stopped: set[int] = set()
        self._seen: set[Architecture] = set()
        self._again: list[Candidate] = []  # asked in an earlier process, not told there
        self._generation = 0
        self._closed = False  # the generation has all of its candidates
        self._first = self._random(generator(config.seed, "proposal", 0, 0))
        if self._first is None:
            raise ConfigError(
                f"no subnet within the limits was found in '{space.name}' in {RANDOM_DRAWS:,} draws; widen "
                "the limits."
            )

    @property
    def told(self) -> int:
        """Candidates with an accuracy."""
        return len(self._accuracies)

    @property
    def failed(self) -> int:
        """Candidates that were given up."""
        return len(self._failed)

    @property
    def stopped(self) -> int:
        """Candidates that were stopped early, because they are out of the best."""
        return len(self._stopped)

    @property
    def answered(self) -> int:
        """Candidates that nothing more is expected of: told, given up or stopped."""
        return self.told + self.failed + self.stopped

    @property
    def planned(self) -> int:
        """Candidates of the whole search, unless the space runs out of new ones before."""
        return self.config.population_size * self.config.generations

    @property
    def done(self) -> bool:
        """Whether the search is over: every candidate of every generation has its answer."""
        if not self._closed or self.answered < len(self._candidates):
            return False
        return self._generation + 1 >= self.config.generations or not self._in_generation()

    def ask(self) -> Candidate | Answer:
        """The next candidate, or that all of the generation are out (`WAIT`), or that the search is over
        (`DONE`).
        """
        if self._again:
            return self._again.pop(0)
        if self.done:
            return Answer.DONE
        if self._closed:
            if self.answered < len(self._candidates):
                return Answer.WAIT
            self._generation += 1
            self._closed = False
        candidate = self._propose()
        if candidate is None:
            self._closed = True
            return self.ask()
        return candidate

    def tell(self, number: int, accuracy: float) -> None:
        """Say how good a candidate is; higher is better.

        Raises:
            ValueError: there is no such candidate, it has an answer already, or the accuracy is no number.
        """
        self._require_open(number)
        if math.isnan(accuracy):
            raise ValueError(f"The accuracy of candidate {number} is not a number.")
        self._accuracies[number] = float(accuracy)

    def fail(self, number: int) -> None:
        """Give a candidate up: it has no rank, is nobody's parent, and is not waited for.

        Raises:
            ValueError: there is no such candidate, or it has an answer already.
        """
        self._require_open(number)
        self._failed.add(number)

    def stop(self, number: int) -> None:
        """Say that a candidate is out of the best, without its accuracy: it has no rank and is nobody's
        parent.

        Raises:
            ValueError: there is no such candidate, or it has an answer already.
        """
        self._require_open(number)
        self._stopped.add(number)

    def _require_open(self, number: int) -> None:
        if not 0 <= number < len(self._candidates):
            raise ValueError(f"No candidate has the number {number}.")
        if self.has_answer(number):
            raise ValueError(f"Candidate {number} has been told already.")

    def has_answer(self, number: int) -> bool:
        """Whether a candidate has been told, given up or stopped."""
        return number in self._accuracies or number in self._failed or number in self._stopped

    def given_up(self) -> list[Candidate]:
        """The candidates that were given up, in the order of proposal."""
        return [self._candidates[number] for number in sorted(self._failed)]

    def stopped_early(self) -> list[Candidate]:
        """The candidates that were stopped, in the order of proposal."""
        return [self._candidates[number] for number in sorted(self._stopped)]

    def candidate_of(self, architecture: Architecture) -> Candidate | None:
        """The candidate that has proposed an architecture, if one has."""
        for candidate in self._candidates if architecture in self._seen else ():
            if candidate.architecture == architecture:
                return candidate
        return None

    def skip(self, number: int) -> None:
        """Do not ask for a candidate again after a resume, because somebody evaluates it already."""
        self._again = [candidate for candidate in self._again if candidate.number != number]

    def ranking(self) -> list[tuple[Candidate, float]]:
        """All candidates with an accuracy, of all generations, best first; equal ones in the order of
        proposal.
        """
        order = sorted(self._accuracies, key=lambda number: (-self._accuracies[number], number))
        return [(self._candidates[number], self._accuracies[number]) for number in order]

    def best(self) -> tuple[Candidate, float]:
        """The best candidate and its accuracy.

        Raises:
            ValueError: nothing has been told yet.
        """
        if not self._accuracies:
            raise ValueError("No candidate has an accuracy yet.")
        return self.ranking()[0]

    def parents(self) -> list[Architecture]:
        """Those that mutate and cross in this generation, best first."""
        # only of complete generations: which of this one's answers are in depends on how many run at once
        earlier = [c.architecture for c, _ in self.ranking() if c.generation < self._generation]
        return earlier[: self.config.num_parents]

    # Proposals

    def _in_generation(self) -> int:
        return sum(candidate.generation == self._generation for candidate in self._candidates)

    def _propose(self) -> Candidate | None:
        index = self._in_generation()
        if index >= self.config.population_size:
            return None
        rng = generator(self.config.seed, "proposal", self._generation, index)
        architecture, origin = self._draw(rng, index)
        if architecture is None:
            return None
        candidate = Candidate(len(self._candidates), self._generation, architecture, origin)
        self._candidates.append(candidate)
        self._seen.add(architecture)
        self._closed = index + 1 == self.config.population_size
        return candidate

    def _draw(self, rng: random.Random, index: int) -> tuple[Architecture | None, str]:
        if not self._candidates:
            return self._first, "random"
        mutations = self.config.num_mutations
        parents = self.parents() if index < mutations + self.config.num_crossovers else []
        if parents:
            origin = "mutation" if index < mutations else "crossover"
            child = self._first_new(lambda rng: self._child(origin, parents, rng), rng, OPERATOR_DRAWS)
            if child is not None:
                return child, origin
        return self._random(rng), "random"

    def _child(self, origin: str, parents: list[Architecture], rng: random.Random) -> Architecture | None:
        if origin == "crossover":
            return crossed(rng.choice(parents), rng.choice(parents), rng)
        config = self.config
        return mutated(rng.choice(parents), self.space, config.gene_probability, config.size_probability, rng)

    def _first_new(self, draw: Draw, rng: random.Random, attempts: int) -> Architecture | None:
        for _ in range(attempts):
            architecture = draw(rng)
            if (
                architecture is not None
                and architecture not in self._seen
                and self.limits.allows(architecture, self.space.model)
            ):
                return architecture
        return None

    def _random(self, rng: random.Random) -> Architecture | None:
        if self.space.size <= RANDOM_DRAWS:  # small enough to know for certain what is left
            left = [
                architecture
                for architecture in self.space
                if architecture not in self._seen and self.limits.allows(architecture, self.space.model)
            ]
            return rng.choice(left) if left else None
        return self._first_new(self.space.sample, rng, RANDOM_DRAWS)

    # State

    def _setting(self) -> dict[str, Any]:
        space = self.space.to_dict()
        return {
            "choices": space["choices"],
            "model": space["model"],
            "limits": self.limits.to_dict(),
            "evolution": asdict(self.config),
        }

    def state_dict(self) -> dict[str, Any]:
        """The whole search as plain values that pass through JSON unchanged."""
        return {
            "setting": self._setting(),
            "generation": self._generation,
            "closed": self._closed,
            "candidates": [
                {
                    "generation": candidate.generation,
                    "origin": candidate.origin,
                    "architecture": candidate.architecture.to_dict(),
                    "accuracy": self._accuracies.get(candidate.number),
                    "failed": candidate.number in self._failed,
                    "stopped": candidate.number in self._stopped,
                }
                for candidate in self._candidates
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another search stopped; candidates without an answer are asked again first, in their
        order.

        Raises:
            ConfigError: the state is of a search in another space, under other limits or with another
                configuration.
        """
        mine, theirs = self._setting(), state["setting"]
        for part, values in mine.items():
            for key, value in values.items():
                if theirs[part].get(key) != value:
                    raise ConfigError(
                        f"the search cannot be resumed: {part}.{key} was {theirs[part].get(key)} and is "
                        f"{value} now."
                    )
        self._generation, self._closed = state["generation"], state["closed"]
        self._candidates = [
            Candidate(
                number, entry["generation"], Architecture.from_dict(entry["architecture"]), entry["origin"]
            )
            for number, entry in enumerate(state["candidates"])
        ]
        self._accuracies = {
            number: entry["accuracy"]
            for number, entry in enumerate(state["candidates"])
            if entry["accuracy"] is not None
        }
        self._failed = {
            number for number, entry in enumerate(state["candidates"]) if entry.get("failed", False)
        }
        self._stopped = {
            number for number, entry in enumerate(state["candidates"]) if entry.get("stopped", False)
        }
        self._seen = {candidate.architecture for candidate in self._candidates}
        self._again = [candidate for candidate in self._candidates if not self.has_answer(candidate.number)]

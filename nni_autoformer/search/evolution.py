"""Evolutionary search (paper section 3.4): mutations and crossovers of the best, and random subnets.

The published algorithm without its faults: the last generation is ranked too, no subnet is proposed twice,
limits that nothing meets are an error, and a search can stop at any moment and go on later.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..architecture import Architecture
from ..config import NOT_NEGATIVE, SHARE, at_least, require_ranges, setting, settings_of
from ..costs import COSTS, Costs
from ..errors import ConfigError
from ..space import SearchSpace
from .generational import GenerationalSearch
from .ledger import Candidate, Ledger
from .limits import Limits
from .operators import crossed, mutated
from .pareto import pareto_setting
from .ranking import rank_by_setting
from .searcher import Answer

if TYPE_CHECKING:
    from .guidance import Guidance

__all__ = ["Answer", "Candidate", "Evolution", "EvolutionConfig", "Limits"]

GROUP, MODEL = "evolution", "surrogate"

PUBLISHED_POPULATION, PUBLISHED_PARENTS, PUBLISHED_CHILDREN = 50, 10, 25
"""Candidates, parents, and mutations as crossovers, of a generation."""

OPERATOR_DRAWS = 100
"""How often a mutation or a crossover tries for a new subnet within the limits before a random one takes its
place.
"""


@dataclass(frozen=True)
class EvolutionConfig:
    """How the search runs; the defaults are the published ones: 20 generations of 50 are 1,000 candidates.

    Parents, mutations and crossovers that are not given are as large a part of another `population_size` as
    of the published 50; where only one of the last two is given, the other takes no more than it leaves.
    With `pareto` the parents are as many as the population, as in NSGA-II.
    The published names of the two probabilities are m_prob and s_prob.

    Raises:
        ConfigError: a value is out of its range.
    """

    population_size: int = setting(
        PUBLISHED_POPULATION, "candidates of a generation", at_least(1), GROUP, "N"
    )
    num_parents: int = setting(
        None,
        "best candidates so far, which mutate and cross (default a fifth of the population: 10 of 50; with "
        "--pareto as many as the population)",
        at_least(1),
        GROUP,
        "N",
    )
    num_mutations: int = setting(
        None, "mutations of a generation (default half of the population: 25 of 50)", at_least(0), GROUP, "N"
    )
    num_crossovers: int = setting(
        None,
        "crossovers of a generation (default half of the population: 25 of 50); random subnets fill it up",
        at_least(0),
        GROUP,
        "N",
    )
    generations: int = setting(20, "generations, the first, random one included", at_least(1), GROUP, "N")
    gene_probability: float = setting(
        0.2, "probability that a mutation redraws a layer's ratio, and its heads", SHARE, GROUP, "P"
    )
    size_probability: float = setting(
        0.4, "probability that a mutation redraws the depth, and the embedding size", SHARE, GROUP, "P"
    )
    seed: int = setting(0, "random seed of every proposal", group=GROUP, metavar="N")
    rank_by: str = rank_by_setting(GROUP)
    pareto: str | None = pareto_setting(GROUP)
    surrogate: bool = setting(
        False,
        "from the second generation on, breed children in numbers and evaluate those that a Gaussian process "
        "fitted to all complete generations takes for the best",
        group=MODEL,
    )
    surrogate_children: int = setting(
        20, "children that are bred for each place in a generation", at_least(1), MODEL, "N"
    )
    surrogate_spread: float = setting(
        1.0,
        "how many standard deviations a child is taken for better than the model expects: more explores, 0 "
        "trusts the model",
        NOT_NEGATIVE,
        MODEL,
        "X",
    )

    def __post_init__(self) -> None:
        for name, value in self._scaled().items():
            object.__setattr__(self, name, value)
        require_ranges(self)
        if self.num_mutations + self.num_crossovers > self.population_size:
            raise ConfigError(
                f"--num-mutations {self.num_mutations} and --num-crossovers {self.num_crossovers} are more "
                f"than --population-size {self.population_size}."
            )
        self._require_surrogate()

    def _require_surrogate(self) -> None:
        """Check what belongs to a surrogate."""
        entries = settings_of(type(self))
        for name in ("surrogate_children", "surrogate_spread"):
            if not self.surrogate and getattr(self, name) != entries[name].default:
                raise ConfigError(f"--{entries[name].flag} needs --surrogate.")
        if self.surrogate and self.rank_by != "top1":
            raise ConfigError(
                f"--surrogate goes with --rank-by top1: its model is one of accuracy, not of {self.rank_by}."
            )

    def _scaled(self) -> dict[str, int]:
        """What was not given, in proportion to the population; a wrong population is found later."""
        size = self.population_size if type(self.population_size) is int else PUBLISHED_POPULATION
        counts = {}
        if self.num_parents is None:
            parents = size if self.pareto else size * PUBLISHED_PARENTS // PUBLISHED_POPULATION
            counts["num_parents"] = max(1, parents)
        children = size * PUBLISHED_CHILDREN // PUBLISHED_POPULATION
        pair = ("num_mutations", "num_crossovers")
        for name, other in (pair, pair[::-1]):
            if getattr(self, name) is None:
                taken = getattr(self, other)
                left = size - taken if type(taken) is int else children
                counts[name] = max(0, min(children, left))
        return counts

    @property
    def told(self) -> str:
        """What a generation is, in words."""
        children = f"{self.num_mutations} mutations and {self.num_crossovers} crossovers"
        others = self.population_size - self.num_mutations - self.num_crossovers
        return (
            f"{self.population_size} candidates a generation: {children} of the best {self.num_parents}, and "
            f"{others} at random"
        )


class Evolution(GenerationalSearch[EvolutionConfig]):
    """The search: `ask` for candidates, `tell` their accuracies, until `ask` says `Answer.DONE`.

    Args:
        space: space that is searched.
        limits: what a subnet may cost.
        config: how the search runs.
        costs: what is known of a subnet's costs.

    Raises:
        ConfigError: no subnet of the space meets the limits.
    """

    algorithm: ClassVar[str] = "evolution"
    configuration: ClassVar[type] = EvolutionConfig

    def __init__(
        self,
        space: SearchSpace,
        limits: Limits = Limits(),
        config: EvolutionConfig = EvolutionConfig(),
        costs: Costs = COSTS,
    ) -> None:
        super().__init__(space, limits, config, costs)
        self._parents: tuple[Ledger, int, list[Architecture]] = (self.ledger, -1, [])
        self._guidance = _guidance_of(self)

    def parents(self) -> list[Architecture]:
        """Those that mutate and cross in this generation, best first: the best of complete ones, or with
        traded costs those of them that survive (NSGA-II's environmental selection).
        """
        ledger, generation, parents = self._parents
        if ledger is not self.ledger or generation != self._generation:
            # which answers of this generation are in depends on how many are evaluated at once
            earlier = [c for c, _ in self.ledger.ranking() if c.generation < self._generation]
            if self.traded:
                earlier = self._in_order_of_survival(earlier)
            parents = [candidate.architecture for candidate in earlier[: self.config.num_parents]]
            self._parents = (self.ledger, self._generation, parents)
        return parents

    def _in_order_of_survival(self, ranked: list[Candidate]) -> list[Candidate]:
        from .trade import objectives, surviving  # with NumPy, which the command line does without

        entries = [self.ledger[candidate.number] for candidate in ranked]
        return [ranked[place] for place in surviving(objectives(entries, self))]

    def _parent(self, parents: list[Architecture], rng: random.Random) -> Architecture:
        """One of them; with traded costs the better one of two (NSGA-II's binary tournament)."""
        if not self.traded:
            return rng.choice(parents)
        return parents[min(rng.randrange(len(parents)), rng.randrange(len(parents)))]

    def ask(self) -> Candidate | Answer:
        """The next candidate, or that there is none, see `GenerationalSearch.ask`."""
        answer = super().ask()
        if self._guidance is not None:
            self._guidance.tell(self.ledger, self._generation + (answer is Answer.DONE))
        return answer

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another search stopped, see `GenerationalSearch.load_state_dict`."""
        super().load_state_dict(state)
        if self._guidance is not None:
            self._guidance.forget(self._generation)

    def _propose(self) -> Candidate | None:
        candidate = super()._propose()
        if candidate is not None and self._guidance is not None:
            self._guidance.note(self.ledger[candidate.number])
        return candidate

    def _draw(self, rng: random.Random, index: int) -> tuple[Architecture | None, str]:
        if self._guidance is not None and self._generation:
            chosen = self._guidance.chosen(self._generation, self.ledger, self.parents(), self._bred)
            if chosen is not None:
                return (chosen[index], "surrogate") if index < len(chosen) else (self._random(rng), "random")
        mutations = self.config.num_mutations
        parents = self.parents() if index < mutations + self.config.num_crossovers else []
        if parents:
            origin = "mutation" if index < mutations else "crossover"
            child = self._first_new(lambda rng: self._child(origin, parents, rng), rng, OPERATOR_DRAWS)
            if child is not None:
                return child, origin
        return self._random(rng), "random"

    def _bred(self, parents: list[Architecture], rng: random.Random) -> Architecture | None:
        """A child within the limits, whether or not it is new."""
        config = self.config
        place = rng.randrange(config.population_size)
        if place < config.num_mutations:
            child = self._child("mutation", parents, rng)
        elif place < config.num_mutations + config.num_crossovers:
            child = self._child("crossover", parents, rng)
        else:
            child = self.space.sample(rng)
        if child is None or not self.limits.allows(child, self.space.model, self.costs):
            return None
        return child

    def _child(self, origin: str, parents: list[Architecture], rng: random.Random) -> Architecture | None:
        if origin == "crossover":
            return crossed(self._parent(parents, rng), self._parent(parents, rng), rng)
        parent, config = self._parent(parents, rng), self.config
        return mutated(parent, self.space, config.gene_probability, config.size_probability, rng)


def _guidance_of(evolution: Evolution) -> Guidance | None:
    if not evolution.config.surrogate:
        return None
    from .guidance import Guidance  # with NumPy, which the command line does without

    return Guidance(evolution.space, evolution.config, evolution.traded, evolution.costs)

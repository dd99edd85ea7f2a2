"""Random search: new subnets within the limits, drawn uniformly; what an evolution has to be better than.

With the seed of an evolution, its first generation is that evolution's first one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from ..architecture import Architecture
from ..config import at_least, require_ranges, setting
from ..costs import COSTS, Costs
from ..space import SearchSpace
from .generational import GenerationalSearch
from .limits import Limits
from .pareto import pareto_setting
from .ranking import rank_by_setting

GROUP = "random search"


@dataclass(frozen=True)
class RandomConfig:
    """How many subnets are drawn.

    Raises:
        ConfigError: a value is out of its range.
    """

    population_size: int = setting(50, "candidates that are evaluated together", at_least(1), GROUP, "N")
    generations: int = setting(20, "number of times that as many are drawn", at_least(1), GROUP, "N")
    seed: int = setting(0, "random seed of every proposal", group=GROUP, metavar="N")
    rank_by: str = rank_by_setting(GROUP)
    pareto: str | None = pareto_setting(GROUP)

    def __post_init__(self) -> None:
        require_ranges(self)


class RandomSearch(GenerationalSearch[RandomConfig]):
    """The search: `ask` for candidates, `tell` their accuracies, until `ask` says `Answer.DONE`.

    Args:
        space: space that is searched.
        limits: what a subnet may cost.
        config: how many subnets are drawn.
        costs: what is known of a subnet's costs.

    Raises:
        ConfigError: no subnet of the space meets the limits.
    """

    algorithm: ClassVar[str] = "random"
    configuration: ClassVar[type] = RandomConfig

    def __init__(
        self,
        space: SearchSpace,
        limits: Limits = Limits(),
        config: RandomConfig = RandomConfig(),
        costs: Costs = COSTS,
    ) -> None:
        super().__init__(space, limits, config, costs)

    def _draw(self, rng: random.Random, index: int) -> tuple[Architecture | None, str]:
        return self._random(rng), "random"

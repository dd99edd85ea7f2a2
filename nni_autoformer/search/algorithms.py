"""The search algorithms by name: the table that the command line's flag and the tuner's argument read."""

from __future__ import annotations

import logging
from typing import Any

from ..costs import COSTS, Costs
from ..errors import ConfigError
from ..space import SearchSpace
from .evolution import Evolution, EvolutionConfig
from .generational import GenerationalSearch
from .limits import Limits
from .random_search import RandomConfig, RandomSearch

_logger = logging.getLogger("nni_autoformer")

SEARCHERS: dict[str, type[GenerationalSearch[Any]]] = {
    searcher.algorithm: searcher for searcher in (Evolution, RandomSearch)
}


def searcher_with(
    space: SearchSpace,
    limits: Limits,
    configuration: EvolutionConfig | RandomConfig,
    costs: Costs = COSTS,
) -> GenerationalSearch[Any]:
    """The search of the algorithm that a configuration is of.

    Args:
        space: search space.
        limits: what a subnet may cost.
        configuration: configuration of a search algorithm.
        costs: what is known of a subnet's costs.

    Raises:
        ConfigError: no subnet of the space meets the limits, or it is no configuration of an algorithm.
    """
    for searcher in SEARCHERS.values():
        if type(configuration) is searcher.configuration:
            return searcher(space, limits, configuration, costs)
    raise ConfigError(f"{configuration!r} configures none of the algorithms {', '.join(SEARCHERS)}.")


def tell_setting(searcher: GenerationalSearch[Any]) -> None:
    """Say what a search was told that the user has not: counts in proportion to the population, and limits
    that leave nothing out.
    """
    config = searcher.config
    if isinstance(config, EvolutionConfig) and config.population_size != EvolutionConfig().population_size:
        _logger.info(f"The evolution has {config.told}.")
    for sentence in searcher.limits.idle(searcher.space, searcher.costs):
        _logger.warning(sentence)


def algorithm_of(name: str, source: str = "--algorithm") -> type[GenerationalSearch[Any]]:
    """The class of an algorithm; `configuration` is the class of its settings.

    Args:
        name: name of the algorithm.
        source: flag or key that named it, for the error message.

    Raises:
        ConfigError: there is no such algorithm.
    """
    if name not in SEARCHERS:
        raise ConfigError(f"{source} is {name!r}; it should be one of {', '.join(SEARCHERS)}.")
    return SEARCHERS[name]

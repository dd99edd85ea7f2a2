"""The search algorithms by name: the table that the command line's flag and the tuner's argument read."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .evolution import Evolution
from .generational import GenerationalSearch
from .random_search import RandomSearch

SEARCHERS: dict[str, type[GenerationalSearch[Any]]] = {
    searcher.algorithm: searcher for searcher in (Evolution, RandomSearch)
}


def algorithm_of(name: str, source: str = "--algorithm") -> type[GenerationalSearch[Any]]:
    """The class of an algorithm; `configuration` is the class of its settings.

    Args:
        name: name of the algorithm.
        source: where it was written, for the error message.

    Raises:
        ConfigError: there is no such algorithm.
    """
    if name not in SEARCHERS:
        raise ConfigError(f"{source} is {name!r}; it should be one of {', '.join(SEARCHERS)}.")
    return SEARCHERS[name]

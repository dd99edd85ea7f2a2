"""``nni-autoformer search``: search a trained supernet for the best subnet within limits.

Without --data and --dataset the images are those that the supernet was trained on, as its run's folder says.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..config import settings_of
from ..data.data_set import DataSet
from ..errors import ConfigError
from ..jobs.search_supernet import Engine
from ..search.algorithms import SEARCHERS
from ..search.evaluation import Evaluation
from ..search.evolution import Evolution
from ..search.folder import BEST_FILE
from . import flags
from .screen import images_of, say, say_next, say_summary

COMMON = (
    "--data --dataset --selection --max-params --max-latency --latency-table --pareto --surrogate "
    "--population-size --generations --seed --engine --device --resume --overwrite --verbose --quiet"
)
"""The flags that --help shows; --help-all shows the others too."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("search", help="search a supernet under limits", description=__doc__)
    parser.set_defaults(run=run)
    parser.common = COMMON.split()
    flags.add_checkpoint(parser, "a trained supernet")
    flags.add_settings(parser, DataSet)
    flags.add_selection(parser)
    flags.add_limits(parser)
    flags.add_deployment(parser)
    _add_algorithms(parser)
    flags.add_settings(parser, Evaluation)
    flags.add_settings(parser, Engine)
    flags.add_output(parser)


def _add_algorithms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--algorithm",
        choices=tuple(SEARCHERS),
        default=Evolution.algorithm,
        help="how candidates are proposed: evolution (default) from the best, or random, without regard "
        "to them",
    )
    known: set[str] = set()
    for searcher in SEARCHERS.values():
        flags.add_settings(parser, searcher.configuration, omit=known)
        known |= set(settings_of(searcher.configuration))


def algorithm_of(arguments: argparse.Namespace) -> Any:
    """The configuration of the search algorithm that the flags choose.

    Raises:
        ConfigError: a value is out of its range, or was given for another algorithm.
    """
    chosen = SEARCHERS[arguments.algorithm].configuration
    for searcher in SEARCHERS.values():
        for name, entry in settings_of(searcher.configuration).items():
            if name not in settings_of(chosen) and getattr(arguments, name) != entry.default:
                raise ConfigError(f"--{entry.flag} is not for --algorithm {arguments.algorithm}.")
    return flags.configured(chosen, arguments)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..jobs import search

    found = search(
        arguments.checkpoint,
        flags.configured(DataSet, arguments),
        limits=flags.limits_of(arguments),
        **flags.deployment_of(arguments),
        algorithm=algorithm_of(arguments),
        evaluation=flags.configured(Evaluation, arguments),
        engine=flags.configured(Engine, arguments),
        selection=arguments.selection,
        space=arguments.space,
        use_ema=arguments.use_ema,
        **flags.output_of(arguments),
    )
    if found.fresh:
        say_summary(found.output)
    else:
        say(f"{found.output} holds the finished search already.")
    best = found.output / BEST_FILE
    known = {"checkpoint": arguments.checkpoint, "space": arguments.space, "architecture": best}
    say_next("test", {**known, **images_of(arguments)})
    if found.experiment is not None:
        from ..experiment import until_stopped

        until_stopped(found.experiment)

"""``nni-autoformer search``: search a trained supernet for the best subnet within limits."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..data.data_set import DataSet
from ..errors import ConfigError
from ..jobs.search_supernet import Engine
from ..search.evaluation import Evaluation
from ..search.evolution import EvolutionConfig
from . import flags
from .screen import say, say_summary

if TYPE_CHECKING:
    from ..search.racing import Racing


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("search", help="search a supernet under limits", description=__doc__)
    parser.set_defaults(run=run)
    flags.add_checkpoint(parser, "a trained supernet")
    flags.add_settings(parser, DataSet)
    flags.add_selection(parser)
    flags.add_limits(parser)
    flags.add_settings(parser, EvolutionConfig)
    flags.add_settings(parser, Evaluation)
    flags.add_settings(parser, Engine)
    _add_racing(parser)
    flags.add_output(parser)


def _add_racing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("racing")
    group.add_argument(
        "--racing",
        action="store_true",
        help="evaluate candidates on growing parts of the images, and stop those that a paired test shows to "
        "be out of the best --num-parents; all others, the winner among them, still see every image",
    )
    group.add_argument(
        "--racing-confidence",
        type=float,
        metavar="P",
        help="confidence of each comparison: that a subnet which is not better is not called so (default "
        "0.95)",
    )


def racing_of(arguments: argparse.Namespace) -> Racing | None:
    """What the flags say; None for no racing.

    Raises:
        ConfigError: the confidence is out of its range, or given without racing.
    """
    from ..search.racing import Racing

    confidence = arguments.racing_confidence
    if not arguments.racing:
        if confidence is not None:
            raise ConfigError("--racing-confidence needs --racing.")
        return None
    return Racing() if confidence is None else Racing(confidence)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..jobs import search

    found = search(
        arguments.checkpoint,
        flags.configured(DataSet, arguments),
        limits=flags.limits_of(arguments),
        evolution=flags.configured(EvolutionConfig, arguments),
        evaluation=flags.configured(Evaluation, arguments),
        engine=flags.configured(Engine, arguments),
        racing=racing_of(arguments),
        selection=arguments.selection,
        space=arguments.space,
        **flags.output_of(arguments),
    )
    if found.fresh:
        say_summary(found.output)
    else:
        say(f"{found.output} holds the finished search already.")

"""``nni-autoformer sample``: accuracy of random subnets of a supernet with inherited weights, and the figure
of them; on several devices with ``torchrun --nproc_per_node 8 -m nni_autoformer sample …``.

Without --data and --dataset the data is that of the checkpoint's training, as the run's folder says.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..data.data_set import DataSet
from ..search.evaluation import Evaluation
from . import flags
from .screen import say, say_next, say_summary

COMMON = (
    "--n --architecture --data --dataset --split --max-params --max-macs --seed --precision --device "
    "--resume --overwrite --verbose --quiet"
)
"""The flags that --help shows; --help-all shows the others too."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("sample", help="evaluate random subnets of a supernet", description=__doc__)
    parser.set_defaults(run=run)
    parser.common = COMMON.split()
    flags.add_checkpoint(parser, "a trained supernet")
    parser.add_argument(
        "-n",
        "--n",
        type=int,
        default=1000,
        metavar="N",
        help="how many different random subnets (default 1000); under torchrun write -n, it takes --n for a "
        "flag of its own",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the draws (default 0)")
    parser.add_argument(
        "--architecture",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE|NAME",
        help="subnets to evaluate too and to mark in the figure: YAML files (a search writes best.yaml), or "
        "smallest, middle, largest, or names in the space's file, as published",
    )
    parser.add_argument(
        "--sizes",
        type=int,
        default=10,
        metavar="N",
        help="about how many sizes to name the best subnet of (default 10)",
    )
    parser.add_argument(
        "--split",
        choices=("test", "selection"),
        default="selection",
        help="'selection' (the default): the images that a search compares subnets on; or 'test'",
    )
    flags.add_settings(parser, DataSet)
    flags.add_selection(parser)
    flags.add_limits(parser)
    flags.add_deployment(parser)
    flags.add_settings(parser, Evaluation)
    flags.add_output(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command, or as one of several processes its share of it."""
    from ..jobs import sample

    found = sample(
        arguments.checkpoint,
        flags.configured(DataSet, arguments),
        n=arguments.n,
        seed=arguments.seed,
        architectures=arguments.architecture,
        sizes=arguments.sizes,
        split=arguments.split,
        selection=arguments.selection,
        limits=flags.limits_of(arguments),
        **flags.deployment_of(arguments),
        evaluation=flags.configured(Evaluation, arguments),
        space=arguments.space,
        use_ema=arguments.use_ema,
        **flags.output_of(arguments),
    )
    if found.fresh:
        say_summary(found.output)
    else:
        say(f"{found.output} holds the finished sample already.")
    say_next("plot", {}, str(found.output))

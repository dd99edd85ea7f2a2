"""``nni-autoformer pick``: the best subnet of a search or a sample within any limits, from what is known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..costs import KNOWN
from ..search.ranking import RANK_BY
from . import flags
from .screen import say, say_next

COMMON = (
    "--max-params --max-macs --max-memory --max-latency --latency-table --rank-by --output --verbose --quiet"
)
"""The flags that --help shows; --help-all shows the others too."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser(
        "pick", help="best subnet of a search under other limits", description=__doc__
    )
    parser.set_defaults(run=run)
    parser.common = COMMON.split()
    parser.add_argument(
        "--search",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of a search or a sample, finished or not",
    )
    flags.add_limits(parser)
    flags.add_deployment(parser)
    parser.add_argument(
        "--rank-by",
        choices=RANK_BY,
        help="what comes first: accuracy, or cross-entropy on the same images (default: as the search)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the architecture's file, which does not exist yet (default: picked/NUMBER.yaml in the folder)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..jobs import pick
    from ..report.summary import table

    picked = pick(
        arguments.search,
        limits=flags.limits_of(arguments),
        output=arguments.output,
        rank_by=arguments.rank_by,
        **flags.deployment_of(arguments),
    )
    rows = [
        ("picked", f"number {picked.number}, of {picked.chosen_from:,} within the limits"),
        ("architecture", str(picked.architecture)),
        (f"top-1 on the {picked.split} images", f"{picked.accuracy:.2f} %"),
        *((KNOWN[name].title, KNOWN[name].told(count)) for name, count in picked.costs.items()),
        ("written to", str(picked.file)),
    ]
    say(table(rows), end="")
    if picked.checkpoint is not None:
        say_next("test", {"checkpoint": picked.checkpoint, "architecture": picked.file})

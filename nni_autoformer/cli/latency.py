"""``nni-autoformer latency``: what subnets take on a device, as a table that a search can use; with --table,
what the table predicts of subnets beside what they take.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import settings_of
from ..errors import ConfigError
from ..latency_table import Conditions, LatencyTable
from ..report.summary import grid, table
from . import flags
from .screen import say, say_next

if TYPE_CHECKING:
    from ..jobs import CheckedLatency

COMMON = (
    "--space --runtime --device --batch-size --threads --precision --subnets --rounds --table --architecture "
    "--output --resume --overwrite --verbose --quiet"
)
"""The flags that --help shows; --help-all shows the others too."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    from ..jobs.latencies import Measuring

    parser = commands.add_parser("latency", help="measure subnets on a device", description=__doc__)
    parser.set_defaults(run=run)
    parser.common = COMMON.split()
    parser.add_argument("--space", help="name of a packaged search space, or a YAML file")
    flags.add_settings(parser, Conditions, group="conditions")
    flags.add_settings(parser, Measuring, group="measuring")
    check = parser.add_argument_group("predicted and measured")
    check.add_argument("--table", type=Path, metavar="FILE", help="a finished table, in place of --space")
    check.add_argument(
        "--architecture",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE|NAME",
        help="subnets to measure as the table was measured: YAML files (a search writes best.yaml), or "
        "smallest, middle, largest",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--output", type=Path, metavar="FILE", help="YAML file of the table")
    group.add_argument("--resume", action="store_true", help="go on with an unfinished measurement")
    group.add_argument("--overwrite", action="store_true", help="replace the table in --output")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    conditions = flags.configured(Conditions, arguments)
    if arguments.table is not None:
        _check(arguments, conditions)
    else:
        _measure(arguments, conditions)


def _measure(arguments: argparse.Namespace, conditions: Conditions) -> None:
    from ..jobs.latencies import Measuring, measure_latency

    for flag in ("space", "output"):
        if getattr(arguments, flag) is None:
            raise ConfigError(f"--{flag} is missing: a measurement needs --space and --output, or --table.")
    if arguments.architecture:
        raise ConfigError("--architecture needs --table: a finished table that predicts the subnets.")
    found = measure_latency(
        arguments.space,
        arguments.output,
        conditions=conditions,
        measuring=flags.configured(Measuring, arguments),
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )
    if not found.fresh:
        say(f"{found.output} holds the finished table already.")
    say(_told(found.table), end="")
    say(f"The table is in {found.output}")
    say_next("latency", {"table": found.output, "architecture": "middle"})


def _told(measured: LatencyTable) -> str:
    low, high = measured.range(measured.space)
    rows = [
        ("conditions", measured.conditions.told),
        ("machine", measured.machine["gpu"] or measured.machine["processor"]),
        ("subnets take", f"{low:.2f} to {high:.2f} ms, as predicted"),
        ("error", measured.error.told),
    ]
    return table(rows)


def _check(arguments: argparse.Namespace, conditions: Conditions) -> None:
    from ..jobs.latencies import check_latency

    if arguments.space is not None or arguments.output is not None:
        raise ConfigError("--table excludes --space and --output: it measures subnets and writes no table.")
    if not arguments.architecture:
        raise ConfigError("--table needs --architecture: the subnets to measure.")
    measured = LatencyTable.load(arguments.table)
    for name, entry in settings_of(Conditions).items():
        value, its = getattr(conditions, name), getattr(measured.conditions, name)
        if value not in (entry.default, its):
            raise ConfigError(
                f"--{entry.flag} {value}: {arguments.table} was measured with {its}; leave the flag out."
            )
    rows = check_latency(measured, arguments.architecture, rounds=arguments.rounds, seed=arguments.seed)
    say(f"{measured.conditions.told}; in ms")
    say(grid(("subnet", "predicted", "measured", "quartiles", "error"), [_row(row) for row in rows]), end="")


def _row(row: CheckedLatency) -> tuple[str, ...]:
    time = row.measured
    return (
        row.name,
        f"{row.predicted:.2f}",
        f"{time.median:.2f}",
        f"{time.low:.2f} to {time.high:.2f}",
        f"{row.error:+.1f} %",
    )

"""``nni-autoformer launch``: check the configuration of an NNI experiment, then start it as nnictl does.

nnictl starts whatever it is given, reports success, and leaves a wrong class name, a missing checkpoint or a
search space that differs from the checkpoint's to a log file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..experiment.exposure import EVERYWHERE, LOOPBACK
from ..experiment.preflight import require_home, require_port
from ..jobs.launching import check, is_local, read_config, start
from .screen import say


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("launch", help="check and start an NNI experiment", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="an experiment's config.yml")
    parser.add_argument("--port", type=int, default=8080, help="port of the web UI (default 8080)")
    parser.add_argument(
        "--host",
        choices=(LOOPBACK, EVERYWHERE),
        help=f"address that NNI's server listens on: {LOOPBACK} for this machine alone (default, unless "
        f"trials run on other machines), {EVERYWHERE} for all who reach it; it asks nobody who he is",
    )
    parser.add_argument("--check-only", action="store_true", help="check, and do not start")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from .trial_command import check_command

    require_home()
    require_port(arguments.port)
    config = read_config(arguments.config)
    if not is_local(config):
        require_port(arguments.port + 1)  # by which NNI talks to the other machines
    check(config, check_command)
    if arguments.check_only:
        say(f"{arguments.config}: nothing wrong was found.")
        return
    name = start(config, arguments.port, arguments.host)
    say(f"Experiment {name}: http://localhost:{arguments.port}\nStop it with: nnictl stop {name}")

"""``nni-autoformer launch``: check the configuration of an NNI experiment, then start it as nnictl does.

nnictl starts whatever it is given, reports success, and leaves a wrong class name, a missing checkpoint or a
search space that differs from the checkpoint's to a log file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..experiment.exposure import EVERYWHERE, LOOPBACK
from ..experiment.preflight import require_home, require_port
from ..jobs.launching import check, read_config, require_same_space, start
from ..space import SearchSpace
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
    require_home()
    require_port(arguments.port)
    config = read_config(arguments.config)
    check(config, check_command)
    if arguments.check_only:
        say(f"{arguments.config}: nothing wrong was found.")
        return
    name = start(config, arguments.port, arguments.host)
    say(f"Experiment {name}: http://localhost:{arguments.port}\nStop it with: nnictl stop {name}")


def check_command(words: list[str], search_space: Any) -> None:
    """Check the trial command of an experiment.

    Args:
        words: command line, behind the program's name.
        search_space: search space of the experiment.

    Raises:
        ConfigError: something is wrong.
    """
    from . import build_parser
    from .overrides import LABEL, OF_ONE_SUBNET

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments = build_parser().parse_args(words)
    except SystemExit:
        raise ConfigError(f"trialCommand: {said.getvalue().strip().splitlines()[-1]}") from None
    data = getattr(arguments, "data", None)
    if data is not None and not Path(data).is_dir():
        raise ConfigError(f"trialCommand: --data {data}: there is no such folder.")
    if getattr(arguments, "checkpoint", None) is not None:
        from ..checkpoints import read_header

        space = None if arguments.space is None else SearchSpace.load(arguments.space)
        header = read_header(arguments.checkpoint, space)
        space = header.space
    elif getattr(arguments, "space", None) is not None:
        space = SearchSpace.load(arguments.space)
    else:
        return
    labels = {label: entry for label, entry in (search_space or {}).items() if LABEL.fullmatch(label)}
    if labels and arguments.command in OF_ONE_SUBNET:
        require_same_space(labels, space)

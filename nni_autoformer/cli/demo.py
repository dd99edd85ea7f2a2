"""``nni-autoformer demo``: the whole job on scikit-learn's scanned digits, in a few minutes on a CPU."""

from __future__ import annotations

import argparse
from typing import Any

from ..jobs.preparation import SUPERNET_FILE
from ..search.folder import BEST_FILE
from . import flags
from .screen import say, say_next, say_summary


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("demo", help="the whole job on small real images", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("--seed", type=int, default=0, help="random seed of training and search (default 0)")
    parser.add_argument("--epochs", type=int, default=80, help="passes over the training images (default 80)")
    flags.add_device(parser)
    flags.add_output(parser, default="runs/demo")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..jobs import demo
    from ..report.summary import SUMMARY_FILE

    found = demo(
        epochs=arguments.epochs,
        seed=arguments.seed,
        device=arguments.device,
        **flags.output_of(arguments),
    )
    if found.searched is None:
        text = (found.output / SUMMARY_FILE).read_text(encoding="utf-8")
        say(f"{found.output} holds the finished demo already:\n\n{text}")
    else:
        say_summary(found.output)
    trained, best = found.output / SUPERNET_FILE, found.output / BEST_FILE
    known = {"checkpoint": trained, "architecture": best}
    output = found.output / "winner.safetensors"
    say_next("export", {**known, "format": "safetensors", "output": output})

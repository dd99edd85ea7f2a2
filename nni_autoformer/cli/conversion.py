"""``nni-autoformer info`` and ``nni-autoformer convert``: what a checkpoint is, and the same network in
another layout.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report.summary import table
from ..space import SearchSpace
from . import flags
from .screen import middle_of, say, say_next

if TYPE_CHECKING:
    from ..checkpoints import Checkpoint

_logger = logging.getLogger("nni_autoformer")


def add_info_parser(commands: Any) -> None:
    """Add the flags of `info`."""
    parser = commands.add_parser(
        "info", help="say what a checkpoint is", description="Say what a checkpoint is."
    )
    parser.set_defaults(run=run_info)
    parser.add_argument("checkpoint", type=Path, metavar="FILE")
    parser.add_argument("--space", help="the search space, for a supernet that does not name it")
    flags.add_use_ema(parser)


def add_convert_parser(commands: Any) -> None:
    """Add the flags of `convert`."""
    text = "Write a checkpoint in another layout, where that is exact."
    parser = commands.add_parser("convert", help="write a checkpoint in another layout", description=text)
    parser.set_defaults(run=run_convert)
    flags.add_checkpoint(parser)
    parser.add_argument(
        "--to",
        required=True,
        choices=("supernet", "published", "timm", "hub"),
        help="supernet: our safetensors file; published: as the published code reads; timm, hub: one subnet",
    )
    flags.add_architecture(parser, "which subnet of a supernet, for timm and hub")
    flags.add_file_output(parser)


def checkpoint_of(arguments: argparse.Namespace) -> Checkpoint:
    """The checkpoint that a command is about, opened."""
    from ..checkpoints import Checkpoint

    space = None if arguments.space is None else SearchSpace.load(arguments.space)
    return Checkpoint(arguments.checkpoint, space, use_ema=arguments.use_ema)


def run_info(arguments: argparse.Namespace) -> None:
    """Print what a checkpoint says of itself."""
    from ..checkpoints.description import describe

    header = checkpoint_of(arguments).header
    say(table(describe(header)), end="")
    known = {"checkpoint": arguments.checkpoint, "space": arguments.space, "data": "DIR"}
    if header.of_supernet:
        say_next("search", {**known, "max_params": middle_of(header.space), "output": "runs/search"})
    else:
        say_next("test", known)


def run_convert(arguments: argparse.Namespace) -> None:
    """Convert a checkpoint."""
    from ..checkpoints.convert import convert
    from ..checkpoints.writing import require_new

    require_new(arguments.output)
    _logger.info(f"Converting {arguments.checkpoint} to the layout '{arguments.to}'.")
    output = convert(checkpoint_of(arguments), arguments.to, arguments.output, arguments.architecture)
    say(f"written to {output}")
    say_next("info", {}, str(output))

"""``nni-autoformer export``: one subnet as safetensors, torch.export or ONNX, checked before it counts."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from ..costs import told_costs
from . import flags
from .conversion import checkpoint_of
from .screen import say, say_next

_logger = logging.getLogger("nni_autoformer")


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("export", help="write a subnet for other programs", description=__doc__)
    parser.set_defaults(run=run)
    flags.add_checkpoint(parser)
    flags.add_architecture(parser, "which subnet of a supernet, see nni-autoformer test")
    parser.add_argument(
        "--format", required=True, choices=("safetensors", "onnx", "torch-export"), help="what to write"
    )
    flags.add_file_output(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..checkpoints.writing import require_new
    from ..export import export_subnet, require_onnx

    require_new(arguments.output)
    if arguments.format == "onnx":
        require_onnx()
    checkpoint = checkpoint_of(arguments)
    architecture = checkpoint.architecture(arguments.architecture)
    costs = told_costs(architecture, checkpoint.header.space.model)
    _logger.info(
        f"Exporting {architecture} ({costs}) of {arguments.checkpoint} as {arguments.format}; on cpu in fp32."
    )
    path, difference = export_subnet(checkpoint, architecture, arguments.format, arguments.output)
    say(f"{path}: {architecture}; logits within {difference:.1e} of the checkpoint's")
    if arguments.format == "safetensors":
        say_next("info", {}, str(path))

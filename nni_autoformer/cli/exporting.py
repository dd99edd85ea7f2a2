"""``nni-autoformer export``: one subnet as safetensors, torch.export or ONNX, checked before it counts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..jobs.evaluate import architecture_of
from ..space import SearchSpace
from . import flags


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("export", help="write a subnet for other programs", description=__doc__)
    parser.set_defaults(run=run)
    flags.add_checkpoint(parser)
    parser.add_argument(
        "--architecture", metavar="FILE|NAME", help="which subnet of a supernet, see nni-autoformer test"
    )
    parser.add_argument(
        "--format", required=True, choices=("safetensors", "onnx", "torch-export"), help="what to write"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a file that does not exist yet"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if arguments.output.exists():
        raise ConfigError(f"--output {arguments.output} exists already; give another name.")
    space = None if arguments.space is None else SearchSpace.load(arguments.space)

    from ..checkpoints import load_subnet, load_supernet, read_header
    from ..export import export, require_onnx

    if arguments.format == "onnx":
        require_onnx()
    header = read_header(arguments.checkpoint, space)
    architecture = architecture_of(arguments.architecture, arguments.checkpoint, header, space)
    if header.kind.endswith("subnet"):
        subnet, _ = load_subnet(arguments.checkpoint, architecture, space)
        reference: Any = subnet
    else:
        supernet, _ = load_supernet(arguments.checkpoint, space)
        supernet.eval().set_architecture(architecture)
        subnet, reference = supernet.extract(architecture), supernet
    difference = export(subnet, reference, arguments.format, arguments.output, header.run)
    print(f"{arguments.output}: {architecture}; logits within {difference:.1e} of the checkpoint's")

"""``nni-autoformer info`` and ``nni-autoformer convert``: what a checkpoint is, and the same network in
another layout.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..complexity import COSTS
from ..errors import ConfigError
from ..files import replacing
from ..jobs.evaluate import architecture_of
from ..report.summary import table
from ..space import SearchSpace
from . import flags

if TYPE_CHECKING:
    from ..model import AutoFormer

PUBLISHED_WIDTHS = {"tiny": 256, "tiny-released": 256, "base": 640, "base-released": 640}
"""Embedding sizes of the published files where they are above the largest choice; no subnet uses the rest."""


def add_info_parser(commands: Any) -> None:
    """Add the flags of `info`."""
    parser = commands.add_parser(
        "info", help="say what a checkpoint is", description="Say what a checkpoint is."
    )
    parser.set_defaults(run=run_info)
    parser.add_argument("checkpoint", type=Path, metavar="FILE")
    parser.add_argument("--space", help="the search space, for a supernet that does not name it")


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
    parser.add_argument(
        "--architecture", metavar="FILE|NAME", help="which subnet of a supernet, for timm and hub"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a file that does not exist yet"
    )


def run_info(arguments: argparse.Namespace) -> None:
    """Print what a checkpoint says of itself."""
    from ..checkpoints import read_header

    space = None if arguments.space is None else SearchSpace.load(arguments.space)
    header = read_header(arguments.checkpoint, space)
    low, high = COSTS["params"].range(header.space)
    rows = [
        ("kind", header.kind),
        ("space", f"{header.space.name}, {header.space.size:,} subnets"),
        ("parameters", f"{low:,}" if low == high else f"{low:,} to {high:,}"),
        *(
            (key, str(list(getattr(header.space, key))))
            for key in ("embed_dim", "depth", "num_heads", "mlp_ratio")
        ),
        ("model", json.dumps(header.space.model.to_dict())),
    ]
    for name, architecture in header.space.architectures.items():
        rows.append((name, str(architecture)))
    for key, value in header.run.items():
        text = json.dumps(value)
        rows.append((key, text if len(text) <= 200 else f"{text[:197]}…"))
    rows += [(f"{package} version", version) for package, version in header.versions.items()]
    print(table(rows), end="")


def run_convert(arguments: argparse.Namespace) -> None:
    """Convert a checkpoint."""
    if arguments.output.exists():
        raise ConfigError(f"--output {arguments.output} exists already; give another name.")
    space = None if arguments.space is None else SearchSpace.load(arguments.space)
    if arguments.to in ("timm", "hub"):
        _convert_subnet(arguments, space)
    elif arguments.architecture is not None:
        raise ConfigError(
            f"--architecture is for a single subnet; --to {arguments.to} writes the whole supernet."
        )
    else:
        _convert_supernet(arguments, space)
    print(f"written to {arguments.output}")


def _convert_subnet(arguments: argparse.Namespace, space: SearchSpace | None) -> None:
    import torch

    from ..checkpoints import load_subnet, read_header, save_subnet
    from ..checkpoints.layouts import timm_to_hub

    header = read_header(arguments.checkpoint, space)
    _require_exact(arguments.checkpoint, header.kind)
    architecture = architecture_of(arguments.architecture, arguments.checkpoint, header, space)
    subnet, header = load_subnet(arguments.checkpoint, architecture, space)
    if arguments.to == "timm":
        save_subnet(arguments.output, subnet, header.run)
        return
    with replacing(arguments.output) as temporary:
        torch.save(timm_to_hub(subnet.state_dict()), temporary)


def _convert_supernet(arguments: argparse.Namespace, space: SearchSpace | None) -> None:
    import torch

    from ..checkpoints import load_supernet, read_header, save_supernet
    from ..checkpoints.layouts import published_key, published_shape

    header = read_header(arguments.checkpoint, space)
    _require_exact(arguments.checkpoint, header.kind)
    if header.kind.endswith("subnet"):
        supernet = _around(arguments.checkpoint)
    else:
        supernet, header = load_supernet(arguments.checkpoint, space)
    if arguments.to == "supernet":
        save_supernet(arguments.output, supernet, header.run)
        return
    width = PUBLISHED_WIDTHS.get(header.space.name, header.space.embed_dim[-1])
    model = {}
    for key, tensor in supernet.state_dict().items():
        name = published_key(key)
        hidden = int(width * header.space.mlp_ratio[-1])
        model[name] = torch.zeros(published_shape(name, tuple(tensor.shape), width, hidden))
        model[name][tuple(slice(size) for size in tensor.shape)] = tensor
    with replacing(arguments.output) as temporary:
        torch.save({"model": model}, temporary)


def _around(checkpoint: Path) -> AutoFormer:
    """The supernet of a space that is just large enough for a file's subnet, zero where it has nothing."""
    import torch

    from ..checkpoints import load_subnet
    from ..model import build_supernet

    subnet, header = load_subnet(checkpoint)
    supernet = build_supernet(header.space)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.zero_()
    supernet.implant(subnet)
    return supernet


def _require_exact(checkpoint: Path, kind: str) -> None:
    if kind == "hub supernet":
        raise ConfigError(
            f"{checkpoint}: a supernet of NNI's hub cannot be converted exactly: its subnets below the "
            "largest head "
            "count have other biases of queries, keys and values."
        )

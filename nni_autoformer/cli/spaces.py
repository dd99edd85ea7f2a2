"""``nni-autoformer space``: a search space for every consumer, and its size."""

from __future__ import annotations

import argparse
import json
from typing import Any

import yaml

from ..costs import told_costs
from ..report.summary import table
from ..space import SearchSpace
from . import flags

FORMATS = ("table", "yaml", "nnictl", "nas")


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("space", help="show a search space", description=__doc__)
    parser.set_defaults(run=run)
    flags.add_space(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="table: for people (the default); yaml: as this package reads it; nnictl: search_space.json of "
        "an NNI experiment; nas: the labels and values of the NNI model space, as JSON",
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    space = SearchSpace.load(arguments.space)
    if arguments.format == "yaml":
        print(yaml.safe_dump(space.to_dict(), sort_keys=False, default_flow_style=None), end="")
    elif arguments.format == "nnictl":
        print(json.dumps(space.to_nni(), indent=2))
    elif arguments.format == "nas":
        print(json.dumps(_nas(space), indent=2))
    else:
        print(table(_rows(space)), end="")


def _nas(space: SearchSpace) -> dict[str, list[float]]:
    """What NNI itself finds in the model space."""
    from ..model import AutoFormer

    mutables = AutoFormer(space).simplify()
    return {str(label): list(mutable.values) for label, mutable in mutables.items()}


def _rows(space: SearchSpace) -> list[tuple[str, str]]:
    model = space.model
    rows = [
        ("search space", space.name),
        ("subnets", f"{space.size:,} ({space.size:.1e})"),
        *((key, str(list(getattr(space, key)))) for key in ("embed_dim", "depth", "num_heads", "mlp_ratio")),
        ("image", f"{model.img_size[0]} x {model.img_size[1]}, patches of {model.patch_size}"),
        ("classes", f"{model.num_classes:,}"),
    ]
    for name, architecture in space.named().items():
        rows.append((name, told_costs(architecture, model)))
    return rows

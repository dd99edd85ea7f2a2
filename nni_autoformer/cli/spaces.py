"""``nni-autoformer space``: a search space for every consumer, and its size."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import yaml

from ..costs import told_costs
from ..errors import ConfigError
from ..report.summary import table
from ..space import SearchSpace
from . import flags

_logger = logging.getLogger("nni_autoformer")

FORMATS = ("table", "yaml", "nnictl", "nas")


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("space", help="show a search space", description=__doc__)
    parser.set_defaults(run=run)
    flags.add_space(parser, required=False)
    parser.add_argument(
        "--from",
        dest="start_from",
        metavar="SOURCE",
        help="make a space whose largest subnet is a trained network: a name of timm's, or as for "
        "nni-autoformer train --from",
    )
    parser.add_argument(
        "--img-size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="with --from: side, or height and width, of the images (default: the network's)",
    )
    parser.add_argument(
        "--relative-position",
        action="store_true",
        help="with --from: the subnets have a relative position too, which is zero at first",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the space there as YAML, to be edited and trained"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="table: for people (the default); yaml: as this package reads it; nnictl: search_space.json of "
        "an NNI experiment; nas: the labels and values of the NNI model space, as JSON",
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if arguments.output is not None:
        from ..checkpoints.writing import require_new, whole_file

        require_new(arguments.output)
    space = _space(arguments)
    if arguments.output is not None:
        with whole_file(arguments.output) as temporary:
            space.to_yaml(temporary)
        _logger.info(f"The space is in {arguments.output}.")
    if arguments.format == "yaml":
        print(yaml.safe_dump(space.to_dict(), sort_keys=False, default_flow_style=None), end="")
    elif arguments.format == "nnictl":
        print(json.dumps(space.to_nni(), indent=2))
    elif arguments.format == "nas":
        print(json.dumps(_nas(space), indent=2))
    else:
        print(table(_rows(space)), end="")


def _space(arguments: argparse.Namespace) -> SearchSpace:
    if (arguments.space is None) == (arguments.start_from is None):
        raise ConfigError("give either --space, a search space, or --from, a network to make one of.")
    if arguments.space is not None:
        for name, given in (
            ("img-size", arguments.img_size is not None),
            ("relative-position", arguments.relative_position),
        ):
            if given:
                raise ConfigError(f"--{name} is for a space that is made with --from.")
        return SearchSpace.load(arguments.space)
    from ..jobs import space_from

    return space_from(arguments.start_from, arguments.img_size, arguments.relative_position)


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

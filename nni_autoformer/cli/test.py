"""``nni-autoformer test``: accuracy of one subnet, with inherited weights, on the test images.

Without --data and --dataset the data is that of the checkpoint's training, as the run's folder says.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..architecture import Architecture
from ..costs import KNOWN, cost_rows
from ..data.data_set import DataSet
from ..report.summary import loss_row, table
from ..search.evaluation import Evaluation
from . import flags
from .screen import say, say_next

if TYPE_CHECKING:
    from ..jobs import Tested
    from ..jobs.evaluate import Which


COMMON = "--architecture --data --dataset --split --selection --json --precision --device --verbose --quiet"
"""The flags that --help shows; --help-all shows the others too."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("test", help="test one subnet of a supernet", description=__doc__)
    parser.set_defaults(run=run)
    parser.common = COMMON.split()
    flags.add_checkpoint(parser)
    flags.add_architecture(
        parser,
        "which subnet of a supernet: a YAML file (a search writes best.yaml), or smallest, middle, largest, "
        "or a name in the space's file, as published",
    )
    parser.add_argument(
        "--split",
        choices=("test", "selection"),
        default="test",
        help="'test' (the default), or 'selection': the images that a search compares subnets on",
    )
    flags.add_settings(parser, DataSet)
    flags.add_selection(parser)
    flags.add_settings(parser, Evaluation)
    flags.add_deployment(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object and nothing else"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command; as an NNI trial the labels of the search space are the architecture."""
    from ..jobs import test

    tested = test(
        arguments.checkpoint,
        flags.configured(DataSet, arguments),
        architecture=which(arguments),
        split=arguments.split,
        selection=arguments.selection,
        evaluation=flags.configured(Evaluation, arguments),
        **flags.deployment_of(arguments),
        space=arguments.space,
        use_ema=arguments.use_ema,
    )
    if arguments.json:
        say(json.dumps(tested_json(tested, arguments.checkpoint)))
        return
    say(table(tested_rows(tested)), end="")
    known = {"checkpoint": arguments.checkpoint, "space": arguments.space}
    known["architecture"] = arguments.architecture
    output = Path(arguments.architecture or arguments.checkpoint).stem + "-subnet.safetensors"
    say_next("export", {**known, "format": "safetensors", "output": output})


def tested_json(tested: Tested, checkpoint: Path) -> dict[str, Any]:
    """What a test found, as JSON: top-1 and top-5 in percent, the cross-entropy, and costs in the unit that
    ends their name.
    """
    costs = {
        f"{name}_{KNOWN[name].unit.lower()}": count / KNOWN[name].scale
        for name, count in tested.costs.items()
    }
    return {
        "checkpoint": str(checkpoint),
        "architecture": tested.architecture.to_dict(),
        "split": tested.split,
        "images": tested.images,
        "top1": tested.top1,
        "top5": tested.top5,
        "loss": tested.loss,
        **costs,
    }


def which(arguments: argparse.Namespace) -> Which:
    """Which subnet a command is about: an NNI trial's, or else that of --architecture."""
    sample = getattr(arguments, "sample", None)
    return arguments.architecture if sample is None else Architecture.from_sample(sample)


def tested_rows(tested: Tested) -> list[tuple[str, str]]:
    """What a test found, as rows of a table."""
    return [
        ("architecture", str(tested.architecture)),
        *cost_rows(tested.architecture, tested.space.model, tested.known),
        (f"{tested.split} images", f"{tested.images:,}"),
        ("top-1", f"{tested.top1:.2f} %"),
        ("top-5", f"{tested.top5:.2f} %"),
        *loss_row(tested.loss),
    ]

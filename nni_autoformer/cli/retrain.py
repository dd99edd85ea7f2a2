"""``nni-autoformer retrain``: train one subnet of a search space from scratch.

On several GPUs or machines: ``torchrun --nproc_per_node N -m nni_autoformer retrain …``.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..data.data_set import DataSet, Loading
from ..training.upkeep import Upkeep
from . import flags
from .recipe_flags import add_recipe
from .screen import images_of, say_next
from .test import which
from .train import say_trained, training_of

if TYPE_CHECKING:
    from ..jobs import TrainedSubnet


COMMON = (
    "--architecture --data --dataset --selection --recipe --epochs --batch-size --lr --precision --seed "
    "--workers --device --resume --overwrite --verbose --quiet"
)
"""The flags that --help shows; --help-all shows the others too."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("retrain", help="train one subnet from scratch", description=__doc__)
    parser.set_defaults(run=run)
    parser.common = COMMON.split()
    flags.add_space(parser)
    flags.add_architecture(
        parser,
        "which subnet: a YAML file (a search writes best.yaml), or smallest, middle, largest, or a name in "
        "the space's file, as published",
    )
    add_subnet_training(parser, "retrain")


def add_subnet_training(parser: argparse.ArgumentParser, task: str) -> None:
    """Add the flags of the commands that train a single network.

    Args:
        parser: parser of the command.
        task: 'retrain' or 'finetune'.
    """
    flags.add_settings(parser, DataSet)
    flags.add_settings(parser, Loading)
    parser.add_argument(
        "--selection",
        metavar="N-per-class|FILE|none",
        help="training images to hold out: the accuracies of the epochs are then on them, and the best "
        "epoch is kept too (default none: every training image is trained on, and the accuracies, on the "
        "test images, choose nothing; as an NNI trial, whose accuracy the experiment chooses by: "
        "100-per-class, at most a fifth of the smallest class)",
    )
    add_recipe(parser, task)
    flags.add_device(parser)
    flags.add_output(parser)
    flags.add_settings(parser, Upkeep)


def run(arguments: argparse.Namespace) -> None:
    """Run the command; as an NNI trial the labels of the search space are the architecture."""
    from ..jobs import retrain

    trained = retrain(
        arguments.space,
        which(arguments),
        flags.configured(DataSet, arguments),
        selection=arguments.selection,
        device=arguments.device,
        **training_of(arguments),
    )
    say_subnet(trained, arguments)


def say_subnet(trained: TrainedSubnet, arguments: argparse.Namespace) -> None:
    """Say what the training of a subnet has come to, where the weights are, and what to do with them."""
    say_trained(trained, "subnet")
    if trained.header.run.selection is not None:
        say_next("test", {"checkpoint": trained.checkpoint, **images_of(arguments)})
    output = trained.checkpoint.with_suffix(".pt2")
    say_next("export", {"checkpoint": trained.checkpoint, "format": "torch-export", "output": output})

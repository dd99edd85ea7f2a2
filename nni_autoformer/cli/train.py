"""``nni-autoformer train``: train the supernet of a search space through NNI's one-shot experiment.

On several GPUs or machines: ``torchrun --nproc_per_node N -m nni_autoformer train …``; every step trains the
same subnet on all of them.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..checkpoints.metrics import AVERAGED, VALIDATED, accuracies
from ..data.data_set import DataSet, Loading
from ..jobs.started_from import IMPORTANCE_IMAGES, METHODS
from ..training.recipe import Recipe
from ..training.upkeep import Upkeep
from . import flags
from .recipe_flags import add_recipe
from .screen import images_of, middle_of, say, say_next

if TYPE_CHECKING:
    from ..jobs.train_supernet import Trained

COMMON = (
    "--from --importance --data --dataset --selection --recipe --epochs --batch-size --lr "
    "--warmup-epochs --sampling --precision --seed --workers --device --resume --overwrite --verbose --quiet"
)
"""The flags that --help shows; --help-all shows the others too."""


def add_parser(commands: Any) -> None:
    """Add the command's flags; those of the recipe have timm's names."""
    parser = commands.add_parser("train", help="train a supernet", description=__doc__)
    parser.set_defaults(run=run)
    parser.common = COMMON.split()
    flags.add_space(parser, required=False)
    add_start(parser)
    flags.add_settings(parser, DataSet)
    flags.add_settings(parser, Loading)
    parser.add_argument(
        "--selection",
        metavar="N-per-class|FILE|none",
        help="training images to hold out for the search (default 100-per-class, at most a fifth of the "
        "smallest class); their list goes beside the checkpoint",
    )
    add_recipe(parser)
    flags.add_device(parser)
    flags.add_output(parser)
    flags.add_settings(parser, Upkeep)


def add_start(parser: argparse.ArgumentParser) -> None:
    """Which trained network the supernet starts from, and in which order."""
    parser.add_argument(
        "--from",
        dest="start_from",
        metavar="SOURCE",
        help="start from a trained network, which the largest subnet then equals: a supernet, a subnet or a "
        "ViT of timm in a file, timm:NAME, NAME=FILE, or local-dir:FOLDER",
    )
    parser.add_argument(
        "--importance",
        choices=METHODS,
        help="by what its heads, neurons and channels are ordered, the least important cut first (default: "
        "taylor, and none for a supernet)",
    )
    parser.add_argument(
        "--importance-images",
        type=int,
        default=IMPORTANCE_IMAGES,
        metavar="N",
        help=f"training images that importance is measured on (default {IMPORTANCE_IMAGES})",
    )
    flags.add_use_ema(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..jobs import train

    trained = train(
        arguments.space,
        flags.configured(DataSet, arguments),
        start_from=arguments.start_from,
        importance=arguments.importance,
        importance_images=arguments.importance_images,
        use_ema=arguments.use_ema,
        selection=arguments.selection,
        device=arguments.device,
        **training_of(arguments),
    )
    say_trained(trained, "supernet")
    again = {"checkpoint": trained.checkpoint, **images_of(arguments)}
    if trained.header.run.selection is None:
        again["selection"] = "10-per-class"
    limit = middle_of(trained.header.space)
    say_next("search", {**again, "max_params": limit, "output": f"{trained.output}-search"})


def say_trained(trained: Trained, what: str) -> None:
    """Say what a training has come to, and where the weights are."""
    run = trained.header.run
    of = "selection" if run.selection is not None else "test"
    for prefix, whose in ((VALIDATED, ""), (AVERAGED, " of the moving average")):
        if found := accuracies(run.metrics, prefix):
            told = ", ".join(f"{name} {value:.2f} %" for name, value in found.items())
            say(f"top-1{whose} on the {of} images: {told.removeprefix('network ')}")
    already = f"{trained.output} holds the finished run already: {trained.checkpoint}"
    say(f"The {what} is in {trained.checkpoint}" if trained.fresh else already)


def training_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What all commands that train are told by their flags, as arguments of a job."""
    return {
        "recipe": arguments.recipe,
        "loading": flags.configured(Loading, arguments),
        "upkeep": flags.configured(Upkeep, arguments),
        **flags.output_of(arguments),
        **flags.given(Recipe, arguments),
    }

"""``nni-autoformer finetune``: train one subnet on, from the weights of a supernet or of a subnet's file; on
the same data or other, at the same image size or another.

On several GPUs or machines: ``torchrun --nproc_per_node N -m nni_autoformer finetune …``.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..data.data_set import DataSet
from . import flags
from .retrain import add_subnet_training, say_subnet
from .test import which
from .train import training_of

COMMON = (
    "--architecture --data --dataset --img-size --selection --recipe --epochs --batch-size --lr "
    "--layer-decay --precision --seed --device --resume --overwrite --verbose --quiet"
)
"""The flags that --help shows; --help-all shows the others too."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("finetune", help="train one subnet on", description=__doc__)
    parser.set_defaults(run=run)
    parser.common = COMMON.split()
    flags.add_checkpoint(parser)
    flags.add_architecture(parser, "which subnet of a supernet, see nni-autoformer test")
    parser.add_argument(
        "--img-size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="side, or height and width, of the images (default: the checkpoint's); for another one the "
        "position embedding is resampled as timm does it",
    )
    parser.add_argument(
        "--relative-position",
        choices=("interpolate", "clip"),
        help="what becomes of the relative tables at another --img-size: interpolate (default) stretches "
        "them with the grid of patches; clip keeps them, and patches farther apart share the farthest row",
    )
    add_subnet_training(parser, "finetune")


def run(arguments: argparse.Namespace) -> None:
    """Run the command; as an NNI trial the labels of the search space are the architecture."""
    from ..jobs import finetune

    trained = finetune(
        arguments.checkpoint,
        flags.configured(DataSet, arguments),
        architecture=which(arguments),
        space=arguments.space,
        use_ema=arguments.use_ema,
        img_size=arguments.img_size,
        relative_position=arguments.relative_position,
        selection=arguments.selection,
        device=arguments.device,
        **training_of(arguments),
    )
    say_subnet(trained, arguments)

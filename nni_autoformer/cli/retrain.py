"""``nni-autoformer retrain``: train one subnet of a search space from scratch.

On several GPUs or machines: ``torchrun --nproc_per_node N -m nni_autoformer retrain …``.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..space import Architecture, SearchSpace
from . import options
from .recipe_flags import recipe_of
from .subnet_training import SubnetRun, add_flags, train_subnet

if TYPE_CHECKING:
    from ..jobs.preparation import TrainJob
    from ..nn.subnet import Subnet


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("retrain", help="train one subnet from scratch", description=__doc__)
    parser.set_defaults(run=run)
    options.add_space(parser)
    parser.add_argument(
        "--architecture",
        metavar="FILE|NAME",
        help="which subnet: a YAML file (a search writes best.yaml), or smallest, middle, largest, or a name "
        "in the space's file, as published",
    )
    add_flags(parser, "retrain")


def run(arguments: argparse.Namespace) -> None:
    """Run the command; as an NNI trial the labels of the search space are the architecture."""
    options.workers_of(arguments)
    space = SearchSpace.load(arguments.space)
    architecture = _architecture(arguments, space)
    recipe = recipe_of(arguments, space, "retrain")

    def start(job: TrainJob) -> tuple[Subnet, list[str]]:
        from ..training.initial_weights import fresh_subnet

        return fresh_subnet(architecture, job.space, job.recipe), ["The weights are new."]

    splits = options.open_splits(arguments, space)
    facts = {"inherited": None, "supernet_depth": space.max_depth}
    train_subnet(arguments, SubnetRun("retrain", architecture, space, recipe, splits, {}, facts, start))


def _architecture(arguments: argparse.Namespace, space: SearchSpace) -> Architecture:
    sample = getattr(arguments, "sample", None)
    if sample is not None:
        return space.require(Architecture.from_sample(sample), "the NNI trial's architecture")
    if arguments.architecture is None:
        raise ConfigError(f"--architecture is missing: say which subnet of '{space.name}' to train.")
    return space.architecture(arguments.architecture)

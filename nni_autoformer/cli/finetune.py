"""``nni-autoformer finetune``: train one subnet on, from the weights of a supernet or of a subnet's file; on
the same data or other, at the same image size or another.

On several GPUs or machines: ``torchrun --nproc_per_node N -m nni_autoformer finetune …``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..space import ModelConfig, SearchSpace
from . import options
from .recipe_flags import recipe_of
from .subnet_training import SubnetRun, add_flags, train_subnet
from .test import wanted_architecture

if TYPE_CHECKING:
    from ..checkpoints.header import Header
    from ..data import DataSplits
    from ..jobs.preparation import TrainJob
    from ..nn.subnet import Subnet


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("finetune", help="train one subnet on", description=__doc__)
    parser.set_defaults(run=run)
    options.add_checkpoint(parser)
    parser.add_argument(
        "--architecture", metavar="FILE|NAME", help="which subnet of a supernet, see nni-autoformer test"
    )
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
    add_flags(parser, "finetune")


def run(arguments: argparse.Namespace) -> None:
    """Run the command; as an NNI trial the labels of the search space are the architecture."""
    from ..checkpoints import Checkpoint, one_point_space, require_space

    options.workers_of(arguments)
    expected = None if arguments.space is None else SearchSpace.load(arguments.space)
    checkpoint = Checkpoint(arguments.checkpoint, expected)
    header = checkpoint.header
    if header.kind.endswith("supernet"):
        require_space(arguments.checkpoint, header, expected)
    architecture = wanted_architecture(arguments, header, expected)
    size = img_size_of(arguments, header.space.model)
    space = one_point_space(architecture, replace(header.space.model, img_size=size))
    recipe = recipe_of(arguments, space, "finetune")
    splits = normalised_as(header, options.open_splits(arguments, space))
    way = arguments.relative_position or "interpolate"
    depth = supernet_depth_of(header)

    def start(job: TrainJob) -> tuple[Subnet, list[str]]:
        from ..training.initial_weights import inherited_subnet

        subnet, notes = inherited_subnet(
            checkpoint, architecture, size, splits.train.classes, job.recipe, depth, way
        )
        return subnet, [f"The weights are those of {arguments.checkpoint}, a {header.kind}.", *notes]

    config = {
        "checkpoint": str(arguments.checkpoint.resolve()),
        "img_size": size,
        "relative_position": way,
    }
    inherited = {
        "checkpoint": config["checkpoint"],
        "kind": header.kind,
        "epoch": header.run.get("epoch"),
        "img_size": header.space.model.img_size,
        "num_classes": header.space.model.num_classes,
    }
    facts = {"inherited": inherited, "supernet_depth": depth}
    train_subnet(arguments, SubnetRun("finetune", architecture, space, recipe, splits, config, facts, start))


def img_size_of(arguments: argparse.Namespace, model: ModelConfig) -> tuple[int, int]:
    """Height and width of the images.

    Raises:
        ConfigError: they are no whole patches, or a flag for another size was given without one.
    """
    sides = arguments.img_size
    if sides is None:
        if arguments.relative_position is not None:
            raise ConfigError("--relative-position says what another --img-size does; give that too.")
        return model.img_size
    if len(sides) > 2:
        raise ConfigError(f"--img-size has {len(sides)} numbers; it should be a side, or height and width.")
    size = (sides[0], sides[-1])
    patch = model.patch_size
    if wrong := [side for side in size if side < patch or side % patch]:
        raise ConfigError(
            f"--img-size {wrong[0]}: the side should be a multiple of the patch's, {patch} pixels."
        )
    return size


def supernet_depth_of(header: Header) -> int:
    """Over how many layers stochastic depth rises: those of the supernet, which a subnet's file may know."""
    return header.run.get("supernet_depth") or header.space.max_depth


def normalised_as(header: Header, splits: DataSplits) -> DataSplits:
    """The data, with its images normalised as the checkpoint's weights are used to."""
    if "mean" not in header.run or "std" not in header.run:
        return splits
    return replace(splits, mean=tuple(header.run["mean"]), std=tuple(header.run["std"]))

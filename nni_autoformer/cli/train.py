"""``nni-autoformer train``: train the supernet of a search space through NNI's one-shot experiment.

On several GPUs or machines: ``torchrun --nproc_per_node N -m nni_autoformer train …``; every step trains the
same subnet on all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..jobs.preparation import SUPERNET_FILE, TrainJob
from ..jobs.run_folder import RunFolder, jsonable, run_once
from ..space import SearchSpace
from ..training.ranks import Ranks
from ..training.recipe import Recipe
from ..training.upkeep import ON_NAN, Upkeep
from . import options
from .recipe_flags import DIGITS, add_recipe, recipe_of

if TYPE_CHECKING:
    import torch

    from ..data import DataSplits

__all__ = ["DIGITS", "SUPERNET_FILE", "TrainJob", "add_parser", "add_upkeep", "train", "upkeep_of"]


def add_parser(commands: Any) -> None:
    """Add the command's flags; those of the recipe have timm's names."""
    parser = commands.add_parser("train", help="train a supernet", description=__doc__)
    parser.set_defaults(run=run)
    options.add_space(parser)
    options.add_data(parser)
    options.add_loading(parser)
    parser.add_argument(
        "--selection",
        metavar="N-per-class|FILE|none",
        help="training images to hold out for the search (default 100-per-class, at most a fifth of the "
        "smallest class); their list goes beside the checkpoint",
    )
    add_recipe(parser)
    options.add_device(parser)
    options.add_output(parser)
    add_upkeep(parser)


def add_upkeep(parser: argparse.ArgumentParser) -> None:
    """How a long run is looked after; a resume may change it."""
    group = parser.add_argument_group("upkeep (a resume may change it)")
    group.add_argument(
        "--on-nan",
        choices=ON_NAN,
        default="stop",
        help="at a loss or gradient that is no finite number: stop (default), or skip the step",
    )
    group.add_argument(
        "--max-nan-skips", type=int, default=10, metavar="N", help="steps that may be skipped (default 10)"
    )
    group.add_argument(
        "--keep",
        type=int,
        default=0,
        metavar="N",
        help="also keep the weights of the last N epochs (default 0; the last and the best are always kept)",
    )
    group.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="STEPS",
        help="save the training's state within an epoch too (default: after each epoch, and at SIGTERM)",
    )


def upkeep_of(arguments: argparse.Namespace) -> Upkeep:
    """How the run is looked after.

    Raises:
        ConfigError: a value is out of its range.
    """
    return Upkeep(arguments.on_nan, arguments.max_nan_skips, arguments.keep, arguments.checkpoint_every)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    options.workers_of(arguments)
    space = SearchSpace.load(arguments.space)
    recipe = recipe_of(arguments, space)
    splits = options.open_splits(arguments, space)
    config = {
        "dataset": arguments.dataset,
        "data": arguments.data and str(arguments.data.resolve()),
        "selection": arguments.selection,
    }
    train(
        space,
        recipe,
        splits,
        options.output_of(arguments),
        config,
        selection=arguments.selection,
        loading=options.loading_of(arguments, len(splits.train)),
        upkeep=upkeep_of(arguments),
        device=arguments.device,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )


def train(
    space: SearchSpace,
    recipe: Recipe,
    splits: DataSplits,
    output: Path,
    config: Mapping[str, Any],
    *,
    selection: str | None = None,
    loading: Mapping[str, Any] | None = None,
    upkeep: Upkeep = Upkeep(),
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Train a supernet into a run folder of its own, with the other processes that torchrun has started; the
    path of its checkpoint.

    Raises:
        ConfigError: something that the user can put right, most of it before any training.
        Terminated: the process was asked to end.
    """
    ranks = Ranks.current()
    target = device_of(device, ranks)
    with ranks.connected(cuda=target.type == "cuda"):
        job = TrainJob.prepare(
            space,
            recipe,
            splits,
            config.get("dataset"),
            selection,
            target,
            loading=loading or {},
            upkeep=upkeep,
            ranks=ranks,
        )
        whole = {
            **config,
            "recipe": job.recipe.to_dict(),
            "space": job.space.to_dict(),
            "processes": ranks.world_size,
        }
        folder = RunFolder(output, "train", jsonable(whole))
        done = run_once(folder, ranks, lambda: job.run(output), resume=resume, overwrite=overwrite)
    if ranks.main:
        already = f"{output} holds the finished run already: {output / SUPERNET_FILE}"
        print(f"The supernet is in {output / SUPERNET_FILE}" if done else already)
    return output / SUPERNET_FILE


def device_of(name: str, ranks: Ranks) -> torch.device:
    """Where this rank computes.

    Raises:
        ConfigError: there is no such device, or not one for each process of this machine.
    """
    import torch

    from ..devices import pick_device

    device = pick_device(name)
    if ranks.world_size == 1 or device.type == "cpu":
        return device
    if device.index is not None:
        raise ConfigError(f"--device {name} is one GPU for {ranks.world_size} processes; give --device cuda.")
    if torch.cuda.device_count() < ranks.local_world_size:
        raise ConfigError(
            f"{ranks.local_world_size} processes were started on a machine with "
            f"{torch.cuda.device_count()} GPUs; start as many as there are (--nproc_per_node)."
        )
    return torch.device("cuda", ranks.local_rank)

"""What the commands that train a single network have in common: flags, checks, and the run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..complexity import macs, params
from ..experiment import current_trial
from ..jobs.preparation import TrainJob
from ..jobs.run_folder import RunFolder, jsonable, run_once
from ..space import Architecture, SearchSpace
from ..training.ranks import Ranks
from ..training.recipe import Recipe
from . import options
from .recipe_flags import add_recipe
from .train import add_upkeep, device_of, upkeep_of

if TYPE_CHECKING:
    from ..data import DataSplits
    from ..nn.subnet import Subnet

SUBNET_FILE = "subnet.safetensors"


@dataclass(frozen=True)
class SubnetRun:
    """One run of such a command.

    Attributes:
        task: 'retrain' or 'finetune'.
        architecture: the subnet.
        space: gives the network around it; its number of classes becomes the data's.
        recipe: how to train.
        splits: the data.
        config: what else decides the result, by flag, for the run's folder.
        facts: what else the header of the weights says of the run.
        start: the network that the training starts from, given the job, and what to say of it.
    """

    task: str
    architecture: Architecture
    space: SearchSpace
    recipe: Recipe
    splits: DataSplits
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    start: Callable[[TrainJob], tuple[Subnet, list[str]]]


def add_flags(parser: argparse.ArgumentParser, task: str) -> None:
    """Add the flags that both commands have."""
    options.add_data(parser)
    options.add_loading(parser)
    parser.add_argument(
        "--selection",
        metavar="N-per-class|FILE|none",
        help="training images to hold out: the accuracies of the epochs are then on them, and the best "
        "epoch is kept too (default none: every training image is trained on, and the accuracies, on the "
        "test images, choose nothing; as an NNI trial, whose accuracy the experiment chooses by: "
        "100-per-class, at most a fifth of the smallest class)",
    )
    add_recipe(parser, task)
    options.add_device(parser)
    options.add_output(parser)
    add_upkeep(parser)


def train_subnet(arguments: argparse.Namespace, run: SubnetRun) -> Path:
    """Train a single network into a run folder of its own, with the other processes that torchrun has
    started; the path of its weights.

    Raises:
        ConfigError: something that the user can put right, most of it before any training.
        Terminated: the process was asked to end.
    """
    ranks = Ranks.current()
    device = device_of(arguments.device, ranks)
    output, weights = options.output_of(arguments), options.output_of(arguments) / SUBNET_FILE
    selection = arguments.selection
    if selection is None and current_trial() is None:
        selection = "none"
    with ranks.connected(cuda=device.type == "cuda"):
        job = TrainJob.prepare(
            run.space,
            run.recipe,
            run.splits,
            arguments.dataset,
            selection,
            device,
            loading=options.loading_of(arguments, len(run.splits.train)),
            upkeep=upkeep_of(arguments),
            ranks=ranks,
        )
        job.facts |= jsonable(run.facts)
        network, notes = run.start(job)
        config = {
            "dataset": arguments.dataset,
            "data": arguments.data and str(arguments.data.resolve()),
            "selection": selection,
            **run.config,
            "architecture": run.architecture.to_dict(),
            "recipe": job.recipe.to_dict(),
            "space": job.space.to_dict(),
            "processes": ranks.world_size,
        }

        def work() -> None:
            if ranks.main:
                print("\n".join([*_described(network), *notes]))
            job.run(output, network)

        folder = RunFolder(output, run.task, jsonable(config))
        done = run_once(folder, ranks, work, resume=arguments.resume, overwrite=arguments.overwrite)
    if ranks.main:
        print(
            f"The subnet is in {weights}" if done else f"{output} holds the finished run already: {weights}"
        )
    return weights


def _described(network: Subnet) -> list[str]:
    architecture, model = network.architecture, network.model
    size = (
        f"{params(architecture, model) / 1e6:.3f} M parameters, {macs(architecture, model) / 1e9:.3f} GMACs"
    )
    return [f"{architecture}: {size}"]

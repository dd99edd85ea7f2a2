"""Training the supernet of a search space through NNI's one-shot experiment (paper section 3.3)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.data_set import DataSet, Loading
from ..experiment import current_trial
from ..space import SearchSpace
from ..training.ranks import Ranks
from ..training.recipe import SHORTENED, Recipe, recipe_values
from ..training.upkeep import Upkeep
from .preparation import SUPERNET_FILE, TrainJob, device_of
from .reads import ImagesRead, Reads, files_among, files_read, normalised_as, open_splits
from .run_folder import RunFolder, place_of, run_once
from .started_from import IMPORTANCE_IMAGES, Asked

if TYPE_CHECKING:
    from ..checkpoints import Header
    from ..data import DataSplits
    from ..model import AutoFormer

_logger = logging.getLogger("nni_autoformer")


@dataclass(frozen=True)
class Trained:
    """What a training has left.

    Attributes:
        output: folder of the run.
        checkpoint: file of the weights.
        fresh: False where the folder held the finished run already.
    """

    output: Path
    checkpoint: Path
    fresh: bool = True

    @cached_property
    def header(self) -> Header:
        """What the checkpoint says of itself."""
        from ..checkpoints import read_header

        return read_header(self.checkpoint)

    @property
    def accuracies(self) -> dict[str, float]:
        """Top-1 in percent on the validation images at the end, by the name of the subnet."""
        from ..checkpoints.metrics import accuracies

        return accuracies(self.header.run.metrics)


class TrainedSupernet(Trained):
    """A trained supernet."""

    @cached_property
    def supernet(self) -> AutoFormer:
        """The supernet with its weights, loaded when it is first asked for."""
        from ..checkpoints import load_supernet

        return load_supernet(self.checkpoint)[0]


def train(
    space: SearchSpace | str | Path | None,
    data: DataSet | str | Path,
    output: str | Path,
    *,
    start_from: str | Path | None = None,
    importance: str | None = None,
    importance_images: int = IMPORTANCE_IMAGES,
    use_ema: bool = False,
    recipe: Recipe | str | Path | None = None,
    selection: str | None = None,
    loading: Loading = Loading(),
    upkeep: Upkeep = Upkeep(),
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    **changes: Any,
) -> TrainedSupernet:
    """Train a supernet into a run folder of its own, with the other processes that torchrun has started.

    ``train("cifar", "DIR", "runs/c10", epochs=30)`` is ``nni-autoformer train --space cifar --data DIR
    --output runs/c10 --epochs 30``.

    Args:
        space: search space, the name of a packaged one, or a YAML file; None for that of the supernet which
            the training starts from.
        data: images to train on; a path means a folder of images.
        output: folder of the run.
        start_from: trained network that the space's largest subnet starts as: a file of a supernet, a subnet
            or a ViT of timm, `timm:NAME`, `NAME=FILE`, or `local-dir:FOLDER`; None for new weights.
        importance: how it is measured what matters least and is cut first: 'taylor', 'magnitude' or 'none';
            None for 'taylor', or 'none' where the training starts from a supernet.
        importance_images: on how many training images.
        use_ema: take the moving average of the weights from a foreign file that holds plain ones, too.
        recipe: how to train: a recipe, the name of a packaged one, or a YAML file; None for the space's
            default.
        selection: training images to hold out for the search, 'N-per-class', a file, or 'none'; None for 100
            per class, at most a fifth of the smallest class.
        loading: how images are loaded.
        upkeep: how the run is looked after.
        device: where to train, 'auto', 'cpu', 'cuda', …
        resume: go on with an unfinished run in the folder.
        overwrite: delete the run in the folder and start anew.
        changes: single values of the recipe by name.

    Raises:
        ConfigError: something that the user can put right, most of it before any training.
        Terminated: the process was asked to end.
    """
    named = [space, recipe, selection]
    data, place = DataSet.of(data), place_of(output)
    asked = Asked(start_from, importance, importance_images, use_ema)
    source, space = asked.opened(space)
    resolved = resolved_recipe(space, "train", data, recipe, changes)
    ranks = Ranks.current()
    target = device_of(device, ranks)
    with ranks.connected(cuda=target.type == "cuda"):
        splits = ranks.agree(lambda: open_splits(data, space.model.in_chans, ranks), one_first=True)
        start = None
        if source is not None:
            splits = normalised_as(source.run, source.subnet.model.num_classes, splits)
            start = asked.start(source, space, splits, resolved.seed)
        job = ranks.agree(
            lambda: TrainJob.prepare(
                space,
                resolved,
                splits,
                data.dataset,
                selection,
                target,
                loading=loading.arguments(data.workers, len(splits.train)),
                upkeep=upkeep,
                ranks=ranks,
                start=start,
            )
        )
        if start is not None:
            job.facts["inherited"] = start.facts
        config = {
            "dataset": data.dataset,
            "data": data.folder,
            "selection": selection,
            "recipe": job.recipe.to_dict(),
            "space": job.space.to_dict(),
            "processes": ranks.world_size,
            **asked.config(start),
        }
        read, place_of_source = (None, None) if source is None else (source.file, source.place)
        inputs = [*files_among([*named, place_of_source]), data.folder, job.recipe.teacher_checkpoint]
        reads = training_reads(splits, job, selection) | files_read(network=read)
        folder = RunFolder(place, "train", config, reads, inputs, {"recipe": Recipe().to_dict()})
        fresh = run_once(folder, ranks, lambda: job.run(place), resume=resume, overwrite=overwrite)
    trained = TrainedSupernet(place, place / SUPERNET_FILE, fresh)
    if not fresh and (trial := current_trial()) is not None and (found := trained.accuracies):
        # NNI was stopped before it knew that the trial has ended
        trial.report_final({"default": sum(found.values()) / len(found), **found})
    return trained


def training_reads(splits: DataSplits, job: TrainJob, selection: str | None) -> dict[str, Reads]:
    """What every training reads.

    Args:
        splits: images of the data set.
        job: the training.
        selection: training images that are held out, as the user has named them.
    """
    images: dict[str, Reads] = {"training images": ImagesRead(splits.train)}
    if job.held_out is None:
        images["test images"] = ImagesRead(splits.test)
    files = files_read(selection_list=selection, teacher_checkpoint=job.recipe.teacher_checkpoint)
    return images | files


def resolved_recipe(
    space: SearchSpace,
    task: str,
    data: DataSet,
    recipe: Recipe | str | Path | None,
    changes: dict[str, Any],
) -> Recipe:
    """The recipe that a job's arguments describe, as the command line has it.

    Args:
        space: search space, which gives the network's image size.
        task: command, see `recipe.TASKS`.
        data: data set, some of which have values of their own.
        recipe: recipe, name of a packaged one, YAML file, or None.
        changes: single values by name.

    Raises:
        ConfigError: a value is out of its range, or not for this command.
    """
    if isinstance(recipe, Recipe):
        resolved, wanted = recipe.changed(**changes), recipe.to_dict()
    else:
        resolved = Recipe.for_run(space, task, data.dataset, recipe, **changes)
        wanted = {} if recipe is None else recipe_values(recipe)
    for name in SHORTENED:
        flag, value, before = name.replace("_", "-"), getattr(resolved, name), wanted.get(name)
        if name not in changes and before not in (None, value):
            _logger.info(
                f"--{flag} is {value} in place of the recipe's {before}, in proportion to --epochs "
                f"{resolved.epochs}."
            )
    return resolved

"""Training a single subnet: from scratch, or on from the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..architecture import Architecture
from ..costs import told_costs
from ..data.data_set import DataSet, Loading
from ..errors import ConfigError
from ..experiment import current_trial
from ..files import real_path
from ..space import ModelConfig, SearchSpace
from ..training.ranks import Ranks
from ..training.recipe import Recipe
from ..training.upkeep import Upkeep
from .evaluate import Which
from .preparation import TrainJob, device_of
from .reads import files_among, files_read, normalised_as, open_splits
from .run_folder import RunFolder, jsonable, place_of, run_once
from .train_supernet import Trained, resolved_recipe, training_reads

if TYPE_CHECKING:
    from ..checkpoints import Header
    from ..data import DataSplits
    from ..nn.subnet import Subnet

SUBNET_FILE = "subnet.safetensors"


class TrainedSubnet(Trained):
    """A trained subnet."""

    @cached_property
    def subnet(self) -> Subnet:
        """The subnet with its weights, loaded when it is first asked for."""
        from ..checkpoints import load_subnet

        return load_subnet(self.checkpoint)[0]


@dataclass(frozen=True)
class Way:
    """How such a run is done, as for every training.

    Attributes:
        selection: training images to hold out; None for none, or in an NNI trial for 100 per class.
        loading: how images are loaded.
        upkeep: how the run is looked after.
        device: where to train.
        resume, overwrite: what may become of a run in the folder.
    """

    selection: str | None
    loading: Loading
    upkeep: Upkeep
    device: str
    resume: bool
    overwrite: bool


@dataclass(frozen=True)
class SubnetRun:
    """One run of such a job.

    Attributes:
        task: 'retrain' or 'finetune'.
        architecture: the subnet.
        space: gives the network around it; its number of classes becomes the data's.
        recipe: how to train.
        data: data set.
        splits: images of the data set.
        config: what else decides the result, by flag, for the run's folder.
        facts: what else the header of the weights says of the run.
        start: gives the network that the training starts from, given the job, and what to say of it.
        inputs: files that the run reads.
    """

    task: str
    architecture: Architecture
    space: SearchSpace
    recipe: Recipe
    data: DataSet
    splits: DataSplits
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    start: Callable[[TrainJob], tuple[Subnet, list[str]]]
    inputs: Sequence[str | Path] = ()


def retrain(
    space: SearchSpace | str | Path,
    architecture: Which,
    data: DataSet | str | Path,
    output: str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    selection: str | None = None,
    loading: Loading = Loading(),
    upkeep: Upkeep = Upkeep(),
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    **changes: Any,
) -> TrainedSubnet:
    """Train one subnet of a search space from scratch, with the other processes that torchrun has started.

    Args:
        space: search space, the name of a packaged one, or a YAML file.
        architecture: subnet of the space: an architecture, a name in the space, or a YAML file.
        data: images to train on; a path means a folder of images.
        output: folder of the run.
        recipe: how to train: a recipe, the name of a packaged one, or a YAML file; None for the space's
            default.
        selection: training images to hold out, 'N-per-class', a file, or 'none'. By default every training
            image is trained on, and accuracies, on the test images, choose nothing; in an NNI trial, whose
            accuracy the experiment chooses by, 100 per class are held out.
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
    named = files_among([space, architecture, recipe])
    space, data = SearchSpace.load(space), DataSet.of(data)
    if architecture is None:
        raise ConfigError(f"--architecture is missing: say which subnet of '{space.name}' to train.")
    chosen = space.architecture(architecture)
    resolved = resolved_recipe(space, "retrain", data, recipe, changes)

    def start(job: TrainJob) -> tuple[Subnet, list[str]]:
        from ..training.initial_weights import fresh_subnet

        return fresh_subnet(chosen, job.space, job.recipe), ["The weights are new."]

    splits = open_splits(data, space.model.in_chans, Ranks.current())
    facts = {"inherited": None, "supernet_depth": space.max_depth}
    run = SubnetRun("retrain", chosen, space, resolved, data, splits, {}, facts, start, named)
    return _train(run, output, Way(selection, loading, upkeep, device, resume, overwrite))


def finetune(
    checkpoint: str | Path,
    data: DataSet | str | Path,
    output: str | Path,
    *,
    architecture: Which = None,
    space: SearchSpace | str | Path | None = None,
    use_ema: bool = False,
    img_size: int | Sequence[int] | None = None,
    relative_position: str | None = None,
    recipe: Recipe | str | Path | None = None,
    selection: str | None = None,
    loading: Loading = Loading(),
    upkeep: Upkeep = Upkeep(),
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    **changes: Any,
) -> TrainedSubnet:
    """Train one subnet on, from the weights of a supernet or of a subnet's file; on the same data or other,
    at the same image size or another.

    Args:
        checkpoint: file of the weights.
        data: images to train on; a path means a folder of images.
        output: folder of the run.
        architecture: subnet of a supernet: an architecture, a name in the space, or a YAML file.
        space: search space of a file that does not name its own.
        use_ema: take the moving average of the weights from a foreign file that holds plain ones, too.
        img_size: side, or height and width, of the images; None for the checkpoint's.
        relative_position: what becomes of the relative tables at another size, 'interpolate' or 'clip'.
        recipe, selection, loading, upkeep, device, resume, overwrite, changes: as for `retrain`.

    Raises:
        ConfigError: something that the user can put right, most of it before any training.
        Terminated: the process was asked to end.
    """
    from ..checkpoints import Checkpoint, one_point_space

    path, data = Path(checkpoint), DataSet.of(data)
    named = files_among([path, space, architecture, recipe])
    expected = None if space is None else SearchSpace.load(space)
    opened = Checkpoint(path, expected, use_ema=use_ema)
    header = opened.header
    if header.of_supernet:
        opened.require_expected()
    chosen = opened.architecture(architecture)
    size = img_size_of(img_size, relative_position, header.space.model)
    around = one_point_space(chosen, replace(header.space.model, img_size=size))
    resolved = resolved_recipe(around, "finetune", data, recipe, changes)
    splits = open_splits(data, around.model.in_chans, Ranks.current())
    splits = normalised_as(header.run, header.space.model.num_classes, splits)
    way, depth = relative_position or "interpolate", supernet_depth_of(header)

    def start(job: TrainJob) -> tuple[Subnet, list[str]]:
        from ..training.initial_weights import inherited_subnet

        classes = splits.train.classes
        subnet, notes = inherited_subnet(opened, chosen, size, classes, job.recipe, depth, way)
        which = "the moving average in" if use_ema else "those of"
        return subnet, [f"The weights are {which} {path}, a {header.kind}.", *notes]

    config = {
        "checkpoint": str(real_path(path)),
        "img_size": size,
        "relative_position": way,
        **opened.choice,
    }
    inherited = {
        "checkpoint": config["checkpoint"],
        "kind": header.kind,
        "epoch": header.run.epoch,
        "img_size": header.space.model.img_size,
        "num_classes": header.space.model.num_classes,
        **opened.choice,
    }
    facts = {"inherited": inherited, "supernet_depth": depth}
    run = SubnetRun("finetune", chosen, around, resolved, data, splits, config, facts, start, named)
    return _train(run, output, Way(selection, loading, upkeep, device, resume, overwrite))


def _train(run: SubnetRun, output: str | Path, way: Way) -> TrainedSubnet:
    """Train a single network into a run folder of its own."""
    ranks, place, data = Ranks.current(), place_of(output), run.data
    device = device_of(way.device, ranks)
    selection = way.selection
    if selection is None and current_trial() is None:
        selection = "none"
    with ranks.connected(cuda=device.type == "cuda"):
        job = TrainJob.prepare(
            run.space,
            run.recipe,
            run.splits,
            data.dataset,
            selection,
            device,
            loading=way.loading.arguments(data.workers, len(run.splits.train)),
            upkeep=way.upkeep,
            ranks=ranks,
        )
        job.facts |= jsonable(run.facts)
        network, notes = run.start(job)
        config = {
            "dataset": data.dataset,
            "data": data.folder,
            "selection": selection,
            **run.config,
            "architecture": run.architecture.to_dict(),
            "recipe": job.recipe.to_dict(),
            "space": job.space.to_dict(),
            "processes": ranks.world_size,
        }

        def work() -> None:
            costs = told_costs(network.architecture, network.model)
            ranks.tell("\n".join([f"{network.architecture}: {costs}", *notes]))
            job.run(place, network)

        inputs = [*run.inputs, data.folder, selection, job.recipe.teacher_checkpoint]
        reads = training_reads(run.splits, job, selection) | files_read(
            checkpoint=run.config.get("checkpoint")
        )
        folder = RunFolder(place, run.task, config, reads, inputs, {"recipe": Recipe().to_dict()})
        fresh = run_once(folder, ranks, work, resume=way.resume, overwrite=way.overwrite)
    return TrainedSubnet(place, place / SUBNET_FILE, fresh)


def img_size_of(
    sides: int | Sequence[int] | None, relative_position: str | None, model: ModelConfig
) -> tuple[int, int]:
    """Height and width of the images.

    Args:
        sides: side, or height and width, that the user wants; None for those of the checkpoint.
        relative_position: what the user says of the relative tables at another size.
        model: network of the checkpoint.

    Raises:
        ConfigError: they are no whole patches, or something was said of another size without one.
    """
    if sides is None:
        if relative_position is not None:
            raise ConfigError("--relative-position says what another --img-size does; give that too.")
        return model.img_size
    sides = [sides] if isinstance(sides, int) else list(sides)
    if not 1 <= len(sides) <= 2:
        raise ConfigError(f"--img-size has {len(sides)} numbers; it should be a side, or height and width.")
    size, patch = (sides[0], sides[-1]), model.patch_size
    if wrong := [side for side in size if side < patch or side % patch]:
        raise ConfigError(
            f"--img-size {wrong[0]}: the side should be a multiple of the patch's, {patch} pixels."
        )
    return size


def supernet_depth_of(header: Header) -> int:
    """Over how many layers stochastic depth rises: those of the supernet, which a subnet's file may know."""
    return header.run.supernet_depth or header.space.max_depth

"""A training that has been checked and can start."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..experiment import current_trial
from ..experiment.quiet import quieten_libraries
from ..space import SearchSpace
from ..training.ranks import Ranks
from ..training.recipe import ORIGINAL, Recipe
from ..training.upkeep import Upkeep
from .plans import training_plan
from .run_folder import jsonable

if TYPE_CHECKING:
    import torch

    from ..data import BadImages, DataSplits, ImageSource
    from ..nn.subnet import Subnet
    from ..training.starting import Start
    from ..training.teacher import Teacher
    from ..training.trainer import Training

_logger = logging.getLogger("nni_autoformer")

SELECTION_FILE = "selection.txt"
SUPERNET_FILE = "supernet.safetensors"
RECIPE_FILE = "recipe.yaml"

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@dataclass
class TrainJob:
    """What `prepare` has checked.

    Attributes:
        space: the space, with the data's number of classes.
        recipe: how to train, with the precision that the device has.
        training: the images that are trained on.
        held_out: the images that the search selects by; None for none.
        validation: the images that accuracies are reported on.
        transforms: transforms of training images and of evaluated ones.
        facts: what the checkpoint's header says of the run.
        device: where to train.
        loading: how images are loaded, see `Training`.
        upkeep: how the run is looked after.
        ranks: this process among those of the run.
        start: trained network that a supernet starts from, if there is one.
    """

    space: SearchSpace
    recipe: Recipe
    training: ImageSource
    held_out: ImageSource | None
    validation: ImageSource
    transforms: tuple[Any, Any]
    facts: dict[str, Any]
    device: torch.device
    loading: Mapping[str, Any] = field(default_factory=dict)
    upkeep: Upkeep = Upkeep()
    ranks: Ranks = Ranks()
    start: Start | None = None

    @classmethod
    def prepare(
        cls,
        space: SearchSpace,
        recipe: Recipe,
        splits: DataSplits,
        dataset: str | None,
        selection: str | None,
        device: torch.device,
        **more: Any,
    ) -> TrainJob:
        """Check everything that can be checked before training.

        Args:
            space: search space, with the data's number of classes or another.
            recipe: how to train.
            splits: the data.
            dataset: name of the data set, for the checkpoint's header.
            selection: training images to hold out, see `hold_out`.
            device: where to train.
            more: loading, upkeep, ranks and start.

        Raises:
            ConfigError: something that the user can put right.
        """
        from ..data import readable
        from ..training.loggers import require_loggers
        from ..training.teacher import require_teacher

        require_teacher(recipe, original=more.get("start") is not None)
        require_loggers(more.get("upkeep", Upkeep()).logger)
        classes = splits.train.classes
        if len(classes) < 2:
            raise ConfigError(f"the data has only the class '{classes[0]}'; training needs two or more.")
        space = space.with_model(num_classes=len(classes))
        recipe = with_precision(recipe, device)
        transforms = transforms_of(space, recipe, splits.mean)
        training, held_out = hold_out(splits.train, selection, recipe.seed)
        validation = splits.test if held_out is None else held_out
        if (bad := more.get("loading", {}).get("bad_images")) is not None:
            workers = more["loading"]["workers"]
            validation = readable(validation, bad, workers, "look for bad validation images")
            held_out = None if held_out is None else validation
        facts = {
            "dataset": dataset,
            "classes": classes,
            "mean": splits.mean,
            "std": splits.std,
            "crop_pct": recipe.crop_pct,
            "interpolation": recipe.interpolation,
            "recipe": recipe.to_dict(),
            "training_images": len(training),
            "selection": None,
        }
        return cls(space, recipe, training, held_out, validation, transforms, jsonable(facts), device, **more)

    def open(self, output: Path) -> Training:
        """The training into a folder, or on from the state that the folder holds; what stands beside the
        weights is written.

        Raises:
            ConfigError: the state or the teacher's weights cannot be used.
        """
        from ..data import write_selection
        from ..files import digest
        from ..training.trainer import Training

        quieten_libraries()
        if self.ranks.main:
            self.recipe.to_yaml(output / RECIPE_FILE)
            if self.held_out is None:
                self.ranks.tell(
                    "No images are held out: the accuracies of the epochs are those on the test images, so "
                    "no epoch is chosen by them, and the last one counts. --selection N-per-class holds "
                    "training images out and keeps the best epoch too."
                )
        if self.held_out is not None:
            names = self.held_out.identifiers
            self.facts["selection"] = {
                "file": SELECTION_FILE,
                "digest": digest(names),
                "images": len(self.held_out),
            }
            if self.ranks.main:
                write_selection(output / SELECTION_FILE, names)
        return Training(
            self.recipe,
            self.training,
            self.validation,
            self.transforms,
            output,
            self.facts,
            loading=self.loading,
            device=self.device,
            resume=True,
            upkeep=self.upkeep,
            ranks=self.ranks,
            selects=self.held_out is not None,
            trial=current_trial(),
            original=self._original(),
        )

    def _original(self) -> Teacher | None:
        """The network that the supernet starts from as its teacher, where that is asked for and fits."""
        if self.start is None or self.recipe.teacher != ORIGINAL:
            return None
        if not self.start.keeps_head:
            self.ranks.tell(
                f"--teacher {ORIGINAL}: the network answers for other classes than the data's and cannot "
                "teach: the subnets learn from the labels, and in a sandwich from the largest one's answers."
            )
        return self.start.teacher(self.facts["mean"], self.facts["std"])

    def _initial(self, training: Training) -> Subnet | None:
        """What the supernet starts from, measured and checked; None for new weights, and on a resume."""
        if self.start is None or not training.begins:
            return None
        from ..training.starting import write_report

        mean, std = self.facts["mean"], self.facts["std"]
        subnet, importance, notes = self.start.network(
            self.training, self.transforms[1], mean, std, self.device
        )
        if self.ranks.main:
            write_report(importance, training.output)
        self.ranks.tell("\n".join(notes))
        return subnet

    def run(self, output: Path, network: Subnet | None = None) -> None:
        """Train into a folder, or go on with the training whose state the folder holds.

        Args:
            output: the folder.
            network: a single network, with the weights that it starts from; None for the supernet.

        Raises:
            ConfigError: a loss that is NaN, a full disk, a damaged state.
            Terminated: the process was asked to end.
        """
        from ..training.trainer import train_network, train_supernet

        try:
            training = self.open(output)
            self.ranks.tell(training_plan(self))
            if network is None:
                train_supernet(self.space, training, self._initial(training))
            else:
                train_network(network, training)
            _report_bad_images(self.loading.get("bad_images"))
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            raise ConfigError(
                f"{error.filename or output} cannot be written: {error.strerror}. What was saved before is "
                "whole: once that is put right, --resume goes on from it."
            ) from error


def _report_bad_images(bad_images: BadImages | None) -> None:
    if bad_images is not None and (report := bad_images.report()):
        _logger.warning(report)


def with_precision(recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe with a precision that suits the device in place of 'auto'.

    Raises:
        ConfigError: the device cannot train in the recipe's.
    """
    import torch

    if recipe.precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 cannot train on a CPU; use bf16 or fp32.")
    if recipe.precision != "auto":
        return recipe
    # older GPUs have bf16 in software alone, slower than fp32
    native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return recipe.changed(precision="bf16" if native else "fp32")


def device_of(name: str, ranks: Ranks) -> torch.device:
    """Where this rank trains.

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


def hold_out(source: ImageSource, selection: str | None, seed: int) -> tuple[ImageSource, ImageSource | None]:
    """Split the training images into those that are trained on and those that the search selects by.

    Args:
        source: all training images.
        selection: 'N-per-class', a file that lists images, 'none', or None for the default.
        seed: random seed of the draw.

    Raises:
        ConfigError: the flag cannot be read, or leaves a class without images to train on.
    """
    from ..data import default_per_class, draw_selection, parse_selection, read_selection, split_selection

    wanted = parse_selection(
        f"{default_per_class(source.targets)}-per-class" if selection is None else selection
    )
    if wanted.none:
        return source, None
    indices = (
        read_selection(wanted.file, source) if wanted.file else draw_selection(source, wanted.per_class, seed)
    )
    return split_selection(source, indices)


def transforms_of(space: SearchSpace, recipe: Recipe, mean: tuple[float, ...]) -> tuple[Any, Any]:
    """The transforms of training images and of evaluated ones.

    Args:
        space: gives the image's size.
        recipe: everything that is chosen.
        mean: per channel, of images scaled to 0..1.

    Raises:
        ConfigError: a value of the recipe is out of its range.
    """
    from ..data import eval_transform, train_transform

    training = train_transform(
        space.model,
        scale=recipe.scale,
        ratio=recipe.ratio,
        crop_padding=recipe.crop_padding,
        hflip=recipe.hflip,
        vflip=recipe.vflip,
        auto_augment=recipe.aa,
        color_jitter=recipe.color_jitter,
        color_jitter_prob=recipe.color_jitter_prob,
        grayscale_prob=recipe.grayscale_prob,
        gaussian_blur_prob=recipe.gaussian_blur_prob,
        interpolation=recipe.interpolation,
        train_interpolation=recipe.train_interpolation,
        mean=mean,
    )
    return training, eval_transform(space.model, crop_pct=recipe.crop_pct, interpolation=recipe.interpolation)

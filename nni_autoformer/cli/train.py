"""``nni-autoformer train``: train the supernet of a search space through NNI's one-shot experiment."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..space import SearchSpace
from ..training.recipe import Recipe
from ..trial import current as current_trial
from . import options, quieten_libraries
from .run_folder import RunFolder, jsonable

if TYPE_CHECKING:
    import torch

    from ..data import DataSplits, ImageSource

SELECTION_FILE = "selection.txt"
DIGITS = {"hflip": 0.0, "crop_padding": 1}
"""For the digits, which fill their image: a mirrored one is another sign, and an eighth of the side is too
far to shift.
"""

SUPERNET_FILE = "supernet.safetensors"
STATE_FILE = "training.ckpt"


def add_parser(commands: Any) -> None:
    """Add the command's flags; those of the recipe have timm's names."""
    parser = commands.add_parser("train", help="train a supernet", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("--space", required=True, help="name of a packaged search space, or a YAML file")
    options.add_data(parser)
    parser.add_argument(
        "--selection",
        metavar="N-per-class|FILE|none",
        help="training images to hold out for the search (default 100-per-class, at most a fifth of the "
        "smallest class); their list goes beside the checkpoint",
    )
    add_recipe(parser)
    parser.add_argument(
        "--device", default="auto", help="auto (default: the GPU if there is one), cpu, cuda, …"
    )
    options.add_output(parser)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The recipe's flags; what is not given has the space's default, see `Recipe.for_space`."""
    group = parser.add_argument_group(
        "recipe",
        "defaults: the paper's, or for images up to 64 pixels 100 epochs, --lr-base 4e-3, --drop-path 0.05",
    )
    whole = ("epochs", "batch-size", "lr-base-size", "warmup-epochs", "crop-padding", "val-interval", "seed")
    for name, text in {
        "epochs": "passes over the training images",
        "batch-size": "images per step",
        "lr": "peak learning rate, in place of the next two",
        "lr-base": "peak learning rate per --lr-base-size images of a batch",
        "lr-base-size": "images that --lr-base is meant for",
        "min-lr": "learning rate at the end of the cosine",
        "warmup-lr": "learning rate at the start of the warm-up",
        "warmup-epochs": "epochs of linear warm-up",
        "weight-decay": "of AdamW, not on biases, norms, class token and absolute position",
        "opt-eps": "epsilon of AdamW",
        "clip-grad": "largest gradient norm",
        "smoothing": "label smoothing",
        "drop-path": "stochastic depth of the last layer",
        "crop-padding": "pixels around images up to 32 pixels before a random crop (default an eighth of "
        "the side)",
        "hflip": "probability of a horizontal flip",
        "crop-pct": "share of the resized test image that is kept",
        "val-interval": "epochs between two reports of the named subnets' accuracy",
        "seed": "of everything that is drawn",
    }.items():
        group.add_argument(f"--{name}", type=int if name in whole else float, metavar="X", help=text)
    for name, text in {
        "opt-betas": "of AdamW",
        "scale": "smallest and largest area of the random crop (images above 32 pixels)",
        "ratio": "smallest and largest aspect ratio of the random crop",
    }.items():
        group.add_argument(f"--{name}", type=float, nargs=2, metavar="X", help=text)
    group.add_argument("--interpolation", metavar="NAME", help="bicubic or bilinear resizing")
    group.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), help="automatic mixed precision, or fp32"
    )


def recipe_of(arguments: argparse.Namespace, space: SearchSpace) -> Recipe:
    """The recipe that the flags describe.

    Raises:
        ConfigError: a value is out of its range; the sentence names the flag.
    """
    given = {name: getattr(arguments, name) for name in Recipe.__dataclass_fields__}
    changes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    if arguments.dataset == "digits":
        changes = {**DIGITS, **changes}
    return Recipe.for_space(space, **changes)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if arguments.workers < 0:
        raise ConfigError(f"--workers is {arguments.workers}; it should be at least 0.")
    space = SearchSpace.load(arguments.space)
    recipe = recipe_of(arguments, space)
    splits = options.open_splits(arguments, space)
    config = {
        "dataset": arguments.dataset,
        "data": arguments.data and str(arguments.data.resolve()),
        "selection": arguments.selection,
        "recipe": recipe.to_dict(),
    }
    train(
        space,
        recipe,
        splits,
        options.output_of(arguments),
        config,
        selection=arguments.selection,
        workers=arguments.workers,
        device=arguments.device,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )


def train(
    space: SearchSpace,
    recipe: Recipe,
    splits: DataSplits,
    output: Path,
    config: dict[str, Any],
    *,
    selection: str | None = None,
    workers: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Train a supernet into a run folder of its own; the path of its checkpoint.

    Raises:
        ConfigError: something that the user can put right, before any training.
    """
    job = TrainJob.prepare(space, recipe, splits, config.get("dataset"), selection, workers, device)
    folder = RunFolder(output, "train", jsonable(config | {"space": job.space.to_dict()}))
    if folder.open(resume=resume, overwrite=overwrite):
        print(f"{output} holds the finished run already: {output / SUPERNET_FILE}")
    else:
        job.run(output)
        folder.finish()
        print(f"The supernet is in {output / SUPERNET_FILE}")
    return output / SUPERNET_FILE


@dataclass
class TrainJob:
    """A training that has been checked and can start.

    Attributes:
        space: the space, with the data's number of classes.
        recipe: how to train.
        training: the images that are trained on.
        held_out: the images that the search selects by; None for none.
        validation: the images that the named subnets' accuracy is reported on.
        transforms: of training images and of evaluated ones.
        facts: what the checkpoint's header says of the run.
        workers: processes that load images.
        device: where to train.
    """

    space: SearchSpace
    recipe: Recipe
    training: ImageSource
    held_out: ImageSource | None
    validation: ImageSource
    transforms: tuple[Any, Any]
    facts: dict[str, Any]
    workers: int
    device: torch.device

    @classmethod
    def prepare(
        cls,
        space: SearchSpace,
        recipe: Recipe,
        splits: DataSplits,
        dataset: str | None,
        selection: str | None,
        workers: int,
        device: str,
    ) -> TrainJob:
        """Check everything that can be checked before training.

        Raises:
            ConfigError: something that the user can put right.
        """
        from ..devices import pick_device

        classes = splits.train.classes
        if len(classes) < 2:
            raise ConfigError(f"the data has only the class '{classes[0]}'; training needs two or more.")
        space = space.with_model(num_classes=len(classes))
        transforms = transforms_of(space, recipe)
        training, held_out = hold_out(splits.train, selection, recipe.seed)
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
        validation = splits.test if held_out is None else held_out
        target = pick_device(device)
        if recipe.precision == "fp16" and target.type == "cpu":
            raise ConfigError("--precision fp16 cannot train on a CPU; use bf16 or fp32.")
        return cls(
            space, recipe, training, held_out, validation, transforms, jsonable(facts), workers, target
        )

    def run(self, output: Path) -> None:
        """Train into a folder, or go on with the training whose state the folder holds."""
        from ..data import write_selection
        from ..training.run import train_supernet

        quieten_libraries()
        if self.held_out is not None:
            written = write_selection(output / SELECTION_FILE, self.held_out.identifiers)
            selection = {"file": SELECTION_FILE, "digest": written, "images": len(self.held_out)}
            self.facts["selection"] = selection
        state = output / STATE_FILE
        train_supernet(
            self.space,
            self.recipe,
            self.training,
            self.validation,
            self.transforms,
            output,
            self.facts,
            workers=self.workers,
            device=self.device,
            resume_from=state if state.is_file() else None,
            trial=current_trial(),
        )


def hold_out(source: ImageSource, selection: str | None, seed: int) -> tuple[ImageSource, ImageSource | None]:
    """Split the training images into those that are trained on and those that the search selects by.

    Args:
        source: all training images.
        selection: 'N-per-class', a file that lists images, 'none', or None for the default.
        seed: of the draw.

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


def transforms_of(space: SearchSpace, recipe: Recipe) -> tuple[Any, Any]:
    """The transforms of training images and of evaluated ones.

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
        interpolation=recipe.interpolation,
    )
    return training, eval_transform(space.model, crop_pct=recipe.crop_pct, interpolation=recipe.interpolation)

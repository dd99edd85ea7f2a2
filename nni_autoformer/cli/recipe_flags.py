"""The recipe's flags."""

from __future__ import annotations

import argparse

from ..config import settings_of
from ..training.recipe import SUPERNET, Recipe
from . import flags

_SMALL = (
    "--drop-path 0.05, --sched-on-updates, and neither --aa, --aug-repeats, --reprob, --mixup nor --cutmix"
)
DEFAULTS = {
    "train": f"the paper's, or for images up to 64 pixels 100 epochs, --lr-base 4e-3, {_SMALL}",
    "retrain": "those of recipes/retrain.yaml, or for images up to 64 pixels 100 epochs, --lr-base 4e-3, "
    f"{_SMALL}",
    "finetune": "those of recipes/finetune.yaml, or for images up to 64 pixels 20 epochs, --lr-base 4e-4, "
    f"--min-lr 1e-6, --warmup-epochs 2, {_SMALL}",
}
"""What the help says of `Recipe.for_space`, by command."""


def add_recipe(parser: argparse.ArgumentParser, task: str = "train") -> None:
    """A flag for each value; what is not given has the recipe file's value, else the default for command and
    space, see `Recipe.for_run`.

    Args:
        parser: parser of the command.
        task: the command, see `recipe.TASKS`; values that count for other networks have no flag.
    """
    title = f"defaults: {DEFAULTS[task]}. 'none' takes an optional value away."
    parser.add_argument_group("recipe", title).add_argument(
        "--recipe", metavar="NAME|FILE", help="a packaged recipe or a YAML file; flags come before it"
    )
    names = [
        name for name, entry in settings_of(Recipe).items() if task == "train" or entry.group != SUPERNET
    ]
    flags.add_settings(parser, Recipe, only=names, given_only=True, group="recipe")

"""The recipe's flags, made from its one table of values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..config import Setting, settings_of
from ..errors import ConfigError
from ..space import SearchSpace
from ..training.recipe import NETWORK, SUPERNET, Recipe, recipe_values

DIGITS: dict[str, Any] = {"hflip": 0.0, "crop_padding": 1}
"""For the digits, which fill their image: a mirrored one is another sign, and an eighth of the side is too
far to shift.
"""


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
    space, see `Recipe.for_space`.

    Args:
        parser: of the command.
        task: the command, see `TASKS`; values that count for other networks have no flag.
    """
    groups = {
        "recipe": parser.add_argument_group(
            "recipe", f"defaults: {DEFAULTS[task]}. 'none' takes an optional value away."
        )
    }
    groups["recipe"].add_argument(
        "--recipe", metavar="NAME|FILE", help="a packaged recipe or a YAML file; flags come before it"
    )
    for entry in settings_of(Recipe).values():
        if entry.group == _of_others(task):
            continue
        group = groups.get(entry.group) or parser.add_argument_group(entry.group)
        groups[entry.group] = group
        if entry.kind is bool:
            group.add_argument(
                f"--{entry.flag}",
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=entry.text,
            )
            continue
        group.add_argument(
            f"--{entry.flag}",
            type=_reader(entry),
            nargs=2 if entry.kind is tuple else None,
            metavar="NAME" if entry.kind is str else "X",
            default=argparse.SUPPRESS,
            help=entry.text,
        )


def _reader(entry: Setting) -> Callable[[str], Any]:
    kind = float if entry.kind is tuple else entry.kind
    if not entry.optional or entry.kind is tuple:
        return kind

    def read(text: str) -> Any:
        if text == "none":
            return None
        if kind is int and text.endswith(".0"):  # NNI's random numbers are floats
            text = text.removesuffix(".0")
        return kind(text)

    read.__name__ = kind.__name__  # argparse names it in its message
    return read


def _of_others(task: str) -> str:
    return NETWORK if task == "train" else SUPERNET


def recipe_of(arguments: argparse.Namespace, space: SearchSpace, task: str = "train") -> Recipe:
    """The recipe that file and flags describe.

    Args:
        arguments: the command's.
        space: around the network.
        task: the command, see `TASKS`.

    Raises:
        ConfigError: a value is out of its range, or not for this command; the sentence names the flag, or
            file and key.
    """
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
        if name in Recipe.__dataclass_fields__
    }
    data = DIGITS if getattr(arguments, "dataset", None) == "digits" else {}
    file = {} if arguments.recipe is None else recipe_values(arguments.recipe)
    for name, entry in settings_of(Recipe).items():
        default = Recipe.__dataclass_fields__[name].default
        if entry.group == _of_others(task) and file.get(name, default) != default:
            whom = "a single network" if task == "train" else "a supernet"
            raise ConfigError(
                f"--recipe {arguments.recipe}: {name} is for the training of {whom}; {task} does without it."
            )
    return Recipe.for_space(space, task, **{**data, **file, **given})

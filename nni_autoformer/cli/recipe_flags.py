"""The recipe's flags, made from its one table of values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..space import SearchSpace
from ..training.knobs import Knob, knobs_of
from ..training.recipe import Recipe, recipe_values

DIGITS = {"hflip": 0.0, "crop_padding": 1}
"""For the digits, which fill their image: a mirrored one is another sign, and an eighth of the side is too
far to shift.
"""


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """A flag for each value; what is not given has the recipe file's value, else the space's default, see
    `Recipe.for_space`.
    """
    groups = {
        "recipe": parser.add_argument_group(
            "recipe",
            "defaults: the paper's, or for images up to 64 pixels 100 epochs, --lr-base 4e-3, "
            "--drop-path 0.05, --sched-on-updates, and neither --aa, --aug-repeats, --reprob, --mixup nor "
            "--cutmix. 'none' takes an optional value away.",
        )
    }
    groups["recipe"].add_argument(
        "--recipe", metavar="NAME|FILE", help="a packaged recipe or a YAML file; flags come before it"
    )
    for entry in knobs_of(Recipe).values():
        group = groups.setdefault(entry.group, parser.add_argument_group(entry.group))
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


def _reader(entry: Knob) -> Callable[[str], Any]:
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


def recipe_of(arguments: argparse.Namespace, space: SearchSpace) -> Recipe:
    """The recipe that file and flags describe.

    Raises:
        ConfigError: a value is out of its range; the sentence names the flag, or file and key.
    """
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
        if name in Recipe.__dataclass_fields__
    }
    data = DIGITS if getattr(arguments, "dataset", None) == "digits" else {}
    file = {} if arguments.recipe is None else recipe_values(arguments.recipe)
    return Recipe.for_space(space, **{**data, **file, **given})

"""Flags made from configuration classes, and configuration objects made from what was given."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from ..config import Setting, settings_of
from ..costs import KNOWN
from ..deployment import GROUP, Deployment
from ..search.limits import LIMITS, Limits

Configuration = TypeVar("Configuration")


def add_settings(
    parser: argparse.ArgumentParser,
    configuration: type,
    *,
    omit: Collection[str] = (),
    only: Collection[str] = (),
    given_only: bool = False,
    group: str = "",
) -> None:
    """A flag for every setting of a configuration class.

    Args:
        parser: parser of the command.
        configuration: the class.
        omit: names of settings that get no flag.
        only: names of the settings that get one; empty for all.
        given_only: the arguments hold only what was given, and 'none' takes an optional value away, as for a
            recipe, whose values have several defaults.
        group: heading of settings that have none of their own.
    """
    groups: dict[str, Any] = {}
    for entry in settings_of(configuration).values():
        if entry.name in omit or (only and entry.name not in only):
            continue
        title = entry.group or group
        if title not in groups:
            groups[title] = _group(parser, title)
        _add(groups[title], entry, given_only)


def _group(parser: argparse.ArgumentParser, title: str) -> Any:
    """The group of that heading, made if it is new."""
    if not title:
        return parser
    known = {group.title: group for group in parser._action_groups}
    return known.get(title) or parser.add_argument_group(title)


def _add(group: Any, entry: Setting, given_only: bool) -> None:
    default = argparse.SUPPRESS if given_only else entry.default
    told = entry.text
    if not given_only and "(default" not in told and "(the default" not in told and _is_shown(entry.default):
        told += f" (default {entry.default})"
    if entry.kind is bool:
        switch = entry.default is False and not given_only
        action: Any = "store_true" if switch else argparse.BooleanOptionalAction
        group.add_argument(f"--{entry.flag}", action=action, default=default, help=told)
        return
    choices = None if given_only else entry.check.choices or None
    # argparse makes the metavar of choices from the choices
    words = {} if choices else {"metavar": entry.metavar or ("NAME" if entry.kind is str else "X")}
    group.add_argument(
        f"--{entry.flag}",
        type=_reader(entry, given_only),
        nargs=2 if entry.kind is tuple else None,
        default=default,
        choices=choices,
        help=told,
        **words,
    )


def _is_shown(default: Any) -> bool:
    return default is not None and default is not False


def _reader(entry: Setting, none_is_a_value: bool) -> Callable[[str], Any]:
    kind: Any = float if entry.kind is tuple else entry.kind
    if entry.parse is not None:
        return _parser(entry.parse)
    if not none_is_a_value or not entry.optional or entry.kind is tuple:
        return kind

    def read(text: str) -> Any:
        if text == "none":
            return None
        if kind is int and text.endswith(".0"):  # NNI's random numbers are floats
            text = text.removesuffix(".0")
        return kind(text)

    read.__name__ = kind.__name__  # argparse names it in its error message
    return read


def _parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def configured(configuration: type[Configuration], arguments: argparse.Namespace) -> Configuration:
    """The configuration object that the flags describe.

    Raises:
        ConfigError: a value is out of its range.
    """
    names = [name for name in settings_of(configuration) if hasattr(arguments, name)]
    return configuration(**{name: getattr(arguments, name) for name in names})


def given(configuration: type, arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given of a configuration class whose flags are `given_only`, by name."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
        if name in settings_of(configuration)
    }


def add_limits(parser: argparse.ArgumentParser) -> None:
    """What a subnet may cost, from the table of costs."""
    group = parser.add_argument_group("limits (inclusive)")
    for name, cost in KNOWN.items():
        for side, word in (("min", "fewest"), ("max", "most")):
            group.add_argument(f"--{side}-{name}", type=float, metavar=cost.unit, help=f"{word} {cost.help}")


def limits_of(arguments: argparse.Namespace) -> Limits:
    """The limits that were given.

    Raises:
        ConfigError: a limit is negative, NaN or infinite.
    """
    return Limits(**{name: getattr(arguments, name) for name in LIMITS})


def add_deployment(parser: argparse.ArgumentParser) -> None:
    """How a subnet will run, and its latencies there."""
    add_settings(parser, Deployment)
    _group(parser, GROUP).add_argument(
        "--latency-table",
        type=Path,
        metavar="FILE",
        help="latencies of the space's parts on the device, as nni-autoformer latency writes them",
    )


def deployment_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """How a subnet will run, as arguments of a job.

    Raises:
        ConfigError: a value is out of its range.
    """
    return {
        "deployment": configured(Deployment, arguments),
        "latency_table": arguments.latency_table,
    }


def add_space(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Which search space."""
    parser.add_argument("--space", required=required, help="name of a packaged search space, or a YAML file")


def add_checkpoint(parser: argparse.ArgumentParser, what: str = "a supernet or a subnet") -> None:
    """Which weights, and the search space of a file that does not name its own."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"{what}: ours, a published one, or one of NNI's hub",
    )
    add_use_ema(parser)
    parser.add_argument(
        "--space", help="name of a packaged space, or a YAML file (default: the checkpoint's)"
    )


def add_use_ema(parser: argparse.ArgumentParser) -> None:
    """Which of the weights that a file holds."""
    parser.add_argument(
        "--use-ema",
        action="store_true",
        help="take the moving average of the weights from other people's file that holds plain ones, too",
    )


def add_architecture(parser: argparse.ArgumentParser, which: str) -> None:
    """Which subnet."""
    parser.add_argument("--architecture", metavar="FILE|NAME", help=which)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Which training images candidates are compared on."""
    parser.add_argument(
        "--selection",
        metavar="N-per-class|FILE",
        help="training images to select by (default: the list beside the checkpoint, which its training "
        "held out)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where to train."""
    parser.add_argument(
        "--device", default="auto", help="auto (default: the GPU if there is one), cpu, cuda, cuda:1, …"
    )


def add_output(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Where the run goes."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output",
        type=Path,
        default=default,
        required=default is None,
        metavar="DIR",
        help="folder of the run" + (f" (default {default})" if default else ""),
    )
    group.add_argument("--resume", action="store_true", help="go on with the unfinished run in --output")
    group.add_argument("--overwrite", action="store_true", help="delete the run in --output and start anew")


def output_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where the run goes, as arguments of a job."""
    return {name: getattr(arguments, name) for name in ("output", "resume", "overwrite")}


def add_file_output(parser: argparse.ArgumentParser) -> None:
    """Where a single file goes."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a file that does not exist yet"
    )

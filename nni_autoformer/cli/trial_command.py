"""The trial command of an NNI experiment, checked as its trials will read it: by the command's own parser,
with the values that the tuner may choose, on the files that it names.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import settings_of, shown
from ..data.data_set import DataSet, Loading
from ..deployment import Target
from ..errors import ConfigError
from ..files import file_digest
from ..jobs.launching import Trials, require_same_space
from ..jobs.remembered import data_for
from ..jobs.search_supernet import Engine
from ..jobs.started_from import Asked
from ..search.evaluation import Evaluation
from ..space import SearchSpace
from ..training.recipe import TASKS, Recipe
from ..training.upkeep import Upkeep
from . import flags
from .overrides import LABEL, OF_ONE_SUBNET, overrides_of

OF_A_CHECKPOINT = ("test", "search", "sample")
"""Commands that look at their checkpoint's data where they are told of none."""

MOST_VALUES = 64
"""How many values of one parameter are tried."""

RANGES = ("uniform", "quniform", "loguniform", "qloguniform", "randint")
UNBOUNDED = ("normal", "qnormal", "lognormal", "qlognormal")


def check_command(words: list[str], trials: Trials) -> None:
    """Check the trial command of an experiment.

    Args:
        words: command line, behind the program's name.
        trials: what else the experiment says of its trials.

    Raises:
        ConfigError: something is wrong; the sentence names the key of the configuration.
    """
    from . import build_parser

    parser = build_parser()
    choices = {name: values_of(name, entry) for name, entry in (trials.search_space or {}).items()}
    first = {name: values[0] for name, values in choices.items() if values}
    with _named("trialCommand"):
        arguments = _parsed(parser, words, first)
        _check_settings(arguments)
        _check_split(arguments, choices)
        _check_files(arguments, trials)
    for name, values in choices.items():
        if LABEL.fullmatch(name) and arguments.command in OF_ONE_SUBNET:
            continue  # compared with the checkpoint's space
        for value in values[1:MOST_VALUES]:
            with _named(f"searchSpace: {name} = {shown(repr(value))}"):
                _check_settings(_parsed(parser, words, {**first, name: value}))


@contextlib.contextmanager
def _named(key: str) -> Iterator[None]:
    """Say which key of the configuration an error is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def values_of(name: str, entry: Any) -> list[Any]:
    """Values that a tuner may choose for a parameter: all of a choice, the ends of a range; none where they
    cannot be known.

    Raises:
        ConfigError: the entry is not as NNI has it.
    """
    kind, values = (entry.get("_type"), entry.get("_value")) if isinstance(entry, Mapping) else (None, None)
    if not isinstance(kind, str) or not isinstance(values, list) or not values:
        raise ConfigError(
            f"searchSpace: {name} is {shown(repr(entry))}; it should be a mapping with _type and _value, as "
            "in {_type: choice, _value: [1, 2]}."
        )
    if kind == "choice":
        return [] if any(isinstance(value, Mapping) for value in values) else values
    if kind in UNBOUNDED:
        return []
    if kind not in RANGES:
        known = ", ".join(("choice", *RANGES, *UNBOUNDED))
        raise ConfigError(f"searchSpace: the _type of {name} is '{shown(kind)}'; known are {known}.")
    numbers = [value for value in values[:2] if type(value) in (int, float)]
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise ConfigError(
            f"searchSpace: the _value of {name} is {shown(repr(values))}; it should begin with the least and "
            "the most."
        )
    low, high = numbers
    return [low, max(low, high - 1)] if kind == "randint" else [float(low), float(high)]


def _parsed(
    parser: argparse.ArgumentParser, words: list[str], parameters: Mapping[str, Any]
) -> argparse.Namespace:
    """The command line of a trial with these parameters."""
    overrides, sample = overrides_of(parser, words, parameters)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            arguments = parser.parse_args([*words, *overrides])
    except SystemExit:
        lines = said.getvalue().strip().splitlines() or ["it only prints something"]
        raise ConfigError(lines[-1].split(": error: ", 1)[-1]) from None
    arguments.sample = sample
    return arguments


def _check_settings(arguments: argparse.Namespace) -> None:
    """Check the values of flags as the command itself does."""
    given = vars(arguments)
    for configuration in (DataSet, Loading, Evaluation, Engine, Upkeep):
        if all(name in given for name in settings_of(configuration)):
            flags.configured(configuration, arguments)
    if arguments.command == "search":
        from .search import algorithm_of

        algorithm_of(arguments)
    if "max_params" in given:
        flags.limits_of(arguments)
    if "latency_table" in given:
        Target.of(*flags.deployment_of(arguments).values())
    if arguments.command in TASKS and getattr(arguments, "space", None) is not None:
        _check_recipe(arguments, SearchSpace.load(arguments.space))


def _check_recipe(arguments: argparse.Namespace, space: SearchSpace) -> Recipe:
    from ..jobs.train_supernet import resolved_recipe

    return resolved_recipe(
        space,
        arguments.command,
        flags.configured(DataSet, arguments),
        arguments.recipe,
        flags.given(Recipe, arguments),
    )


def _check_split(arguments: argparse.Namespace, choices: Mapping[str, list[Any]]) -> None:
    """Check that trials which are compared with each other do not look at the test images."""
    splits = choices.get("split") or [getattr(arguments, "split", "selection")]
    if arguments.command == "test" and "test" in splits:
        raise ConfigError(
            "nni-autoformer test evaluates on the test images, and the experiment would choose by them; give "
            "--split selection."
        )


def _check_files(arguments: argparse.Namespace, trials: Trials) -> None:
    """Check what the command reads; where trials run on other machines, what can be known of it here."""
    checkpoint, labels = getattr(arguments, "checkpoint", None), arguments.sample
    space = None if getattr(arguments, "space", None) is None else SearchSpace.load(arguments.space)
    opened = None
    if checkpoint is not None and (trials.local or Path(checkpoint).is_file()):
        from ..checkpoints import Checkpoint

        opened = Checkpoint(checkpoint, space)
        opened.require_expected()
        space = opened.header.space
        if arguments.command in OF_ONE_SUBNET:
            _check_same_checkpoint(Path(checkpoint), trials.checkpoint)
        if arguments.command in TASKS:
            _check_recipe(arguments, space)
    if arguments.command == "train":
        space = _check_start(arguments, space, trials.local)
    if arguments.command in OF_ONE_SUBNET:
        if labels and space is not None:
            require_same_space({label: trials.search_space[label] for label in labels}, space)
        elif not labels and opened is not None:
            opened.architecture(arguments.architecture)
    if trials.local:
        _check_images(arguments, opened, space)


def _check_start(arguments: argparse.Namespace, space: SearchSpace | None, local: bool) -> SearchSpace | None:
    """Check what a training starts from, which may also be where its space is; the space."""
    words = arguments.start_from, arguments.importance, arguments.importance_images, arguments.use_ema
    asked = Asked(*words)
    if local or asked.word is None:
        from ..training.teacher import require_teacher

        _, space = asked.opened(space)
        require_teacher(_check_recipe(arguments, space), original=asked.word is not None)
    return space


def _check_same_checkpoint(path: Path, tuners: Path | None) -> None:
    if tuners is None or path.samefile(tuners) or file_digest(path) == file_digest(tuners):
        return
    raise ConfigError(
        f"--checkpoint {path} is another supernet than the tuner's (tuner: classArgs: checkpoint), {tuners}; "
        "a search is about one."
    )


def _check_images(arguments: argparse.Namespace, opened: Any, space: SearchSpace | None) -> None:
    """Open the data set, and find the images that the command looks at."""
    if "dataset" not in arguments or space is None:
        return
    data = flags.configured(DataSet, arguments)
    if opened is not None and arguments.command in OF_A_CHECKPOINT:
        data = data_for(Path(arguments.checkpoint), data)
    if data.download:
        return  # the first trial fetches it
    if data.data is not None and not Path(data.data).is_dir():
        raise ConfigError(f"--data {data.data}: there is no such folder.")
    splits = data.open(space.model.in_chans)
    if opened is not None and arguments.command in ("test", "search"):
        from ..jobs.evaluate import images_of

        split = getattr(arguments, "split", "selection")
        evaluation = flags.configured(Evaluation, arguments)
        evaluation.require_device()
        path = Path(arguments.checkpoint)
        images_of(path, data, evaluation, split, arguments.selection).of(opened.header, splits)
    elif arguments.command == "train":
        from ..jobs.preparation import hold_out

        hold_out(splits.train, arguments.selection, seed=0)

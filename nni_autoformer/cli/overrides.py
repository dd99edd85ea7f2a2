"""As a trial of an NNI experiment: NNI's parameters in place of flags."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigError

LABEL = re.compile(r"embed_dim|depth|(num_head|mlp_ratio)_\d+")
"""A label of the search space."""

OF_ONE_SUBNET = ("test", "retrain", "finetune")
"""Commands that take an NNI sample for their architecture."""


def overrides_of(
    parser: argparse.ArgumentParser, words: Sequence[str], parameters: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """The flags that a trial's parameters stand for, and the NNI sample among them.

    A parameter has a flag's name, with dashes or underscores; a list gives several values, true and false
    set a switch, and turn it off or leave it out. In a command about one subnet the labels
    of the search space are the architecture.

    Args:
        parser: parser of the whole command line.
        words: the command line; the flags found here are meant to stand behind it, so that they count.
        parameters: parameters of the trial.

    Raises:
        ConfigError: the command has no such flag; the sentence lists the known ones.
    """
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    name = next((word for word in words if word in commands), None)
    if name is None:
        return [], {}
    flags = {
        option: action
        for action in commands[name]._actions
        for option in action.option_strings
        if option.startswith("--") and option not in ("--help", "--help-all")
    }
    sample: dict[str, Any] = {}
    overrides: list[str] = []
    for parameter, value in parameters.items():
        flag = "--" + parameter.replace("_", "-")
        if name in OF_ONE_SUBNET and LABEL.fullmatch(parameter):
            sample[parameter] = value
        elif flag in flags:
            overrides += _words(flag, flags[flag], value)
        else:
            known = ", ".join(sorted(option[2:] for option in flags))
            labels = ", or a label of the search space" if name in OF_ONE_SUBNET else ""
            raise ConfigError(
                f"the NNI parameter '{parameter}' is no flag of nni-autoformer {name}; known are {known}"
                f"{labels}."
            )
    return overrides, sample


def _words(flag: str, action: argparse.Action, value: Any) -> list[str]:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ConfigError(f"the NNI parameter '{flag[2:]}' is {value!r}; it should be true or false.")
        off = [f"--no-{flag[2:]}"] if isinstance(action, argparse.BooleanOptionalAction) else []
        return [flag] if value else off
    if value is None:
        return []
    values = value if isinstance(value, (list, tuple)) else [value]
    if len(values) == 1:
        return [f"{flag}={_text(values[0], action)}"]  # a value may begin with a dash
    return [flag, *(_text(entry, action) for entry in values)]


def _text(value: Any, action: argparse.Action) -> str:
    # NNI's random numbers are floats, also where a whole one is meant
    if action.type is not float and isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)

"""What people put around the weights: dictionaries of a training script, prefixes of wrapping modules, and a
moving average of the weights beside the plain ones.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError

log = logging.getLogger("nni_autoformer")

PLAIN = ("model", "state_dict", "model_state_dict", "network", "net", "module", "weights", "checkpoint")
"""Keys under which training scripts save the weights."""

AVERAGED = ("model_ema", "state_dict_ema", "ema", "ema_state_dict", "model_ema_state_dict", "ema_model")
"""Keys under which they save a moving average of the weights."""

TRAINED_WITH = ("args", "hyper_parameters", "hparams", "config")
"""Keys under which they save how the network was built and trained."""

MARKS = ("patch_embed_super.proj.weight", "patch_embed.proj.weight", "patch_embed.weight")
"""One tensor of every network that is known here; what stands before it is a wrapper's prefix."""

IS_AVERAGED = re.compile(r"(^|[._])(ema|averaged?|swa)([._]|$)", re.IGNORECASE)
"""Prefixes of a moving average within a module that holds both, as Lightning modules do."""

COMPILED = "_orig_mod."
"""What `torch.compile` puts into the names of a compiled module's tensors."""


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        tensors: tensors of the network, by name.
        trained_with: how the network was built and trained, as far as the file says.
    """

    tensors: dict[str, Tensor]
    trained_with: Mapping[str, Any] = field(default_factory=dict)


def unwrapped(path: Path, content: Any, use_ema: bool) -> Weights:
    """The network within what a file holds.

    Args:
        path: file, for messages.
        content: what `torch.load` gives, or a dictionary of tensors.
        use_ema: take the moving average of the weights where there are plain ones, too.

    Raises:
        ConfigError: there is no network, there are several, or the moving average is missing.
    """
    found = list(_networks(content, "", averaged=False)) if isinstance(content, dict) else []
    if not found:
        raise ConfigError(
            f"{path}: the file holds no network: neither tensors by name nor such under "
            f"{', '.join(repr(key) for key in (*PLAIN[:3], AVERAGED[0]))}."
        )
    plain = {name: tensors for name, tensors, averaged in found if not averaged}
    averages = {name: tensors for name, tensors, averaged in found if averaged}
    if use_ema and not averages:
        raise ConfigError(f"{path}: --use-ema: the file holds no moving average of the weights.")
    chosen, others = (averages, plain) if use_ema or not plain else (plain, averages)
    if len(chosen) > 1:
        raise ConfigError(
            f"{path}: the file holds several networks ({', '.join(map(_told, chosen))}); save the one that "
            "is wanted as a file of its own."
        )
    (name, tensors), *_ = chosen.items()
    _say_which(path, name, averages, others)
    return Weights(tensors, _trained_with(content))


def _say_which(path: Path, name: str, averages: Mapping, others: Mapping) -> None:
    if name in averages:
        beside = f"; the plain ones ({_told(next(iter(others)))}) are there, too" if others else ""
        log.info(f"{path}: the moving average of the weights ({_told(name)}) is used{beside}.")
    elif others:
        log.info(
            f"{path}: the plain weights ({_told(name)}) are used, and not their moving average "
            f"({_told(next(iter(others)))}), which --use-ema takes."
        )


def _told(name: str) -> str:
    return f"'{name}'" if name else "the file's own"


def _networks(content: Mapping, name: str, averaged: bool) -> Any:
    """Name, tensors and whether they are a moving average, of each network in a dictionary."""
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    # a training script may put the epoch and the like among the tensors
    if tensors and (len(tensors) == len(content) or any(str(key).endswith(MARKS) for key in tensors)):
        yield from _by_prefix(tensors, name, averaged)
        return
    for keys, within in ((PLAIN, averaged), (AVERAGED, True)):
        for key in keys:
            value = content.get(key)
            if isinstance(value, dict) and value and name.count(".") < 2:
                yield from _networks(value, f"{name}.{key}" if name else key, within)


def _by_prefix(tensors: Mapping[Any, Tensor], name: str, averaged: bool) -> Any:
    cleaned = {str(key).replace(COMPILED, ""): tensor for key, tensor in tensors.items()}
    prefixes = _prefixes(cleaned)
    if prefixes in ([], [""]):
        cleaned.pop("n_averaged", None)
        yield name, cleaned, averaged
        return
    for prefix in prefixes:
        others = tuple(other for other in prefixes if other and other != prefix)
        own = {
            key.removeprefix(prefix): tensor
            for key, tensor in cleaned.items()
            if key.startswith(prefix) and not (prefix == "" and key.startswith(others))
        }
        told = f"{name}.{prefix}" if name else prefix
        yield told.rstrip("."), own, averaged or IS_AVERAGED.search(prefix) is not None


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    found: dict[str, None] = {}
    for key in tensors:
        for mark in MARKS:
            if key == mark or key.endswith(f".{mark}"):
                found[key.removesuffix(mark)] = None
                break
    return list(found)


def _trained_with(content: Mapping) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for key in TRAINED_WITH:
        value = content.get(key)
        entries = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
        told |= {str(name): entry for name, entry in entries.items() if not isinstance(entry, Tensor)}
    if isinstance(content.get("arch"), str):
        told["arch"] = content["arch"]
    return told

"""The published code's YAML files, read wherever a space or an architecture is.

They have the sections SUPERNET (the largest sizes), SEARCH_SPACE (the choices) and RETRAIN (one
architecture), each with MLP_RATIO, NUM_HEADS, DEPTH and EMBED_DIM.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError

SECTIONS = ("SUPERNET", "SEARCH_SPACE", "RETRAIN")
KEYS = ("EMBED_DIM", "DEPTH", "NUM_HEADS", "MLP_RATIO")


def published_space(content: Mapping[str, Any], source: str) -> dict[str, Any] | None:
    """The content of a published file as that of one of ours, around the published network; None if it is not
    one.

    Raises:
        ConfigError: there is no section SEARCH_SPACE, or a key is unknown or missing.
    """
    if not _is_published(content, source):
        return None
    choices = _section(content, "SEARCH_SPACE", source)
    return {"name": Path(source).stem, "choices": {key.lower(): choices[key] for key in KEYS}}


def published_architecture(content: Mapping[str, Any], source: str) -> dict[str, Any] | None:
    """The RETRAIN section of a published file as one of our architectures; None if the file is not one.

    Raises:
        ConfigError: there is no section RETRAIN, or a key is unknown or missing.
    """
    if not _is_published(content, source):
        return None
    retrain = _section(content, "RETRAIN", source)
    return {key.lower(): retrain[key] for key in KEYS}


def _is_published(content: Mapping[str, Any], source: str) -> bool:
    if not any(section in content for section in SECTIONS):
        return False
    if unknown := [str(key) for key in content if key not in SECTIONS]:
        raise ConfigError(f"{source}: unknown section '{unknown[0]}'; there are {', '.join(SECTIONS)}.")
    return True


def _section(content: Mapping[str, Any], name: str, source: str) -> Mapping[str, Any]:
    section = content.get(name)
    if not isinstance(section, Mapping):
        raise ConfigError(f"{source}: the section {name} is missing.")
    if unknown := [str(key) for key in section if key not in KEYS]:
        raise ConfigError(f"{source}: unknown key '{name}.{unknown[0]}'; there are {', '.join(KEYS)}.")
    if missing := [key for key in KEYS if key not in section]:
        raise ConfigError(f"{source}: the key '{name}.{missing[0]}' is missing.")
    return section

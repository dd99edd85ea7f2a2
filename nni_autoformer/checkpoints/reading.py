"""From a file to tensors. Nothing here executes code from a file: safetensors holds tensors only, and a
pickle is looked at with `weights_only=True`.
"""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ConfigError

PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04")
"""How files begin that `torch.save` has written, today's and older ones."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, by name, on the CPU; those of a safetensors file are memory-mapped.

    Raises:
        ConfigError: the file is truncated, holds code, or holds no tensors by name.
    """
    with open(path, "rb") as file:
        start = file.read(2)
    return _torch_tensors(path) if start in PICKLES else _safetensors(path)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no dict)
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{path}: the file is damaged or truncated, it cannot be read as safetensors ({error})."
        ) from None


def _torch_tensors(path: Path) -> dict[str, Tensor]:
    try:
        # the published files hold their command line beside the weights; this one type is plain values
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ConfigError(
            f"{path}: refused: the file holds other things than tensors and plain values, and loading them "
            "could run code."
        ) from None
    except Exception as damage:  # whatever a damaged archive makes torch say
        raise ConfigError(f"{path}: the file is damaged or truncated ({type(damage).__name__}).") from None
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ConfigError(
            f"{path}: the file holds no network: neither tensors by name nor such under 'model'."
        )
    return dict(content)

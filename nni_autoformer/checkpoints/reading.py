"""From a file to tensors. Nothing here executes code from a file: safetensors holds tensors only, and a
pickle is looked at with `weights_only=True`.
"""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ConfigError
from .layouts import recognise
from .run_facts import quoted
from .wrappers import Weights, unwrapped

log = logging.getLogger("nni_autoformer")

PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files of old versions of torch, and other pickles, begin."""

OTHERS = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it"),
    (b"GGUF", "a GGUF file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
)
"""How files of other kinds begin."""

TAR_MARK, TAR_PLACE = b"ustar", 257

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""Kinds of numbers that weights are read from; all become float32."""

_SCALAR = np.float64(0).__reduce__()[0]
PLAIN_VALUES: list[Any] = [
    argparse.Namespace,
    (PosixPath, "pathlib.PosixPath"),
    (PosixPath, "pathlib._local.PosixPath"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")),
]
"""What training scripts save beside the weights and torch does not take for plain values by itself: command
lines, paths, and numbers of NumPy.
"""


def read_own(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, by name, as float32 on the CPU; those that are it already are
    memory-mapped.

    Raises:
        ConfigError: the file is truncated, or a tensor holds no floating-point numbers.
    """
    return _as_weights(path, _safetensors(path))


def read_foreign(path: Path, use_ema: bool = False) -> Weights:
    """The network in a file that does not say what it is, as float32 on the CPU.

    Args:
        path: file of safetensors, or one that `torch.save` has written.
        use_ema: take the moving average of the weights where there are plain ones, too.

    Raises:
        ConfigError: the file is no checkpoint, is truncated, holds code, or holds no network.
    """
    with open(path, "rb") as file:
        start = file.read(512)
    _require_binary(path, start)
    content: Any
    if start.startswith(b"PK"):
        content = _torch_content(path, mmap=_require_torch_archive(path))
    elif start.startswith(PICKLES):
        content = _torch_content(path, mmap=False)
    else:
        content = _safetensors(path)
    weights = unwrapped(path, content, use_ema)
    if recognise(weights.tensors) is None:
        state = any(key.startswith("blocks.blocks.") for key in weights.tensors)
        raise ConfigError(
            f"{path}: the file's tensors are those of no network that is known here (a supernet or subnet of "
            "nni-autoformer, a published supernet, a network of NNI's hub, a subnet in timm's layout)."
            + (" It is the state of a training; the weights are the .safetensors beside it." if state else "")
        )
    return Weights(_as_weights(path, weights.tensors), weights.trained_with)


def _require_binary(path: Path, start: bytes) -> None:
    """Refuse text that was saved under a checkpoint's name."""
    if start[8:9] == b"{":  # safetensors: the length before it may look like anything
        return
    kind = next((words for mark, words in OTHERS if start.startswith(mark)), None)
    if start[TAR_PLACE:].startswith(TAR_MARK):
        kind = "a tar archive, as torch wrote checkpoints before version 0.4, or with other files in it"
    if kind is not None:
        raise ConfigError(f"{path}: this is {kind} and no checkpoint; unpack or convert it first.")
    text = start.removeprefix(b"\xef\xbb\xbf").strip().lower()
    if not text or b"\x00" in start or start.startswith((b"PK", *PICKLES)):
        return
    if text.startswith(b"version https://git-lfs"):
        raise ConfigError(
            f"{path}: this is a pointer of Git LFS and not the file itself; 'git lfs pull' fetches that."
        )
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")):
        raise ConfigError(
            f"{path}: this is a web page and no checkpoint, as a download leaves it that needs a login or "
            "whose address is wrong; fetch the file again."
        )
    if text.startswith((b"{", b"[")):
        raise ConfigError(f"{path}: this is a JSON file and no checkpoint.")
    if _is_text(start):
        raise ConfigError(f"{path}: this is a text file and no checkpoint.")


def _is_text(start: bytes) -> bool:
    for cut in range(4):  # a character may be cut at the end
        try:
            return start[: len(start) - cut].decode("utf-8").replace("\n", "").replace("\r", "") != ""
        except UnicodeDecodeError:
            continue
    return False


def _require_torch_archive(path: Path) -> bool:
    """Refuse archives that hold other things than `torch.save` writes; whether its tensors can be
    memory-mapped.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError) as damage:
        raise ConfigError(f"{path}: the file is damaged or truncated ({type(damage).__name__}).") from None
    names = [entry.filename.partition("/")[2] for entry in entries]
    if "constants.pkl" in names:
        raise ConfigError(
            f"{path}: this is a TorchScript program; save the state_dict() of the network instead."
        )
    if "archive_format" in names:
        raise ConfigError(
            f"{path}: this is a program of torch.export; the checkpoint that it was made of is needed."
        )
    if "data.pkl" not in names:
        raise ConfigError(f"{path}: this is a zip archive that torch.save has not written.")
    return all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no dict)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: the file is damaged or truncated, it cannot be read as safetensors "
            f"({quoted(str(error))})."
        ) from None


def _torch_content(path: Path, mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals(PLAIN_VALUES), open(path, "rb") as file:
            # a file's name is no matter, and torch would go by it where it ends in .safetensors
            mmap = mmap and path.suffix != ".safetensors"
            return torch.load(str(path) if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = (
            f"the file holds other things than tensors and plain values ({named[1]})"
            if named
            else "the file is damaged or truncated, or holds other things than tensors and plain values"
        )
        raise ConfigError(
            f"{path}: refused: {what}, and loading them could run code; save the network's state_dict() "
            "alone."
        ) from None
    except Exception as damage:  # whatever a damaged archive makes torch say
        raise ConfigError(f"{path}: the file is damaged or truncated ({type(damage).__name__}).") from None


def _as_weights(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kinds = set()
    for key, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise ConfigError(
                f"{path}: the tensor '{key}' holds {_kind(tensor)} numbers; weights are float32, float16, "
                "bfloat16 or float64."
            )
        if tensor.layout is not torch.strided or tensor.is_meta:
            kind = "no values" if tensor.is_meta else "a sparse matrix"
            raise ConfigError(f"{path}: the tensor '{key}' holds {kind}; weights are whole tensors.")
        kinds.add(_kind(tensor))
    if others := kinds - {"float32"}:
        log.info(f"{path}: the weights are {' and '.join(sorted(others))} in the file; float32 is used.")
    return {key: tensor.detach().to(torch.float32) for key, tensor in tensors.items()}


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")

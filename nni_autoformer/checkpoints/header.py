"""What a checkpoint file says of itself; read without torch, because a tuner has to start within seconds."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..architecture import Architecture
from ..errors import ConfigError
from ..files import parse_json
from ..space import ModelConfig, SearchSpace
from .run_facts import RunFacts, quoted

HEADER_KEY = "nni_autoformer"
FORMAT = 1
LONGEST = 100_000_000
"""A safetensors header is never longer, in bytes; a larger number is another kind of file."""

OWN_KINDS = ("supernet", "subnet")
KINDS = (*OWN_KINDS, "published supernet", "hub supernet", "hub subnet", "timm subnet")
"""What a file can hold; the later ones are other people's, see `layouts.recognise`."""

LARGEST = {
    "patch_size": 2**16,
    "in_chans": 2**16,
    "num_classes": 2**26,
    "num_patches": 2**17,
    "max_relative_position": 2**16,
}
"""Sizes of the network around the subnets beyond which a header is damaged; the space bounds its choices."""


@dataclass
class Header:
    """What a checkpoint file says of itself.

    Attributes:
        kind: one of `KINDS`.
        space: search space; its number of classes is the data's.
        run: what the training knew.
        versions: versions of this package and of torch when the file was written.
    """

    kind: str
    space: SearchSpace
    run: RunFacts = field(default_factory=RunFacts)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def of_supernet(self) -> bool:
        """Whether the file holds a supernet; else it holds a single subnet."""
        return self.kind.endswith("supernet")

    @property
    def subnet(self) -> Architecture:
        """The architecture of a single subnet's file."""
        return self.space.architectures["subnet"]


def one_point_space(architecture: Architecture, model: ModelConfig) -> SearchSpace:
    """The network of a single subnet, told as a search space around it with the subnet's name 'subnet'."""
    return SearchSpace(
        "subnet",
        (architecture.embed_dim,),
        (architecture.depth,),
        tuple(sorted(set(architecture.num_heads))),
        tuple(sorted(set(architecture.mlp_ratio))),
        model,
        {"subnet": architecture},
    )


def own_header(path: str | Path) -> Header | None:
    """The header of a file that this package wrote; None for any other file.

    Raises:
        ConfigError: the file is missing, unreadable or truncated, or its header is malformed.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such checkpoint.")
        with open(path, "rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            text = file.read(length) if 2 <= length <= LONGEST else b""
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ConfigError(f"{path}: the file cannot be read: {error.strerror}.") from None
    try:
        entries = json.loads(text)
        header = entries.pop("__metadata__", {}).get(HEADER_KEY)
        ends = (entry["data_offsets"][1] for entry in entries.values())
        truncated = header is not None and size < 8 + length + max(ends, default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        return None
    if truncated:
        raise ConfigError(f"{path}: the file is damaged or truncated: its tensors are longer than the file.")
    return None if header is None else parse_header(path, header)


def parse_header(path: Path, text: str) -> Header:
    """Read the JSON that stands in a file's header.

    Raises:
        ConfigError: it is no JSON, or malformed; the sentence names file and key.
    """
    try:
        content = parse_json(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: the header is damaged, it is no JSON ({type(error).__name__}).") from None
    return header_from(content, str(path))


def header_from(content: Any, source: str) -> Header:
    """Check what a header says; behind this border it is trusted.

    Args:
        content: the header's JSON.
        source: file that error messages name.

    Raises:
        ConfigError: a key is missing, or a value is of another kind or out of its range.
    """
    try:
        return _header_from(content, source)
    except ConfigError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ConfigError(
            f"{source}: the header is damaged ({type(error).__name__}: {quoted(str(error))})."
        ) from None


def _header_from(content: Any, source: str) -> Header:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{source}: the header is damaged: it should hold keys with values.")
    for key in ("format", "kind", "space", "run", "versions"):
        if key not in content:
            raise ConfigError(f"{source}: the header is damaged: the key '{key}' is missing.")
    if content["format"] != FORMAT:
        raise ConfigError(
            f"{source}: the file has format {quoted(content['format'])}; this version reads format {FORMAT}."
        )
    kind, versions = content["kind"], content["versions"]
    if kind not in KINDS:
        raise ConfigError(f"{source}: kind is {quoted(kind)}; it should be one of {', '.join(KINDS)}.")
    if not isinstance(content["space"], Mapping):
        raise ConfigError(f"{source}: space is {quoted(content['space'])}; it should hold keys with values.")
    if not isinstance(versions, Mapping):
        raise ConfigError(f"{source}: versions is {quoted(versions)}; it should hold keys with values.")
    space = SearchSpace.from_dict(content["space"], f"{source}: space")
    _require_plausible(space, source)
    if kind.endswith("subnet") and "subnet" not in space.architectures:
        raise ConfigError(f"{source}: space.architectures lacks 'subnet', the architecture of the file.")
    run = RunFacts.from_dict(content["run"], f"{source}: run")
    for key in ("mean", "std"):
        if len(getattr(run, key) or (0,)) not in (1, space.model.in_chans):
            raise ConfigError(
                f"{source}: run.{key} has {len(getattr(run, key))} numbers, and images have "
                f"{space.model.in_chans} channels."
            )
    return Header(kind, space, run, {str(name): str(version) for name, version in versions.items()})


def _require_plausible(space: SearchSpace, source: str) -> None:
    """Refuse sizes that no machine can build, before something tries."""
    for key, most in LARGEST.items():
        size = getattr(space.model, key)
        if size > most:
            raise ConfigError(f"{source}: space.model.{key} is {quoted(size)}; at most {most:,} is possible.")

"""What a checkpoint file says of itself; read without torch, because a tuner has to start within seconds."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

from ..architecture import Architecture
from ..errors import ConfigError
from ..space import ModelConfig, SearchSpace
from .run_facts import RunFacts

HEADER_KEY = "nni_autoformer"
FORMAT = 1
LONGEST = 100_000_000
"""A safetensors header is never longer, in bytes; a larger number is another kind of file."""


@dataclass
class Header:
    """What a checkpoint file says of itself.

    Attributes:
        kind: 'supernet' or 'subnet'; for other people's files as `layouts.recognise` says.
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
        ConfigError: the file is missing or truncated, or its header is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such checkpoint.")
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        text = file.read(length) if 2 <= length <= LONGEST else b""
    try:
        entries = json.loads(text)
        header = entries.pop("__metadata__", {}).get(HEADER_KEY)
        if header is None:
            return None
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        return None
    if path.stat().st_size < end:
        raise ConfigError(f"{path}: the file is damaged or truncated: it should have {end:,} bytes.")
    return parse_header(path, header)


def parse_header(path: Path, text: str) -> Header:
    """Read the JSON that stands in a file's header.

    Raises:
        ConfigError: it is damaged, or of a format that this version does not know.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ConfigError(
                f"{path}: the file has format {content['format']}; this version reads format {FORMAT}."
            )
        space = SearchSpace.from_dict(content["space"], f"{path}: space")
        return Header(content["kind"], space, RunFacts.from_dict(content["run"]), content["versions"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: the header is damaged ({type(error).__name__}: {error}).") from None

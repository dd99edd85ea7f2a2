"""One subnet of a search space: which embedding size, and per layer how many heads and which MLP ratio."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .config import shown
from .errors import ConfigError
from .files import read_yaml, write_text
from .published_yaml import published_architecture

HEAD_DIM = 64
"""Channels per attention head, the same in every subnet (published code: hard-coded 64)."""

DEEPEST = 1000
"""Layers of a subnet; a larger number is a slip of the pen."""

KEYS = ("embed_dim", "depth", "num_heads", "mlp_ratio")

MODEL_KEY = "model"
"""Key of an architecture's file for the network around it, as in a search space's."""


def is_integer(value: Any) -> bool:
    """Whether a value read from YAML or JSON means a whole number; 4.0 does, True does not."""
    return type(value) is int or (isinstance(value, float) and value.is_integer())


def is_number(value: Any) -> bool:
    """Whether a value read from YAML or JSON is a finite number; True is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max


@dataclass(frozen=True)
class Architecture:
    """One subnet, in canonical form: hashable, and equal exactly when the networks are the same.

    Only the layers that the subnet has are part of it. An NNI sample also carries choices of layers beyond
    its depth; they are left out here, so that candidates are compared, counted and stored by their active
    part.

    Attributes:
        embed_dim: width of the token embedding, one for the whole network.
        num_heads: attention heads of each layer, first layer first; each head has 64 channels.
        mlp_ratio: hidden width of each layer's MLP as a multiple of `embed_dim`, truncated to a whole number.
    """

    embed_dim: int
    num_heads: tuple[int, ...]
    mlp_ratio: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "embed_dim", _whole(self.embed_dim, "embed_dim"))
        object.__setattr__(self, "num_heads", tuple(_whole(n, "num_heads") for n in self.num_heads))
        object.__setattr__(self, "mlp_ratio", tuple(_ratio(n) for n in self.mlp_ratio))
        if len(self.num_heads) != len(self.mlp_ratio) or not self.num_heads:
            raise ConfigError(
                f"num_heads has {len(self.num_heads)} entries and mlp_ratio {len(self.mlp_ratio)}: "
                "both need one entry per layer, and at least one layer."
            )

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.num_heads)

    @property
    def hidden_features(self) -> tuple[int, ...]:
        """Hidden width of each layer's MLP: ``int(embed_dim * ratio)``, truncated as published."""
        return tuple(int(self.embed_dim * ratio) for ratio in self.mlp_ratio)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and lists, for JSON and YAML."""
        return {
            "embed_dim": self.embed_dim,
            "depth": self.depth,
            "num_heads": list(self.num_heads),
            "mlp_ratio": list(self.mlp_ratio),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = "architecture") -> Architecture:
        """Read the form that `to_dict` writes.

        Args:
            content: mapping with the keys `embed_dim`, `depth` (optional), `num_heads` and `mlp_ratio`; a
                single number in place of a list stands for every layer, and then `depth` is needed.
            source: the file or key that error messages name.

        Raises:
            ConfigError: an unknown or missing key, a list whose length is not the depth, a value of a wrong
                kind.
        """
        if not isinstance(content, Mapping):
            raise ConfigError(f"{source}: an architecture needs the keys {', '.join(KEYS)}.")
        if unknown := [str(key) for key in content if key not in KEYS]:
            raise ConfigError(f"{source}: unknown key '{unknown[0]}'; an architecture has {', '.join(KEYS)}.")
        for key in ("embed_dim", "num_heads", "mlp_ratio"):
            if key not in content:
                raise ConfigError(f"{source}: the key '{key}' is missing.")
        depth = content.get("depth")
        if depth is not None and (not is_integer(depth) or not 1 <= depth <= DEEPEST):
            raise ConfigError(
                f"{source}: depth is {shown(repr(depth))}; it should be a whole number above 0, "
                f"up to {DEEPEST}."
            )
        lists = {}
        for key in ("num_heads", "mlp_ratio"):
            value = content[key]
            if not isinstance(value, Sequence) or isinstance(value, str):
                if depth is None:
                    raise ConfigError(
                        f"{source}: {key} is one number for every layer, so depth is needed too."
                    )
                value = [value] * int(depth)
            if depth is not None and len(value) != depth:
                raise ConfigError(f"{source}: {key} has {len(value)} entries, but depth is {int(depth)}.")
            lists[key] = tuple(value)
        try:
            return cls(content["embed_dim"], lists["num_heads"], lists["mlp_ratio"])
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Architecture:
        """Read a YAML file as `to_yaml` writes it, or one of the published code with the section RETRAIN.

        Raises:
            ConfigError: as `from_dict`, or the file is missing or malformed.
        """
        content = read_yaml(path)
        published = published_architecture(content, str(path))
        own = {key: value for key, value in content.items() if key != MODEL_KEY}
        return cls.from_dict(published or own, str(path))

    def to_yaml(self, path: str | Path, comment: str = "", model: Mapping[str, Any] | None = None) -> None:
        """Write as YAML atomically.

        Args:
            path: the file.
            comment: goes to the top, each line behind a ``#``.
            model: the network around the architecture, as `ModelConfig.to_dict` gives it, for
                `space.architecture_file`.
        """
        header = "".join(f"# {line}\n" for line in comment.splitlines())
        content = self.to_dict() if model is None else {**self.to_dict(), MODEL_KEY: dict(model)}
        write_text(path, header + yaml.safe_dump(content, sort_keys=False, default_flow_style=None))

    def to_sample(self, layers: int | None = None) -> dict[str, int | float]:
        """As an NNI sample: labels `embed_dim`, `depth`, `num_head_{i}`, `mlp_ratio_{i}`.

        Args:
            layers: how many layers the model space has. NNI wants a value for every label, so the layers
                beyond the depth, which take no part in the network, repeat the last layer's choices. None
                gives the active part alone.
        """
        sample: dict[str, int | float] = {"embed_dim": self.embed_dim, "depth": self.depth}
        for i in range(max(layers or 0, self.depth)):
            active = min(i, self.depth - 1)
            sample[f"num_head_{i}"] = self.num_heads[active]
            sample[f"mlp_ratio_{i}"] = self.mlp_ratio[active]
        return sample

    @classmethod
    def from_sample(cls, sample: Mapping[str, Any]) -> Architecture:
        """Read an NNI sample; labels of layers beyond the depth, and labels of other things, are left out.

        Numbers may have passed through NNI's JavaScript, which writes 4.0 as 4.

        Raises:
            ConfigError: a label of the active part is missing or not a number.
        """
        values = {str(key): value for key, value in sample.items()}
        try:
            layers = range(_whole(values["depth"], "depth"))
            return cls(
                values["embed_dim"],
                tuple(values[f"num_head_{i}"] for i in layers),
                tuple(values[f"mlp_ratio_{i}"] for i in layers),
            )
        except KeyError as error:
            raise ConfigError(f"the NNI sample has no label {error}, which its depth needs.") from None

    def __str__(self) -> str:
        heads = ",".join(map(str, self.num_heads))
        ratios = ",".join(f"{ratio:g}" for ratio in self.mlp_ratio)
        return f"embed_dim {self.embed_dim}, depth {self.depth}, num_heads {heads}, mlp_ratio {ratios}"


def _whole(value: Any, key: str) -> int:
    if not is_integer(value) or value < 1:
        raise ConfigError(f"{key} holds {shown(repr(value))}; it should hold whole numbers above 0.")
    return int(value)


def _ratio(value: Any) -> float:
    if not is_number(value) or value <= 0:
        raise ConfigError(f"mlp_ratio holds {shown(repr(value))}; it should hold numbers above 0.")
    return float(value)

"""What all subnets of a search space have in common: the network around the searched sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .architecture import is_integer, is_number
from .config import shown
from .errors import ConfigError

POOLS = ("avg", "token")


@dataclass(frozen=True)
class ModelConfig:
    """What all subnets of a space have in common; names and meanings as in timm's `VisionTransformer`.

    Attributes:
        img_size: height and width of the image in pixels.
        patch_size: side of a patch in pixels; divides both sides of the image.
        in_chans: channels of the image.
        num_classes: outputs of the head.
        global_pool: 'avg', the mean of the patch tokens (the published choice), or 'token', the class token.
            The class token stays in the sequence in both.
        relative_position: 2-D relative position on keys and values in every layer.
        max_relative_position: offsets beyond it, in patches, share the table row of the farthest.
        absolute_position: a learned position embedding added to the tokens.
        norm_eps: epsilon of all layer norms; timm's plain ViTs have 1e-6.
        pre_norm: a norm before the first block, as CLIP's networks have it.
        fc_norm: with 'avg', the norm behind the blocks stands behind the pooling.
    """

    img_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    in_chans: int = 3
    num_classes: int = 1000
    global_pool: str = "avg"
    relative_position: bool = True
    max_relative_position: int = 14
    absolute_position: bool = True
    norm_eps: float = 1e-5
    pre_norm: bool = False
    fc_norm: bool = False

    @property
    def grid_size(self) -> tuple[int, int]:
        """Patches per column and per row."""
        return self.img_size[0] // self.patch_size, self.img_size[1] // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches of an image; the sequence is one longer, by the class token."""
        return self.grid_size[0] * self.grid_size[1]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON and YAML; norms are left out where they are as published."""
        entries = self.values().items()
        return {key: value for key, value in entries if key not in NORMS or value != NORMS[key]}

    def values(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self) | {"img_size": list(self.img_size)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = "model") -> ModelConfig:
        """Read and check; keys that are left out have the published values.

        Raises:
            ConfigError: an unknown key, a value of a wrong kind, an image that patches do not tile.
        """
        known = {entry.name for entry in fields(cls)}
        values = dict(content)
        if unknown := [str(key) for key in values if key not in known]:
            raise ConfigError(f"{source}: unknown key '{unknown[0]}'; known are {', '.join(sorted(known))}.")
        size = values.get("img_size", 224)
        sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
        if len(sides) != 2:
            raise ConfigError(
                f"{source}: img_size is {shown(repr(size))}; it should be one side or [height, width]."
            )
        values["img_size"] = sides
        for key in ("img_size", "patch_size", "in_chans", "num_classes", "max_relative_position"):
            numbers = values.get(key, 1) if key == "img_size" else [values.get(key, 1)]
            if not all(is_integer(number) and number >= 1 for number in numbers):
                raise ConfigError(
                    f"{source}: {key} is {shown(repr(content[key]))}; it should be a whole number above 0."
                )
            if key in values:
                values[key] = tuple(map(int, numbers)) if key == "img_size" else int(values[key])
        for key in ("relative_position", "absolute_position", "pre_norm", "fc_norm"):
            if not isinstance(values.get(key, True), bool):
                raise ConfigError(
                    f"{source}: {key} is {shown(repr(values[key]))}; it should be true or false."
                )
        if values.get("global_pool", "avg") not in POOLS:
            raise ConfigError(
                f"{source}: global_pool is {shown(repr(values['global_pool']))}; it should be one of "
                f"{', '.join(POOLS)}."
            )
        eps = values.get("norm_eps", cls.norm_eps)
        if not (is_number(eps) and 0 < eps < 1):
            raise ConfigError(
                f"{source}: norm_eps is {shown(repr(eps))}; it should be a number above 0, below 1."
            )
        if values.get("fc_norm") and values.get("global_pool", cls.global_pool) != "avg":
            raise ConfigError(
                f"{source}: fc_norm is for global_pool avg; with the class token the norm before the pooling "
                "does the same."
            )
        model = cls(**values)
        if any(side % model.patch_size for side in model.img_size):
            raise ConfigError(
                f"{source}: patch_size {model.patch_size} does not divide img_size {list(model.img_size)}."
            )
        return model


NORMS: dict[str, Any] = {
    entry.name: entry.default for entry in fields(ModelConfig) if entry.name.endswith(("norm", "norm_eps"))
}
"""The fields about norms, which the published networks do without, and their defaults."""

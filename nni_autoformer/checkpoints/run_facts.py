"""What a checkpoint's header says of the run that its weights come from, as typed fields."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..architecture import is_integer, is_number
from ..errors import ConfigError

INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "box", "hamming", "lanczos")
"""How evaluated images may be resized; timm's names."""


@dataclass(frozen=True)
class HeldOut:
    """The selection set that a training held out.

    Attributes:
        file: name of the list of its images, which lies beside the checkpoint.
        digest: digest of the list's lines, see `files.digest`.
        images: number of images in the list.
    """

    file: str
    digest: str
    images: int | None = None

    @classmethod
    def from_dict(cls, content: Any, source: str) -> HeldOut:
        """Read the form that `to_dict` writes.

        Args:
            content: the value in the file.
            source: file and key that error messages name.

        Raises:
            ConfigError: a value is missing or of another kind, or the file is no plain name: a header must
                not lead to other places than the checkpoint's folder.
        """
        if not isinstance(content, Mapping):
            raise ConfigError(f"{source} is {quoted(content)}; it should hold file, digest and images.")
        name, digest, images = (content.get(key) for key in ("file", "digest", "images"))
        if not isinstance(name, str) or name in ("", ".", "..") or any(c in name for c in "/\\\0"):
            raise ConfigError(
                f"{source}.file is {quoted(name)}; it should be the name of a file beside the checkpoint."
            )
        if not isinstance(digest, str):
            raise ConfigError(f"{source}.digest is {quoted(digest)}; it should be text.")
        if images is not None and not _is_count(images):
            raise ConfigError(f"{source}.images is {quoted(images)}; it should be a whole number, 0 or more.")
        return cls(name, digest, images)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class RunFacts(Mapping):
    """What a stranger should know of a run; also the JSON mapping that stands in the file, so that it is
    written as it was read, with keys that this version does not know.

    None means that the file does not say.

    Attributes:
        dataset: name of the data set.
        classes: names of the classes, in the order of the logits.
        mean, std: normalisation of the images, per channel, of pixels scaled to 0..1.
        crop_pct: share of the resized image's short side that the centre crop covers.
        interpolation: how evaluated images are resized.
        recipe: recipe of the training, as plain values.
        training_images: number of images that were trained on.
        selection: images that were held out for a search.
        inherited: checkpoint that the weights were taken from, and what was changed to fit.
        supernet_depth: number of layers over which the stochastic depth rose.
        epoch: epoch after which the weights were saved, from 1.
        metrics: last value of each of the training's metrics.
        more: entries that this version does not know.
        nulls: known keys that the file holds with the value null.
    """

    dataset: str | None = None
    classes: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    recipe: Mapping[str, Any] | None = None
    training_images: int | None = None
    selection: HeldOut | None = None
    inherited: Mapping[str, Any] | None = None
    supernet_depth: int | None = None
    epoch: int | None = None
    metrics: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    nulls: frozenset[str] = frozenset()

    @classmethod
    def from_dict(cls, content: Any, source: str = "run") -> RunFacts:
        """Read the form that `to_dict` writes.

        Args:
            content: the value in the file.
            source: file and key that error messages name.

        Raises:
            ConfigError: a value is of another kind or out of its range.
        """
        if not isinstance(content, Mapping):
            raise ConfigError(f"{source} is {quoted(content)}; it should hold keys with values.")
        known = {key: value for key, value in content.items() if key in KEYS and value is not None}
        for key, (fits, words) in _CHECKS.items():
            if key in known and not fits(known[key]):
                raise ConfigError(f"{source}.{key} is {quoted(known[key])}; it should be {words}.")
        for key in ("classes", "mean", "std"):
            if key in known:
                known[key] = tuple(known[key])
        if "selection" in known:
            known["selection"] = HeldOut.from_dict(known["selection"], f"{source}.selection")
        return cls(
            **known,
            more={key: value for key, value in content.items() if key not in KEYS},
            nulls=frozenset(key for key in KEYS if key in content and content[key] is None),
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; what is not known is left out."""
        content: dict[str, Any] = {}
        for key in KEYS:
            value = getattr(self, key)
            if isinstance(value, HeldOut):
                value = value.to_dict()
            if value is not None or key in self.nulls:
                content[key] = list(value) if isinstance(value, tuple) else value
        return content | dict(self.more)

    @property
    def seed(self) -> int:
        """Random seed of the run; 0 where the recipe is not known."""
        return (self.recipe or {}).get("seed", 0)

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())


KEYS = tuple(entry.name for entry in fields(RunFacts) if entry.name not in ("more", "nulls"))
"""The keys that this version knows, in the order in which they are written."""


def quoted(value: Any) -> str:
    """A value of a file as JSON has it, for an error message; cut where it is long."""
    return reprlib.repr(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and len(value) > 0 and all(map(fits, value))


def _is_recipe(value: Any) -> bool:
    return isinstance(value, Mapping) and is_integer(value.get("seed", 0))


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset": (_is_text, "text"),
    "classes": (_all(_is_text), "a list of names"),
    "mean": (_all(is_number), "a list of numbers, one per channel"),
    "std": (_all(lambda value: is_number(value) and value > 0), "a list of numbers above 0, one per channel"),
    "crop_pct": (lambda value: is_number(value) and 0 < value <= 1, "a number above 0, up to 1"),
    "interpolation": (lambda value: value in INTERPOLATIONS, f"one of {', '.join(INTERPOLATIONS)}"),
    "recipe": (_is_recipe, "a recipe's keys with values, its seed a whole number"),
    "training_images": (_is_count, "a whole number, 0 or more"),
    "inherited": (_is_mapping, "keys with values"),
    "supernet_depth": (lambda value: _is_count(value) and value > 0, "a whole number above 0"),
    "epoch": (_is_count, "a whole number, 0 or more"),
    "metrics": (_is_mapping, "names with numbers"),
}

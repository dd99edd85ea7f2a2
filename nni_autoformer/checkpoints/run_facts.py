"""What a checkpoint's header says of the run that its weights come from, as typed fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


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
    def from_dict(cls, content: Mapping[str, Any]) -> RunFacts:
        """Read the form that `to_dict` writes.

        Raises:
            KeyError, TypeError: a value is of another kind.
        """
        known = {key: value for key, value in content.items() if key in KEYS and value is not None}
        for key in ("classes", "mean", "std"):
            if key in known:
                known[key] = tuple(known[key])
        if "selection" in known:
            held_out = known["selection"]
            known["selection"] = HeldOut(held_out["file"], held_out["digest"], held_out.get("images"))
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

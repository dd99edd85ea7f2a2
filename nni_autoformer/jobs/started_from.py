"""What a user asks for with ``train --from``: which network a supernet starts from, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..files import real_path
from ..space import SearchSpace

if TYPE_CHECKING:
    from ..checkpoints.pretrained import Source
    from ..data import DataSplits
    from ..training.starting import Start

IMPORTANCE_IMAGES = 256
"""Training images that importance is measured on."""

METHODS = ("taylor", "magnitude", "none")
"""Those of `training.importance`, which loads torch."""


@dataclass(frozen=True)
class Asked:
    """The words of the user, see `train`.

    Raises:
        ConfigError: an option of a network that is started from, without one; an unknown method; no images.
    """

    word: str | Path | None
    importance: str | None
    images: int
    use_ema: bool

    def __post_init__(self) -> None:
        if self.word is None:
            for flag, given in (
                ("importance", self.importance is not None),
                ("importance-images", self.images != IMPORTANCE_IMAGES),
                ("use-ema", self.use_ema),
            ):
                if given:
                    raise ConfigError(f"--{flag} is about the network of --from; give that too.")
        if self.importance not in (None, *METHODS):
            raise ConfigError(f"--importance {self.importance}: it should be one of {', '.join(METHODS)}.")
        if self.images < 1:
            raise ConfigError(f"--importance-images is {self.images}; it should be 1 or more.")

    def opened(self, space: SearchSpace | str | Path | None) -> tuple[Source | None, SearchSpace]:
        """The network, if there is one, and the search space, fitted to it.

        Raises:
            ConfigError: the space is missing or has other sizes than the network, or the network cannot be
                used.
        """
        loaded = None if space is None else SearchSpace.load(space)
        if self.word is None:
            if loaded is None:
                raise ConfigError("--space is missing: the name of a packaged search space, or a YAML file.")
            return None, loaded
        from ..checkpoints.pretrained import open_source
        from ..training.starting import fitted_space, method_for

        source = open_source(str(self.word), loaded, use_ema=self.use_ema)
        loaded = loaded or source.space
        if loaded is None:
            raise ConfigError(
                f"--space is missing: the search space whose largest subnet {self.word} is; nni-autoformer "
                f"space --from {self.word} --output FILE writes one."
            )
        method_for(source, self.importance)
        return source, fitted_space(source, loaded)

    def start(self, source: Source, space: SearchSpace, splits: DataSplits, seed: int) -> Start:
        """What the supernet starts from.

        Args:
            source: the network.
            space: search space, fitted to it.
            splits: the data, which decides the head.
            seed: random seed of the run.
        """
        from ..training.starting import Start, method_for

        classes = splits.train.classes
        space = space.with_model(num_classes=len(classes))
        return Start(source, space, classes, seed, method_for(source, self.importance), self.images)

    def config(self, start: Start | None) -> dict[str, Any]:
        """What decides the result, for the run's folder; nothing without a network."""
        if start is None:
            return {}
        place, word = start.source.place, str(self.word)
        named = word if place is None else word.replace(str(place), str(real_path(place)))
        choice = {"use_ema": True} if self.use_ema else {}
        return {"from": named, "importance": start.method, "importance_images": start.images, **choice}


def space_from(
    word: str | Path, img_size: int | Sequence[int] | None = None, relative_position: bool = False
) -> SearchSpace:
    """A search space whose largest subnet is a trained network, with smaller choices beside its sizes.

    Args:
        word: a name of timm's, or a network as for `train`.
        img_size: side, or height and width, of the images; None for the network's.
        relative_position: give the subnets a relative position where the network has none.

    Raises:
        ConfigError: the network cannot be used, or images of the size are no whole patches.
    """
    from ..checkpoints.pretrained import open_source
    from .train_subnet import img_size_of

    source = open_source(str(word), weights=False)
    model = source.subnet.model
    size = img_size_of(img_size, None, model)
    model = replace(model, img_size=size, relative_position=relative_position or model.relative_position)
    if relative_position and not source.subnet.model.relative_position:
        model = replace(model, max_relative_position=max(model.grid_size))
    name = Path(str(word).partition("=")[0].removeprefix("timm:").removeprefix("local-dir:")).stem
    return SearchSpace.around(source.subnet.architecture, model, name)

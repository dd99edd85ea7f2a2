"""A supernet that starts from a trained network: its largest subnet computes what that network computes, and
what matters least stands last, so that smaller subnets lack it first.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..checkpoints.resize import resized, stretched_maximum
from ..checkpoints.timm_vit import DOUBLE, SINGLE, random_images, scaled_difference
from ..data import ImageSource, decode
from ..data.pixels import normalise
from ..errors import ConfigError
from ..files import write_json
from ..model import build_supernet
from ..model_config import NORMS, ModelConfig
from ..nn.growing import grown, with_own_biases, with_relative_position
from ..nn.reorder import reordered
from ..nn.subnet import Subnet
from ..randomness import derive, generator
from ..space import SearchSpace
from .importance import NONE, TAYLOR, Importance, measure
from .initial_weights import fitted_head, keeps_head, told_size
from .teacher import Teacher

if TYPE_CHECKING:
    from ..checkpoints.pretrained import Source

_logger = logging.getLogger("nni_autoformer")

REPORT_FILE = "importance.json"
"""In the run's folder: the scores of heads, hidden neurons and channels, and the order that follows."""

BATCH = 32


def fitted_space(source: Source, space: SearchSpace) -> SearchSpace:
    """The space with what the network decides: norms, pooling and absolute position; checked against its
    sizes.

    Args:
        source: the network.
        space: search space that the user gave.

    Raises:
        ConfigError: the space's largest subnet has other sizes than the network, or another patch.
    """
    subnet, model, largest = source.subnet, space.model, space.largest
    hidden = largest.hidden_features[0]
    mine = {"embed_dim": largest.embed_dim, "depth": largest.depth, "num_heads": largest.num_heads[0]}
    mine |= {"hidden features": hidden, "patch_size": model.patch_size, "in_chans": model.in_chans}
    found, sizes = subnet.model, subnet.architecture
    theirs = {"embed_dim": sizes.embed_dim, "depth": sizes.depth, "num_heads": max(sizes.num_heads)}
    theirs |= {"hidden features": max(sizes.hidden_features)}
    theirs |= {"patch_size": found.patch_size, "in_chans": found.in_chans}
    if differ := [key for key in mine if mine[key] != theirs[key]]:
        told = "; ".join(f"{key} is {mine[key]} here and {theirs[key]} there" for key in differ)
        raise ConfigError(
            f"--from {source.word}: the largest subnet of the space '{space.name}' should have the sizes of "
            f"the network, and {told} (here: --space, there: the network). nni-autoformer space --from "
            f"{source.word} gives a space that fits."
        )
    if found.relative_position and not model.relative_position:
        raise ConfigError(
            f"--from {source.word}: the network has a relative position and the space '{space.name}' none "
            "(model.relative_position is false), so its largest subnet could not compute the same."
        )
    decided = {key: getattr(found, key) for key in ("global_pool", "absolute_position", *NORMS)}
    if found.relative_position:
        decided["max_relative_position"] = _resized_model(found, model.img_size).max_relative_position
    if other := {key: value for key, value in decided.items() if getattr(model, key) != value}:
        words = ", ".join(f"{key} {value} in place of {getattr(model, key)}" for key, value in other.items())
        _logger.warning(f"--from {source.word}: taken from the network, and not from --space: {words}.")
    return space.with_model(**decided)


def _resized_model(model: ModelConfig, img_size: tuple[int, int]) -> ModelConfig:
    after = replace(model, img_size=img_size)
    if after.grid_size == model.grid_size or not model.relative_position:
        return after
    longest = stretched_maximum(model.max_relative_position, model.grid_size, after.grid_size)
    return replace(after, max_relative_position=longest)


def method_for(source: Source, importance: str | None) -> str:
    """How importance is measured, where the user has not said it.

    Raises:
        ConfigError: it was said of a supernet, whose order its subnets have been trained in.
    """
    if source.space is None:
        return importance or TAYLOR
    if importance not in (None, NONE):
        raise ConfigError(
            f"--importance {importance}: {source.word} is a supernet, whose subnets were trained in the "
            "order that it has; leave --importance out."
        )
    return NONE


@dataclass(frozen=True)
class Start:
    """What a supernet starts from, checked.

    Attributes:
        source: the network.
        space: search space, its network fitted by `fitted_space`, with the data's number of classes.
        classes: names of the data's classes.
        seed: random seed of what is new: a head, more heads and neurons, the images to measure on.
        method: how importance is measured, one of `importance.IMPORTANCE`.
        images: on how many training images.
    """

    source: Source
    space: SearchSpace
    classes: Sequence[str]
    seed: int
    method: str
    images: int

    @property
    def keeps_head(self) -> bool:
        """Whether the network's logits are those of the data's classes."""
        source = self.source
        if source.headless:
            return False
        return keeps_head(source.run.classes, source.subnet.model.num_classes, self.classes)

    @property
    def facts(self) -> dict[str, Any]:
        """What the header of the weights says of it."""
        model = self.source.subnet.model
        return {
            "from": self.source.word,
            "kind": self.source.told,
            "importance": self.method,
            "img_size": list(model.img_size),
            "num_classes": 0 if self.source.headless else model.num_classes,
        }

    def teacher(self, mean: Sequence[float], std: Sequence[float]) -> Teacher | None:
        """The network as a teacher; None where its classes are others than the data's.

        Args:
            mean, std: normalisation of the images, which is the network's own.
        """
        if not self.keeps_head:
            return None
        network = self._with_head(self.source.subnet)[0].float()
        size = network.model.img_size
        return Teacher(network, mean, std, mean, std, None if size == self.space.model.img_size else size)

    def network(
        self,
        training: ImageSource,
        transform: Any,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
    ) -> tuple[Subnet, Importance, list[str]]:
        """The space's largest subnet with the network's weights, in the order of importance; what was
        measured; and what was done, in sentences. The supernet around it is checked against the network.

        Args:
            training: training images.
            transform: transform of evaluated images.
            mean, std: their normalisation.
            device: where to measure.

        Raises:
            ConfigError: the supernet's largest subnet would compute something else.
        """
        reference, notes = self._fitted()
        largest = self._as_largest(reference)
        single = copy.deepcopy(largest).float()
        batches = self._batches(training, transform, mean, std)
        importance = measure(single, batches, self.method, self.seed, device)
        tensors = reordered(largest.state_dict(), importance.order)
        subnet = Subnet.from_tensors(largest.architecture, largest.model, tensors).eval()
        found = self._require_same(subnet, reference)
        notes.append(
            "The supernet's largest subnet computes what the network computes: logits differ by up to "
            f"{found[0]:.1e} in float32 (allowed are {SINGLE:g}) and {found[1]:.1e} in float64 ({DOUBLE:g})."
        )
        return subnet.float(), importance, [self._told_order(importance), *notes]

    def _fitted(self) -> tuple[Subnet, list[str]]:
        """The network at the space's image size with the data's classes, in float64."""
        before = self.source.subnet
        tensors, model = resized(before.state_dict(), before.model, self.space.model.img_size)
        same = Subnet.from_tensors(before.architecture, model, tensors)
        fitted, told = self._with_head(same)
        return fitted, [*told_size(before.model, model), told]

    def _with_head(self, network: Subnet) -> tuple[Subnet, str]:
        trained = () if self.source.headless else self.source.run.classes
        (weight, bias), told = fitted_head(network.head, trained, self.classes, self.seed)
        if self.source.headless:
            told = f"The head is new: the network has none, the data has {len(self.classes)} classes."
        tensors = {**network.state_dict(), "head.weight": weight.double(), "head.bias": bias.double()}
        model = replace(network.model, num_classes=len(self.classes))
        return Subnet.from_tensors(network.architecture, model, tensors).eval(), told

    def _as_largest(self, network: Subnet) -> Subnet:
        """The space's largest subnet, which computes what a network computes."""
        largest, model, depth = self.space.largest, self.space.model, network.architecture.depth
        tensors = network.state_dict()
        if self.source.space is None:
            tensors = with_own_biases(tensors, depth)
        if model.relative_position and not network.model.relative_position:
            tensors = with_relative_position(tensors, depth, model.max_relative_position)
        tensors = grown(tensors, largest, derive(self.seed, "growth"))
        return Subnet.from_tensors(largest, model, tensors).eval()

    def _batches(
        self, training: ImageSource, transform: Any, mean: Sequence[float], std: Sequence[float]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Seeded training images, with labels where the network's logits are those of the classes."""
        if self.method != TAYLOR:
            return
        rng = generator(self.seed, "importance")
        chosen = sorted(rng.sample(range(len(training)), min(self.images, len(training))))
        decoded = decode(training.subset(chosen), transform)
        for images, targets in zip(decoded.images.split(BATCH), decoded.targets.split(BATCH)):
            yield normalise(images, mean, std), targets if self.keeps_head else None

    @torch.no_grad()
    def _require_same(self, subnet: Subnet, reference: Subnet) -> tuple[float, float]:
        supernet = build_supernet(self.space).eval()
        opened = self.source.differences or (0.0, 0.0)
        found = []
        for dtype, most, already in ((torch.float32, SINGLE, opened[0]), (torch.float64, DOUBLE, opened[1])):
            supernet.to(dtype).implant(copy.deepcopy(subnet).to(dtype))
            supernet.set_architecture(subnet.architecture)
            images = random_images(self.space.model, dtype)
            theirs = copy.deepcopy(reference).to(dtype)(images)
            difference = already + scaled_difference(supernet(images), theirs)
            if not difference <= most:
                raise ConfigError(
                    f"--from {self.source.word}: the supernet's largest subnet gives logits that differ by "
                    f"{difference:.2g} from the network's in {str(dtype).removeprefix('torch.')}; at most "
                    f"{most:g} is allowed, so nothing was trained."
                )
            found.append(difference)
        return found[0], found[1]

    def _told_order(self, importance: Importance) -> str:
        if importance.method == NONE:
            return "Heads, hidden neurons and embedding channels keep their order."
        on = f", measured on {importance.images} training images" if importance.images else ""
        seen = "" if self.keeps_head or not importance.images else " by the features, because the head is new"
        return (
            f"Heads, hidden neurons and embedding channels are in the order of importance "
            f"({importance.method}{on}{seen}); the scores are in {REPORT_FILE}."
        )


def write_report(importance: Importance, folder: Path) -> None:
    """Write what was measured, and the order that follows, into a run's folder atomically."""
    write_json(folder / REPORT_FILE, importance.to_dict())

"""What the training of a single network starts from: fresh weights, or those of a checkpoint made to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..architecture import Architecture
from ..checkpoints import Checkpoint
from ..checkpoints.resize import resized
from ..nn.layers import Head
from ..nn.subnet import Subnet
from ..randomness import derive
from ..space import ModelConfig, SearchSpace
from .recipe import Recipe


def fresh_subnet(architecture: Architecture, space: SearchSpace, recipe: Recipe) -> Subnet:
    """A subnet with initial weights as published, which the recipe's seed alone decides.

    Args:
        architecture: sizes of the subnet.
        space: gives the network around them, and the depth over which stochastic depth rises.
        recipe: gives the random seed and the stochastic depth.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(recipe.seed, "weights"))
        return Subnet(architecture, space.model, recipe.drop_path, space.max_depth)


def inherited_subnet(
    checkpoint: Checkpoint,
    architecture: Architecture,
    img_size: tuple[int, int],
    classes: Sequence[str],
    recipe: Recipe,
    supernet_depth: int,
    way: str = "interpolate",
) -> tuple[Subnet, list[str]]:
    """A subnet with the weights of a checkpoint, made to fit an image size and classes; and what was done, in
    sentences.

    Args:
        checkpoint: a supernet or a subnet.
        architecture: which subnet.
        img_size: height and width, in whole patches.
        classes: names of the data's classes.
        recipe: gives the random seed of a new head, and the stochastic depth.
        supernet_depth: number of layers over which the stochastic depth rises.
        way: what becomes of the relative tables at another size, see `resize.WAYS`.

    Raises:
        ConfigError: the checkpoint cannot be used.
    """
    source = checkpoint.subnet(architecture)
    before = source.model
    tensors, model = resized(source.state_dict(), before, img_size, way)
    notes = told_size(before, model)
    head, told = fitted_head(source.head, checkpoint.header.run.classes, classes, recipe.seed)
    tensors |= {"head.weight": head[0], "head.bias": head[1]}
    subnet = Subnet.from_tensors(architecture, replace(model, num_classes=len(classes)), tensors)
    subnet.set_drop_path(recipe.drop_path, supernet_depth)
    return subnet.train(), [*notes, told]


def fitted_head(
    head: torch.nn.Linear, trained: Sequence[str] | None, classes: Sequence[str], seed: int
) -> tuple[tuple[Tensor, Tensor], str]:
    """Weight and bias of a head for the data's classes, and in a sentence where they come from.

    Args:
        head: head of the checkpoint.
        trained: names of the checkpoint's classes; None where it does not know them, and then their number
            decides.
        classes: names of the data's classes.
        seed: random seed of a new head.
    """
    weight, bias, count = head.weight.detach(), head.bias.detach(), len(classes)
    if keeps_head(trained, head.out_features, classes) and trained is None:
        return (weight, bias), f"The head is kept: {count} classes, whose names the checkpoint does not know."
    if trained is not None and list(trained) == list(classes):
        return (weight, bias), f"The head is kept: the same {count} classes."
    if trained is not None and keeps_head(trained, head.out_features, classes):
        rows = [list(trained).index(name) for name in classes]
        told = f"The head's rows of the data's {count} classes are kept, by name (of {len(trained)})."
        return (weight[rows], bias[rows]), told
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "head"))
        new = Head(head.in_features, count)
    told = f"The head is new: the data has {count} classes, the checkpoint {head.out_features} other ones."
    return (new.weight.detach(), new.bias.detach()), told


def keeps_head(trained: Sequence[str] | None, outputs: int, classes: Sequence[str]) -> bool:
    """Whether the data's classes are among those that a head tells apart.

    Args:
        trained: names of the checkpoint's classes; None where it does not know them, and then their number
            decides.
        outputs: number of the head's logits.
        classes: names of the data's classes.
    """
    return outputs == len(classes) if trained is None else set(classes) <= set(trained)


def told_size(before: ModelConfig, after: ModelConfig) -> list[str]:
    """What was done for another image size, in a sentence; none for the same size."""
    if before.img_size == after.img_size:
        return []
    height, width = after.img_size
    parts = []
    if after.absolute_position:
        parts.append("the position embedding is resampled")
    if after.relative_position:
        low, high = before.max_relative_position, after.max_relative_position
        parts.append(
            f"the relative tables are {f'stretched from {low} to {high} offsets' if low != high else 'kept'}"
        )
    done = f": {', '.join(parts)}" if parts else ""
    return [f"Images are {height} x {width} in place of {before.img_size[0]} x {before.img_size[1]}{done}."]

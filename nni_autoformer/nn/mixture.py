"""Sizes that are weights over sizes: NNI's differentiable strategies (DARTS, GumbelDARTS) set these.

NNI defines the slice of such a size as the weighted sum of the slices, each padded with zeros to the whole.
So nothing is cut off: entry i is multiplied with the weight of all sizes that reach it.

    weights {1: 0.2, 3: 0.5, 4: 0.3}        slice of (a, b, c, d):  a  0.8 b  0.8 c  0.3 d
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class Mixture:
    """A size that is several sizes at once.

    Args:
        weights: of each size, numbers or tensors of no dimension, which get gradients.
    """

    def __init__(self, weights: Mapping[int, Tensor | float]) -> None:
        self.weights = dict(weights)

    def __rmul__(self, factor: int) -> Mixture:
        return Mixture({factor * size: weight for size, weight in self.weights.items()})

    def sum(self, part: Callable[[int], Tensor]) -> Tensor:
        """The weighted sum of what each size gives; all must have one shape."""
        first, *others = (weight * part(size) for size, weight in self.weights.items())
        return sum(others, start=first)

    def reach(self, like: Tensor, whole: int) -> Tensor:
        """The weight of the sizes that reach an entry, for each of so many entries, (whole,).

        Args:
            like: a tensor of the wanted type and device.
            whole: number of entries.
        """
        sizes = torch.tensor(list(self.weights), device=like.device)
        as_like: Any = {"dtype": like.dtype, "device": like.device}  # a number alone would become float32
        weights = torch.stack([torch.as_tensor(weight, **as_like) for weight in self.weights.values()])
        entries = torch.arange(whole, device=like.device)[:, None]
        return torch.where(entries < sizes, weights, 0).sum(dim=1)


Size = int | Mixture

AnySize = Size | Mapping[int, Tensor | float]
"""A size as NNI gives it: the weights of a mixture are a plain dictionary."""


def as_size(size: AnySize) -> Size:
    """A size as the slicing rules take it."""
    return Mixture(size) if isinstance(size, Mapping) else size


def mixed(tensor: Tensor, dimension: int, size: Size) -> Tensor:
    """The first entries of a tensor along one dimension.

    Args:
        tensor: the largest layer's.
        dimension: which dimension is cut.
        size: how many entries; a mixture keeps all and weighs them.
    """
    if not isinstance(size, Mixture):
        return tensor.narrow(dimension, 0, size)
    reach = size.reach(tensor, tensor.shape[dimension])
    return tensor * reach.view(-1, *[1] * (tensor.ndim - 1 - dimension % tensor.ndim))

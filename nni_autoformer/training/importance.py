"""What of a network matters most, so that it can stand first and is cut last (see `nn/reorder.py`).

'taylor' is the first-order estimate of Molchanov et al. 2019: every head, hidden neuron and embedding channel
gets a gate of value 1, and the squared derivative of an image's loss with respect to the gate says how much
the loss would change if it were closed. With a gate at the input of a linear map the derivative is the sum of
weight x gradient over the columns that read it. 'magnitude' takes the norm of the same weights and needs no
images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import HEAD_DIM
from ..errors import ConfigError
from ..nn.reorder import Order
from ..nn.subnet import Subnet
from ..randomness import derive

TAYLOR, MAGNITUDE, NONE = IMPORTANCE = ("taylor", "magnitude", "none")
"""The methods by name; 'none' leaves everything in its place."""

Batches = Iterable[tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Scores:
    """One number for everything that can change its place, in the network's own order; larger matters more.

    Attributes:
        embed_dim: (channels,).
        num_heads, hidden: per layer (heads,) and (neurons,).
    """

    embed_dim: Tensor
    num_heads: list[Tensor]
    hidden: list[Tensor]

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Every row of scores and what it is of, in words."""
        yield "embedding channels", self.embed_dim
        for layer, (heads, neurons) in enumerate(zip(self.num_heads, self.hidden)):
            yield f"heads of layer {layer}", heads
            yield f"hidden neurons of layer {layer}", neurons


@dataclass(frozen=True)
class Importance:
    """What was measured, and the order that follows from it.

    Attributes:
        order: most important first.
        embed_dim, num_heads, hidden: the scores in the network's own order, see `Scores`; empty where nothing
            was measured.
        method: one of `IMPORTANCE`.
        images: number of images that it was measured on.
    """

    order: Order
    embed_dim: list[float]
    num_heads: list[list[float]]
    hidden: list[list[float]]
    method: str
    images: int

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and lists, for JSON."""
        scores = {"embed_dim": self.embed_dim, "num_heads": self.num_heads, "hidden": self.hidden}
        return {
            "method": self.method,
            "images": self.images,
            "order": self.order.to_dict(),
            "scores": scores,
        }


def measure(
    network: Subnet,
    batches: Batches,
    method: str,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Importance:
    """Measure what of a network matters most; the network is left as it was.

    On a CPU the same arguments give the same order. What is equally important keeps its order, and heads and
    neurons that nothing reads, such as the padding of a grown network, come last.

    Args:
        network: the network, which is to be reordered.
        batches: normalised images (batch, in_chans, height, width) and labels (batch,), for 'taylor'. Without
            labels (None) the head is not asked: what counts is how much the pooled features change along a
            random direction per image, whose mean square is that of all directions.
        method: one of `IMPORTANCE`.
        seed: of the random directions.
        device: where to compute; None for where the network is.

    Raises:
        ConfigError: there is no such method, there are no images for it, or a score is not finite.
    """
    if method not in IMPORTANCE:
        raise ConfigError(f"--importance {method}: it should be one of {', '.join(IMPORTANCE)}.")
    if method == NONE:
        return Importance(Order.identity(network.architecture), [], [], [], method, 0)
    if method == MAGNITUDE:
        scores, images = magnitudes(network), 0
    else:
        scores, images = sensitivities(network, batches, seed, device)
    for name, values in scores.named():
        if not values.isfinite().all():
            raise ConfigError(
                f"--importance {method}: the scores of the {name} are not finite; the network's weights or "
                "its answers for the images hold NaN or infinity, so its file or the images are damaged."
            )
    return Importance(
        _order(network, scores),
        scores.embed_dim.tolist(),
        [values.tolist() for values in scores.num_heads],
        [values.tolist() for values in scores.hidden],
        method,
        images,
    )


def _order(network: Subnet, scores: Scores) -> Order:
    read = magnitudes(network)
    return Order(
        _descending(scores.embed_dim),
        tuple(_descending(*pair) for pair in zip(scores.num_heads, read.num_heads)),
        tuple(_descending(*pair) for pair in zip(scores.hidden, read.hidden)),
    )


def _descending(scores: Tensor, read: Tensor | None = None) -> tuple[int, ...]:
    """The places by score; behind all others those that nothing reads."""
    values = scores.double()
    if read is not None:
        values = torch.where(read == 0, -1.0, values)
    return tuple(values.sort(descending=True, stable=True).indices.tolist())


# The weights


@torch.no_grad()
def magnitudes(network: Subnet) -> Scores:
    """The norms of the weights that read a head or a neuron, and of those that write an embedding channel."""
    heads, hidden, written = [], [], [_rows(network.patch_embed.proj.weight)]
    for layer in range(network.architecture.depth):
        proj = network.get_parameter(f"blocks.{layer}.attn.proj.weight")
        fc2 = network.get_parameter(f"blocks.{layer}.mlp.fc2.weight")
        heads.append(proj.double().view(len(proj), -1, HEAD_DIM).norm(dim=(0, 2)))
        hidden.append(fc2.double().norm(dim=0))
        written += [_rows(proj), _rows(fc2)]
    return Scores(torch.stack(written).norm(dim=0), heads, hidden)


def _rows(weight: Tensor) -> Tensor:
    return weight.double().flatten(1).norm(dim=1)


# The gates


def sensitivities(
    network: Subnet, batches: Batches, seed: int = 0, device: torch.device | str | None = None
) -> tuple[Scores, int]:
    """The mean over the images of the squared derivatives with respect to the gates; and how many images.

    Raises:
        ConfigError: there are no images.
    """
    home = network.head.weight.device
    directions = np.random.default_rng(derive(seed, "importance"))
    sums: list[Tensor] = []
    images = 0
    with _evaluating(network), torch.enable_grad():
        network.to(device or home)
        try:
            for inputs, labels in batches:
                squares = _squared(network, inputs.to(device or home), labels, directions)
                sums = [a + b for a, b in zip(sums, squares)] if sums else squares
                images += len(inputs)
        finally:
            network.to(home)
    if not images:
        raise ConfigError("--importance taylor: there are no images to measure it on.")
    embed_dim, *layers = (values.cpu() / images for values in sums)
    return Scores(embed_dim, layers[::2], layers[1::2]), images


def _squared(
    network: Subnet, inputs: Tensor, labels: Tensor | None, directions: np.random.Generator
) -> list[Tensor]:
    """The squared derivatives of one batch, summed over its images: of the channels, then per layer of heads
    and neurons.
    """
    sizes = [network.architecture.embed_dim]
    for heads, hidden in zip(network.architecture.num_heads, network.architecture.hidden_features):
        sizes += [heads, hidden]
    gates = [inputs.new_ones(len(inputs), size, requires_grad=True) for size in sizes]
    with _gated(network, gates), _seen(network.head) as features:
        logits = network(inputs)
    if labels is None:
        (pooled,) = features
        direction = torch.from_numpy(directions.standard_normal(tuple(pooled.shape)))
        loss = (pooled * direction.to(pooled)).sum()
    else:
        loss = F.cross_entropy(logits, labels.to(logits.device), reduction="sum")
    return [slope.double().square().sum(dim=0) for slope in torch.autograd.grad(loss, gates)]


@contextmanager
def _gated(network: Subnet, gates: list[Tensor]) -> Iterator[None]:
    """Multiply what the norms, the projections and the MLPs' second maps read with gates.

    A channel has one gate before all norms, not behind them and not one each: a cut takes it from the norms'
    statistics too, and everywhere at once. On a ViT of CIFAR-10 the gates behind the norms order the channels
    as well, on one of the digits, not trained to its end, worse; the weights' norms do so worse on both.
    """

    def install(module: nn.Module, gate: Tensor) -> None:
        def gated(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = args[0]
            return (x * gate.view(len(gate), *[1] * (x.ndim - 2), -1), *args[1:])

        hooks.callback(module.register_forward_pre_hook(gated).remove)

    with ExitStack() as hooks:
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                install(module, gates[0])
        for layer, (heads, hidden) in enumerate(zip(gates[1::2], gates[2::2])):
            channels = heads.repeat_interleave(HEAD_DIM, dim=1)
            install(network.get_submodule(f"blocks.{layer}.attn.proj"), channels)
            install(network.get_submodule(f"blocks.{layer}.mlp.fc2"), hidden)
        yield


@contextmanager
def _seen(module: nn.Module) -> Iterator[list[Tensor]]:
    """What a module reads, call by call."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """In evaluation mode, and afterwards each module in its own."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

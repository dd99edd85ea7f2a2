"""What a subnet costs, in closed form: exact, and without building it.

A search asks this of every candidate that it draws, so it must cost microseconds and load no torch. `COSTS`
is the one table of costs: limits and their flags, candidates, metrics, tables and figures are made from it,
so that a further cost is a function and an entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .architecture import HEAD_DIM, Architecture
from .space import ModelConfig, SearchSpace


def params(architecture: Architecture, model: ModelConfig = ModelConfig()) -> int:
    """Parameters of the stand-alone subnet, relative-position tables and head included.

    With the published options this is ``768E + E + 197E + E + Σ[4E + 3·64h(E+1) + E(64h+1) + f(E+1) + E(f+1)
    + 4·30·64] + 2E + 1000(E+1)`` with f = int(E·ratio).
    """
    embed = architecture.embed_dim
    total = embed * (model.patch_size**2 * model.in_chans + 1)  # patch convolution
    total += embed  # class token
    total += embed * (model.num_patches + 1) if model.absolute_position else 0
    tables = 4 * (2 * model.max_relative_position + 2) * HEAD_DIM if model.relative_position else 0
    for heads, hidden in zip(architecture.num_heads, architecture.hidden_features):
        width = heads * HEAD_DIM
        attention = 3 * width * (embed + 1) + embed * (width + 1) + tables
        mlp = hidden * (embed + 1) + embed * (hidden + 1)
        total += 4 * embed + attention + mlp
    return total + 2 * embed + model.num_classes * (embed + 1)


def macs(architecture: Architecture, model: ModelConfig = ModelConfig()) -> int:
    """Multiply-accumulates of one image's forward pass, without those of the relative position.

    Counts what torch's FLOP counter counts, halved: the products of convolution, linear layers and attention;
    no biases, norms or activations. The three published subnets have 1.283, 4.774 and 11.045 G.
    """
    embed, tokens = architecture.embed_dim, model.num_patches + 1
    total = model.num_patches * embed * model.patch_size**2 * model.in_chans
    for heads, hidden in zip(architecture.num_heads, architecture.hidden_features):
        width = heads * HEAD_DIM
        total += 4 * tokens * embed * width + 2 * tokens**2 * width + 2 * tokens * embed * hidden
    return total + embed * model.num_classes


def relative_position_macs(architecture: Architecture, model: ModelConfig = ModelConfig()) -> int:
    """Multiply-accumulates of the relative position as the plain formula runs it: for every head, query and
    key one product of 64 channels with the keys' table and one with the values' (0 with relative position
    off).

    Added to `macs` it gives 1.482, 5.161 and 11.691 G for the published subnets. This package needs fewer,
    see `nn.relative_position`; the number is the one to compare with other implementations.
    """
    if not model.relative_position:
        return 0
    tokens = model.num_patches + 1
    return sum(2 * tokens**2 * HEAD_DIM * heads for heads in architecture.num_heads)


def official(architecture: Architecture, model: ModelConfig = ModelConfig()) -> float:
    """The complexity number of the published code, which papers' tables show: 1.344, 4.892 and 11.237 G for
    the published subnets. It counts the head for every patch and odd terms for the relative position; to
    compare with printed numbers, not to measure cost.
    """
    embed, patches = architecture.embed_dim, model.num_patches
    tokens, offsets = patches + 2, model.max_relative_position
    total: float = embed + patches * model.patch_size**2 * model.in_chans * embed
    total += (patches + 1) * embed / 2 + (patches + 1) * model.num_classes * embed
    for heads, hidden in zip(architecture.num_heads, architecture.hidden_features):
        width = heads * HEAD_DIM
        total += 2 * tokens * embed + 4 * tokens * width * embed + 2 * tokens**2 * width
        total += 2 * tokens * embed * hidden
        if model.relative_position:
            total += 2 * offsets * tokens**2 + tokens**2 / 2 + tokens * width / 2
    return total


@dataclass(frozen=True)
class Cost:
    """One respect in which a subnet costs something.

    Attributes:
        name: key in files and metrics, and end of the flags `--min-NAME` and `--max-NAME`.
        title: name for people.
        unit: unit of limits and axes, as its abbreviation.
        scale: how many counts are one unit.
        digits: least decimals that are shown of a value in the unit.
        help: description of a limit, behind 'fewest' or 'most'.
        value: count of a subnet within the network around it.
    """

    name: str
    title: str
    unit: str
    scale: int
    digits: int
    help: str
    value: Callable[[Architecture, ModelConfig], int]

    def range(self, space: SearchSpace) -> tuple[int, int]:
        """The least and the most that a subnet of the space costs."""
        return self.value(space.smallest, space.model), self.value(space.largest, space.model)

    def short(self, count: float) -> str:
        """A count with its name, for a line of text: '5.868 M parameters'."""
        return f"{self.told(count)} {self.title}"

    def told(self, count: float) -> str:
        """A count in the unit, rounded, but to three significant digits at least: '5.868 M', '0.0213 M'."""
        value = count / self.scale
        digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
        return f"{value:.{max(self.digits, digits)}f} {self.unit}"


COSTS = {
    cost.name: cost
    for cost in (
        Cost("params", "parameters", "M", 10**6, 3, "parameters, in millions", params),
        Cost(
            "macs",
            "MACs",
            "G",
            10**9,
            4,
            "multiply-accumulates of an image, in billions, without the relative position's",
            macs,
        ),
    )
}
"""Every cost by its name."""


def costs_of(architecture: Architecture, model: ModelConfig) -> dict[str, int]:
    """The counts of all costs of a subnet, by name."""
    return {name: cost.value(architecture, model) for name, cost in COSTS.items()}


def measured_costs(architecture: Architecture, model: ModelConfig) -> dict[str, float]:
    """All costs of a subnet in their units, by name and unit: 'params (M)', 'macs (G)'. What a trial of NNI
    reports of them.
    """
    return {
        f"{cost.name} ({cost.unit})": cost.value(architecture, model) / cost.scale for cost in COSTS.values()
    }


def told_costs(architecture: Architecture, model: ModelConfig) -> str:
    """All costs of a subnet as a text: '5.868 M parameters, 1.2830 G MACs'."""
    return ", ".join(cost.short(cost.value(architecture, model)) for cost in COSTS.values())


def cost_rows(architecture: Architecture, model: ModelConfig) -> list[tuple[str, str]]:
    """All costs of a subnet as rows of a table."""
    return [(cost.title, cost.told(cost.value(architecture, model))) for cost in COSTS.values()]

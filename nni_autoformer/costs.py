"""What a subnet costs: the one table that limits, their flags, candidates, metrics, tables and figures are
made from. A further cost is a function in a file of its own and an entry here.

A search asks for the costs of every candidate that it draws, so a value must cost microseconds and load no
torch. What loops over costs takes a mapping from names to costs, by default `COSTS`: the closed forms. One
that is measured on a device joins it with its table, ``{**COSTS, "latency": table.cost}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from .architecture import Architecture
from .complexity import macs, params
from .errors import ConfigError
from .memory import memory
from .space import ModelConfig, SearchSpace


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
        bounds: the least and the most that a subnet of a space costs; None for a cost that grows with every
            size, whose bounds are those of the smallest and the largest subnet.
    """

    name: str
    title: str
    unit: str
    scale: int
    digits: int
    help: str
    value: Callable[[Architecture, ModelConfig], float]
    bounds: Callable[[SearchSpace], tuple[float, float]] | None = None

    def range(self, space: SearchSpace) -> tuple[float, float]:
        """The least and the most that a subnet of the space costs."""
        if self.bounds is not None:
            return self.bounds(space)
        return self.value(space.smallest, space.model), self.value(space.largest, space.model)

    def short(self, count: float) -> str:
        """A count with its name, for a line of text: '5.868 M parameters'."""
        return f"{self.told(count)} {self.title}"

    def told(self, count: float) -> str:
        """A count in the unit, rounded, but to three significant digits at least: '5.868 M', '0.0213 M'."""
        value = count / self.scale
        digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
        return f"{value:.{max(self.digits, digits)}f} {self.unit}"


Costs = Mapping[str, Cost]
"""Costs by name, in the order of tables."""

COSTS: dict[str, Cost] = {
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
        Cost(
            "memory",
            "memory",
            "MB",
            10**6,
            2,
            "bytes of weights and largest activations, in millions, at --deploy-batch-size and "
            "--deploy-precision",
            memory,
        ),
    )
}
"""Every cost that has a closed form, by its name."""


def _unmeasured(architecture: Architecture, model: ModelConfig) -> NoReturn:
    raise ConfigError(NEEDS_TABLE.format("a latency"))


NEEDS_TABLE = (
    "{} needs a latency table of the device: nni-autoformer latency --space … --output latency.yaml makes "
    "one, then give --latency-table latency.yaml."
)

LATENCY = Cost(
    "latency", "latency", "ms", 1, 2, "milliseconds of a forward pass, by --latency-table", _unmeasured
)
"""The cost that a table has the values of, see `LatencyTable.cost`."""

KNOWN: dict[str, Cost] = {**COSTS, LATENCY.name: LATENCY}
"""All costs, also those whose values need a table: their units, titles and flags."""

COST_NAMES = tuple(KNOWN)


def costs_of(architecture: Architecture, model: ModelConfig, costs: Costs = COSTS) -> dict[str, float]:
    """The counts of all costs of a subnet, by name."""
    return {name: cost.value(architecture, model) for name, cost in costs.items()}


def measured_costs(architecture: Architecture, model: ModelConfig, costs: Costs = COSTS) -> dict[str, float]:
    """All costs of a subnet in their units, by name and unit: 'params (M)', 'macs (G)'. What a trial of NNI
    reports of them.
    """
    return {
        f"{name} ({cost.unit})": cost.value(architecture, model) / cost.scale for name, cost in costs.items()
    }


def told_costs(architecture: Architecture, model: ModelConfig, costs: Costs = COSTS) -> str:
    """All costs of a subnet as a text: '5.868 M parameters, 1.2830 G MACs'."""
    return ", ".join(cost.short(cost.value(architecture, model)) for cost in costs.values())


def cost_rows(architecture: Architecture, model: ModelConfig, costs: Costs = COSTS) -> list[tuple[str, str]]:
    """All costs of a subnet as rows of a table."""
    return [(cost.title, cost.told(cost.value(architecture, model))) for cost in costs.values()]

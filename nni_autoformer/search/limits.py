"""What a subnet may cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal

from ..architecture import Architecture
from ..costs import COSTS, KNOWN, NEEDS_TABLE, Cost, Costs
from ..errors import ConfigError
from ..space import ModelConfig, SearchSpace

Range = tuple[float | None, float | None]
"""The least and the most that is allowed, in the cost's unit; None is no limit."""

LIMITS = tuple(f"{side}_{name}" for name in KNOWN for side in ("min", "max"))
"""The names of all limits: `min_params`, `max_params`, …"""


class Limits(Mapping[str, Range]):
    """Inclusive limits on a subnet, as a mapping from costs to ranges.

    ``Limits(max_params=6, min_macs=0.5)["params"]`` is ``(None, 6)``. Parameters are in millions, MACs in
    billions of one image, as `complexity.macs` counts them: without those of the relative position; memory in
    megabytes, see `memory.memory`, and latency in milliseconds.

    Args:
        limits: limits by name, `min_COST` or `max_COST` for a cost in `costs.COST_NAMES`; None is no limit.

    Raises:
        ConfigError: there is no such limit, or a value is negative, NaN or infinite.
    """

    def __init__(self, **limits: float | None) -> None:
        for name, value in limits.items():
            if name not in LIMITS:
                raise ConfigError(f"'{name}' is no limit; known are {', '.join(LIMITS)}.")
            if value is not None and not (math.isfinite(value) and value >= 0):
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} is {value}; it should be a finite number, 0 or more.")
        self._ranges = {name: (limits.get(f"min_{name}"), limits.get(f"max_{name}")) for name in KNOWN}

    def __getitem__(self, cost: str) -> Range:
        return self._ranges[cost]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.to_dict().items() if value is not None)
        return f"Limits({given})"

    @property
    def given(self) -> dict[str, Range]:
        """The ranges of the costs that are limited."""
        return {name: between for name, between in self._ranges.items() if between != (None, None)}

    def allows(self, architecture: Architecture, model: ModelConfig, costs: Costs = COSTS) -> bool:
        """Whether a subnet is within the limits.

        Args:
            architecture: the subnet.
            model: the network around it.
            costs: where each limited cost has its values, see `require_feasible`.
        """
        for name, (low, high) in self._ranges.items():
            if low is None and high is None:
                continue
            cost = costs[name]
            count = _decimal(cost.value(architecture, model))
            if (low is not None and count < _exact(low, cost)) or (
                high is not None and count > _exact(high, cost)
            ):
                return False
        return True

    def require_feasible(self, space: SearchSpace, costs: Costs = COSTS) -> None:
        """Check the limits against what the subnets of a space cost.

        Args:
            space: search space.
            costs: where each limited cost has its values.

        Raises:
            ConfigError: a limited cost needs a table and has none, a lower limit is above its upper one, or
                no subnet of the space can meet a limit; the sentence gives the space's range.
        """
        for name, (low, high) in self.given.items():
            if name not in costs:
                raise ConfigError(NEEDS_TABLE.format(f"--{'min' if high is None else 'max'}-{name}"))
            cost = costs[name]
            if low is not None and high is not None and low > high:
                raise ConfigError(f"--min-{name} {low:g} is above --max-{name} {high:g}.")
            smallest, largest = map(_decimal, cost.range(space))
            spans = _spans(cost, space)
            if high is not None and _exact(high, cost) < smallest:
                raise ConfigError(f"--max-{name} {high:g}: no subnet meets this limit; {spans}.")
            if low is not None and _exact(low, cost) > largest:
                raise ConfigError(f"--min-{name} {low:g}: no subnet meets this limit; {spans}.")

    def idle(self, space: SearchSpace, costs: Costs = COSTS) -> list[str]:
        """A sentence for each limit that excludes no subnet of a space, as one in another unit does.

        Args:
            space: search space.
            costs: where each limited cost has its values, see `require_feasible`, which refuses those that
                are not there.
        """
        sentences = []
        for name, (low, high) in self.given.items():
            if name not in costs:
                continue
            cost = costs[name]
            smallest, largest = map(_decimal, cost.range(space))
            for side, limit, excludes in (
                ("min", low, low is not None and _exact(low, cost) > smallest),
                ("max", high, high is not None and _exact(high, cost) < largest),
            ):
                if limit is None or excludes:
                    continue
                sentences.append(
                    f"--{side}-{name} {limit:.15g} excludes no subnet: {_spans(cost, space)}. The limit is "
                    f"in {cost.unit}{f' ({cost.scale:,})' if cost.scale > 1 else ''}."
                )
        return sentences

    def to_dict(self) -> dict[str, float | None]:
        """As plain values by limit, for JSON."""
        return {f"{side}_{name}": value for name in self for side, value in zip(("min", "max"), self[name])}


def _spans(cost: Cost, space: SearchSpace) -> str:
    """What the subnets of a space cost, in words."""
    smallest, largest = (f"{count / cost.scale:.6g}" for count in cost.range(space))
    return f"the subnets of '{space.name}' have {smallest} to {largest} {cost.unit} {cost.title}"


def _exact(limit: float, cost: Cost) -> Decimal:
    # 5.867944 * 10**6 is a little below 5867944 in binary floating point; the user's decimal is meant
    return Decimal(str(limit)) * cost.scale


def _decimal(count: float) -> int | Decimal:
    """A count as it is written: a limit that was copied from a list of latencies allows its subnet."""
    return count if isinstance(count, int) else Decimal(repr(float(count)))

"""What a subnet may cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal

from ..architecture import Architecture
from ..complexity import COSTS, Cost
from ..errors import ConfigError
from ..space import ModelConfig, SearchSpace

Range = tuple[float | None, float | None]
"""The least and the most that is allowed, in the cost's unit; None is no limit."""

LIMITS = tuple(f"{side}_{name}" for name in COSTS for side in ("min", "max"))
"""The names of all limits: `min_params`, `max_params`, …"""


class Limits(Mapping[str, Range]):
    """Inclusive limits on a subnet, as a mapping from costs to ranges.

    ``Limits(max_params=6, min_macs=0.5)["params"]`` is ``(None, 6)``. Parameters are in millions, MACs in
    billions of one image, as `complexity.macs` counts them: without those of the relative position.

    Args:
        limits: limits by name, `min_COST` or `max_COST` for a cost in `complexity.COSTS`; None is no limit.

    Raises:
        ConfigError: there is no such limit, or a value is NaN or infinite.
    """

    def __init__(self, **limits: float | None) -> None:
        for name, value in limits.items():
            if name not in LIMITS:
                raise ConfigError(f"'{name}' is no limit; known are {', '.join(LIMITS)}.")
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"--{name.replace('_', '-')} is {value}; it should be a finite number.")
        self._ranges = {name: (limits.get(f"min_{name}"), limits.get(f"max_{name}")) for name in COSTS}

    def __getitem__(self, cost: str) -> Range:
        return self._ranges[cost]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.to_dict().items() if value is not None)
        return f"Limits({given})"

    def allows(self, architecture: Architecture, model: ModelConfig) -> bool:
        """Whether a subnet is within the limits."""
        for name, (low, high) in self._ranges.items():
            if low is None and high is None:
                continue
            cost = COSTS[name]
            count = cost.value(architecture, model)
            if (low is not None and count < _exact(low, cost)) or (
                high is not None and count > _exact(high, cost)
            ):
                return False
        return True

    def require_feasible(self, space: SearchSpace) -> None:
        """Check the limits against what the subnets of a space cost.

        Raises:
            ConfigError: a lower limit is above its upper one, or no subnet of the space can meet a limit; the
                sentence gives the space's range.
        """
        for name, (low, high) in self._ranges.items():
            cost = COSTS[name]
            if low is not None and high is not None and low > high:
                raise ConfigError(f"--min-{name} {low:g} is above --max-{name} {high:g}.")
            smallest, largest = cost.range(space)
            spans = _spans(cost, space)
            if high is not None and _exact(high, cost) < smallest:
                raise ConfigError(f"--max-{name} {high:g}: no subnet meets this limit; {spans}.")
            if low is not None and _exact(low, cost) > largest:
                raise ConfigError(f"--min-{name} {low:g}: no subnet meets this limit; {spans}.")

    def idle(self, space: SearchSpace) -> list[str]:
        """A sentence for each limit that excludes no subnet of a space, as one in another unit does."""
        sentences = []
        for name, (low, high) in self._ranges.items():
            cost = COSTS[name]
            smallest, largest = cost.range(space)
            for side, limit, excludes in (
                ("min", low, low is not None and _exact(low, cost) > smallest),
                ("max", high, high is not None and _exact(high, cost) < largest),
            ):
                if limit is None or excludes:
                    continue
                sentences.append(
                    f"--{side}-{name} {limit:.15g} excludes no subnet: {_spans(cost, space)}. The limit is "
                    f"in {cost.unit} ({cost.scale:,})."
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

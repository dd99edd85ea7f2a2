"""What a subnet may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import Decimal

from ..architecture import Architecture
from ..complexity import macs, macs_range, params, params_range
from ..errors import ConfigError
from ..space import ModelConfig, SearchSpace


@dataclass(frozen=True)
class Limits:
    """Inclusive limits on a subnet; None is no limit.

    Attributes:
        min_params, max_params: millions of parameters.
        min_macs, max_macs: billions of multiply-accumulates of one image, as `complexity.macs` counts them:
            without those of the relative position.
    """

    min_params: float | None = None
    max_params: float | None = None
    min_macs: float | None = None
    max_macs: float | None = None

    def allows(self, architecture: Architecture, model: ModelConfig) -> bool:
        """Whether a subnet is within the limits."""
        for low, high, count, unit in (
            (self.min_params, self.max_params, params, 10**6),
            (self.min_macs, self.max_macs, macs, 10**9),
        ):
            if low is None and high is None:
                continue
            cost = count(architecture, model)
            if (low is not None and cost < _exact(low, unit)) or (
                high is not None and cost > _exact(high, unit)
            ):
                return False
        return True

    def require_feasible(self, space: SearchSpace) -> None:
        """Check the limits against what the subnets of a space cost.

        Raises:
            ConfigError: a lower limit is above its upper one, or no subnet of the space can meet a limit; the
                sentence gives the space's range.
        """
        self._require("params", "M parameters", 10**6, space, params_range)
        self._require("macs", "G MACs", 10**9, space, macs_range)

    def _require(
        self,
        name: str,
        unit_name: str,
        unit: int,
        space: SearchSpace,
        range_of: Callable[[SearchSpace], tuple[int, int]],
    ) -> None:
        low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
        if low is not None and high is not None and low > high:
            raise ConfigError(f"--min-{name} {low:g} is above --max-{name} {high:g}.")
        smallest, largest = range_of(space)
        spans = (
            f"the subnets of '{space.name}' have {smallest / unit:.6g} to {largest / unit:.6g} {unit_name}"
        )
        if high is not None and _exact(high, unit) < smallest:
            raise ConfigError(f"--max-{name} {high:g}: no subnet meets this limit; {spans}.")
        if low is not None and _exact(low, unit) > largest:
            raise ConfigError(f"--min-{name} {low:g}: no subnet meets this limit; {spans}.")

    def to_dict(self) -> dict[str, float | None]:
        """As plain values, for JSON."""
        return asdict(self)


def _exact(limit: float, unit: int) -> Decimal:
    # 5.867944 * 10**6 is a little below 5867944 in binary floating point; the user's decimal is meant
    return Decimal(str(limit)) * unit

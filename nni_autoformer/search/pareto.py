"""The setting that lets a search trade accuracy against costs. It belongs to the command line's flags, which
should not wait for NumPy; what it does is in `trade`.
"""

from __future__ import annotations

from typing import Any

from ..config import Check, setting
from ..costs import COST_NAMES, NEEDS_TABLE, Costs
from ..errors import ConfigError

MOST = 3
"""Costs beside accuracy. In more dimensions nearly every candidate is on the front."""


def traded_costs(pareto: str | None) -> tuple[str, ...]:
    """The names in a value of the setting."""
    return tuple(pareto.split(",")) if pareto else ()


def _fits(pareto: str) -> bool:
    names = traded_costs(pareto)
    return len(names) == len(set(names)) <= MOST and set(names) <= set(COST_NAMES)


def pareto_setting(group: str) -> Any:
    """The setting of a search algorithm that can trade.

    Args:
        group: heading of the flag in the help.
    """
    return setting(
        None,
        f"look for the whole trade-off of accuracy and one to three costs ({', '.join(COST_NAMES)}; commas "
        "between them) instead of the most accurate subnet",
        Check(_fits, f"one to three of {', '.join(COST_NAMES)}, each once, with commas between them"),
        group,
        "COST[,COST]",
    )


def require_traded(pareto: str | None, costs: Costs) -> tuple[str, ...]:
    """The names in a value of the setting, whose values are known.

    Raises:
        ConfigError: there is no table of latencies.
    """
    names = traded_costs(pareto)
    if unknown := [name for name in names if name not in costs]:
        raise ConfigError(NEEDS_TABLE.format(f"--pareto {unknown[0]}"))
    return names

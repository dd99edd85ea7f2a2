"""Names of the accuracies among a training's metrics. They are in percent, and their names say so; files of
earlier versions have the names without it, and shares from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VALIDATED, AVERAGED = "val_acc_percent/", "val_acc_ema_percent/"
"""What stands in front of a subnet's name: its top-1 on the validation images, and that of the moving average
of its weights.
"""

_SHARES = {"val_acc/": VALIDATED, "val_acc_ema/": AVERAGED}


def in_percent(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics under the names of today; what is no accuracy is left as it is."""
    found: dict[str, Any] = {}
    for name, value in metrics.items():
        old, slash, network = name.partition("/")
        prefix = _SHARES.get(old + slash)
        found[name if prefix is None else prefix + network] = value if prefix is None else _percent(value)
    return found


def _percent(share: Any) -> Any:
    try:
        return 100 * float(share)
    except (TypeError, ValueError):  # an epoch without validation, or what somebody has written there
        return share


def accuracies(metrics: Mapping[str, Any] | None, prefix: str = VALIDATED) -> dict[str, float]:
    """Top-1 in percent by the name of the subnet.

    Args:
        metrics: all metrics, of this version or an earlier one.
        prefix: `VALIDATED`, or `AVERAGED` for the moving averages.
    """
    return {
        name.removeprefix(prefix): value
        for name, value in in_percent(metrics or {}).items()
        if name.startswith(prefix)
    }

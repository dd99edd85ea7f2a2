"""What a checkpoint is, as rows of a table for people."""

from __future__ import annotations

import json
import math

from ..architecture import KEYS
from ..costs import COSTS, cost_rows
from .header import Header
from .metrics import AVERAGED, VALIDATED, in_percent

LONGEST_VALUE = 200
"""Characters that are shown of a value; a list of 1,000 classes is cut."""

OWN_ACCURACIES = (
    (f"{VALIDATED}network", "top-1 of the network"),
    (f"{AVERAGED}network", "top-1 of the moving average"),
)
"""Metrics of the training of a single network; those of a supernet's training are about other subnets."""


def describe(header: Header) -> list[tuple[str, str]]:
    """Name and value of everything that a header says.

    Args:
        header: header of a checkpoint.
    """
    what = _supernet_rows(header) if header.of_supernet else _subnet_rows(header)
    return [
        ("kind", header.kind),
        *what,
        *((key, _short(json.dumps(value))) for key, value in header.run.items()),
        *((f"{package} version", version) for package, version in header.versions.items()),
    ]


def _supernet_rows(header: Header) -> list[tuple[str, str]]:
    space = header.space
    cost = COSTS["params"]
    low, high = cost.range(space)
    return [
        ("space", f"{space.name}, {_count(space.size)} subnets"),
        ("parameters", cost.told(low) if low == high else f"{cost.told(low)} to {cost.told(high)}"),
        *((key, str(list(getattr(space, key)))) for key in KEYS),
        ("model", json.dumps(space.model.to_dict())),
        *((name, str(architecture)) for name, architecture in space.architectures.items()),
    ]


def _subnet_rows(header: Header) -> list[tuple[str, str]]:
    architecture, model = header.subnet, header.space.model
    metrics = in_percent(header.run.metrics or {})
    return [
        ("space", "one subnet"),
        ("architecture", str(architecture)),
        *cost_rows(architecture, model),
        *(
            (title, f"{metrics[name]:.2f} % on the validation images of its training")
            for name, title in OWN_ACCURACIES
            if isinstance(metrics.get(name), (int, float))
        ),
        ("model", json.dumps(model.to_dict())),
    ]


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**24 else f"about 10^{math.log10(number):.0f}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}…"

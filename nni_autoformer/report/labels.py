"""Names beside the points of a figure: adjustText moves them off each other, off the points and the lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from adjustText import adjust_text
from matplotlib.transforms import Bbox

MARKER = 2.5
"""Half the width of an ordinary marker, in points of 1/72 inch."""

SPACING = 16.0
"""Between the places of a line that push names away: closer, they push names far off crowded points."""

EDGE = 3.0
"""Names stay so far within the axes."""

LEADER = {"arrowstyle": "-", "color": "0.55", "linewidth": 0.6, "zorder": 2.5}
"""A name that is not close to its point is joined to it by such a line."""

FORCES = {
    "force_text": (0.4, 0.6),
    "force_static": (0.2, 0.2),
    "force_pull": (0.005, 0.005),
    "force_explode": (0.05, 0.3),
    "expand": (1.1, 1.3),
    "max_move": 2,
    "pull_threshold": 5,
    "iter_lim": 300,  # and no limit in seconds, which would make a figure depend on the machine
}
"""Tuned on the figure of the published networks, by parameters and by MACs."""


@dataclass(frozen=True)
class Label:
    """A name and its point.

    Attributes:
        text: the name.
        x, y: of the point, in data coordinates.
        color: of the name.
        around: how much larger than an ordinary marker the point's is, in points of 1/72 inch.
    """

    text: str
    x: float
    y: float
    color: str = "0.2"
    around: float = 0.0


def place_labels(
    axes: Any,
    labels: Sequence[Label],
    points: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]],
    size: float,
) -> None:
    """Write names beside their points.

    Args:
        axes: matplotlib's; their limits are final.
        labels: what to write.
        points: all markers of the figure, in data coordinates.
        lines: all lines, each as its corners in data coordinates.
        size: font size.
    """
    if not labels:
        return
    figure = axes.figure
    figure.draw_without_rendering()  # settles the layout, which the places depend on
    unit, to_pixels, to_data = figure.dpi / 72, axes.transData, axes.transData.inverted()
    frame = axes.get_window_extent().padded(-EDGE * unit)
    lines = [*(to_pixels.transform(line) for line in lines), frame.corners()[[0, 1, 3, 2, 0]]]
    places = to_data.transform(np.concatenate([_along(line, SPACING * unit) for line in lines]))
    markers = [(*point, MARKER) for point in points]
    markers += [(label.x, label.y, MARKER + label.around) for label in labels]
    texts = [
        axes.text(
            label.x,
            label.y,
            label.text,
            fontsize=size,
            color=label.color,
            zorder=5,
            ha="center",
            va="center",
            in_layout=False,
        )
        for label in labels
    ]
    adjust_text(
        texts,
        *places.T,
        objects=[_square(to_pixels.transform((x, y)), half * unit, to_data) for x, y, half in markers],
        ax=axes,
        arrowprops=LEADER,
        min_arrow_len=8 * unit,
        **FORCES,
    )


def _along(corners: Any, step: float) -> Any:
    """Places (n, 2) on a line, not farther apart than `step`."""
    found = [np.empty((0, 2))]
    for start, end in pairwise(corners):
        shares = np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / step))
        found.append(start + shares[:, None] * (end - start))
    return np.concatenate(found)


def _square(centre: Any, half: float, to_data: Any) -> Bbox:
    return Bbox(to_data.transform([centre - half, centre + half]))

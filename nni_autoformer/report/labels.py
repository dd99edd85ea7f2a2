"""Names beside the points of a figure, so that they hide neither each other nor the points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

RADII = (5.0, 9.0, 15.0, 23.0, 33.0, 45.0, 60.0)
"""Distances between a point and its name that are tried, in points of 1/72 inch."""

ANGLES = tuple(range(0, 360, 15))
LEADER = 12.0
"""A name that is farther away is joined to its point by a line."""

PASSES = 4

SHARES = tuple(np.linspace(0.08, 0.92, 12))
"""Places on a leader that are looked at, so close together that no name fits between two."""


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

    Each name gets the place that costs least: overlap with other names, points and lines that it covers, the
    axes' edge that it crosses, and distance; a few passes let the earlier ones make room for the later.

    Args:
        axes: matplotlib's; their limits are final.
        labels: what to write.
        points: all markers of the figure, in data coordinates.
        lines: all lines, each as its corners in data coordinates.
        size: of the font.
    """
    if not labels:
        return
    figure = axes.figure
    figure.draw_without_rendering()  # settles the layout, which the places depend on
    renderer, unit = figure.canvas.get_renderer(), figure.dpi / 72
    frame = axes.get_window_extent(renderer)
    markers = axes.transData.transform(
        np.asarray([*points, *((label.x, label.y) for label in labels)], float)
    )
    anchors = axes.transData.transform([(label.x, label.y) for label in labels])
    extents = []
    for label in labels:
        text = axes.text(0, 0, label.text, fontsize=size)
        box = text.get_window_extent(renderer)
        extents.append((box.width + 2 * unit, box.height))
        text.remove()
    strokes = _strokes([axes.transData.transform(line) for line in lines], 4 * unit)
    places = [
        _candidates(anchor, label.around, *extent, unit)
        for label, anchor, extent in zip(labels, anchors, extents)
    ]
    fixed = [_fixed_costs(boxes, markers, strokes, frame, unit) for boxes, _ in places]
    chosen = [int(costs.argmin()) for costs in fixed]
    # the most crowded first, so that it has the choice
    crowded = sorted(range(len(labels)), key=lambda i: -_neighbours(anchors, i, 60 * unit))
    for _ in range(PASSES):
        for i in crowded:
            others = np.asarray([places[j][0][chosen[j]] for j in range(len(labels)) if j != i])
            leaders = [_leader(anchors[j], places[j][0][chosen[j]]) for j in range(len(labels)) if j != i]
            costs = (
                fixed[i]
                + _overlaps(places[i][0], others)
                + _crossings(places[i][0], anchors[i], others, leaders)
            )
            chosen[i] = int(costs.argmin())
    for label, (boxes, distances), choice in zip(labels, places, chosen):
        _write(axes, label, boxes[choice], distances[choice] > LEADER, size)


def _candidates(anchor: Any, around: float, width: float, height: float, unit: float) -> tuple[Any, Any]:
    """Boxes (places, 4) as left, bottom, right, top in pixels, and their distances in points."""
    boxes, distances = [], []
    for radius in RADII:
        for angle in ANGLES:
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            # the box touches the circle around the point with the side that faces it
            x = anchor[0] + (radius + around) * unit * dx + width * (dx - 1) / 2
            y = anchor[1] + (radius + around) * unit * dy + height * (dy - 1) / 2
            boxes.append((x, y, x + width, y + height))
            distances.append(radius)
    return np.asarray(boxes), np.asarray(distances)


def _strokes(lines: Sequence[Any], step: float) -> Any:
    """Points (n, 2) on lines, so close together that a name cannot lie between two."""
    found = [np.empty((0, 2))]
    for corners in lines:
        for start, end in pairwise(corners):
            shares = np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / step))
            found.append(start + shares[:, None] * (end - start))
    return np.concatenate(found)


def _covered(boxes: Any, points: Any, around: float) -> Any:
    """How many points lie in each box or close to it."""
    x, y = points[:, 0], points[:, 1]
    across = (x > boxes[:, None, 0] - around) & (x < boxes[:, None, 2] + around)
    along = (y > boxes[:, None, 1] - around) & (y < boxes[:, None, 3] + around)
    return (across & along).sum(axis=1)


def _fixed_costs(boxes: Any, markers: Any, strokes: Any, frame: Any, unit: float) -> Any:
    """What does not depend on other names: distance, the edge, and what would be covered."""
    around = 3 * unit
    outside = (
        (boxes[:, 0] < frame.x0 + around)
        | (boxes[:, 1] < frame.y0 + around)
        | (boxes[:, 2] > frame.x1 - around)
        | (boxes[:, 3] > frame.y1 - around)
    )
    distance = np.repeat(RADII, len(ANGLES))
    # to the right, and then above, is where a reader looks first
    angle = np.radians(np.tile(ANGLES, len(RADII)))
    costs = distance / 6 + 0.4 * (1 - np.cos(angle)) + 0.1 * (1 - np.sin(angle)) + 1e4 * outside
    return costs + 12.0 * _covered(boxes, markers, around) + 2.0 * _covered(boxes, strokes, 0.5 * unit)


def _overlaps(boxes: Any, others: Any) -> Any:
    if not len(others):
        return np.zeros(len(boxes))
    width = np.minimum(boxes[:, None, 2], others[:, 2]) - np.maximum(boxes[:, None, 0], others[:, 0])
    height = np.minimum(boxes[:, None, 3], others[:, 3]) - np.maximum(boxes[:, None, 1], others[:, 1])
    return 200.0 * ((width > 0) & (height > 0)).sum(axis=1)


def _leader(anchor: Any, box: Any) -> tuple[Any, Any]:
    """From the point to the nearest place of the box."""
    return anchor, np.clip(anchor, box[:2], box[2:])


def _crossings(boxes: Any, anchor: Any, others: Any, leaders: Sequence[tuple[Any, Any]]) -> Any:
    """How badly leaders and names are in each other's way: names on leaders, and leaders that cross."""
    costs = np.zeros(len(boxes))
    ends = np.clip(anchor, boxes[:, :2], boxes[:, 2:])
    for share in SHARES:
        points = anchor + share * (ends - anchor)
        for box in others:
            costs += 20.0 * _inside(box, points)
        for start, end in leaders:
            costs += 20.0 * _inside(boxes, start + share * (end - start))
    for start, end in leaders:
        costs += 20.0 * _cross(anchor, ends, start, end)
    return costs


def _inside(boxes: Any, points: Any) -> Any:
    x, y = points[..., 0], points[..., 1]
    return (boxes[..., 0] < x) & (x < boxes[..., 2]) & (boxes[..., 1] < y) & (y < boxes[..., 3])


def _cross(anchor: Any, ends: Any, start: Any, end: Any) -> Any:
    def side(a: Any, b: Any, c: Any) -> Any:
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
            c[..., 0] - a[..., 0]
        )

    return (side(anchor, ends, start) * side(anchor, ends, end) < 0) & (
        side(start, end, anchor) * side(start, end, ends) < 0
    )


def _neighbours(anchors: Any, i: int, radius: float) -> int:
    return int((np.hypot(*(anchors - anchors[i]).T) < radius).sum())


def _write(axes: Any, label: Label, box: Any, leader: bool, size: float) -> None:
    back = axes.transData.inverted()
    x, y = back.transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
    axes.text(x, y, label.text, fontsize=size, color=label.color, ha="center", va="center", zorder=5)
    if leader:
        anchor = axes.transData.transform((label.x, label.y))
        start, end = back.transform(np.asarray(_leader(anchor, box)))
        axes.plot(*zip(start, end), color="0.55", linewidth=0.6, zorder=2.5, scalex=False, scaley=False)

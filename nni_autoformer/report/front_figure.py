"""The figure of a front: accuracy against each cost that a search trades."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..search.searcher import Searcher
from ..search.trade import Member, front_of
from .figures import figure_file
from .results import pareto

FRONT_FIGURE = "front.png"

FRONT, ERROR, PALE, LIMIT = "#0072b2", "#99c7e0", "0.78", "#d55e00"

APART = (22.0, 12.0)
"""Width and height that a number needs, in points of 1/72 inch."""

NUMBER_SIZE = 8.0


def draw_front(searcher: Searcher, path: str | Path) -> None:
    """Accuracy on the selection images against each traded cost: the front with standard errors and numbers,
    all other candidates pale, and the limits.

    Args:
        searcher: a search that trades accuracy, with at least one answer.
        path: a `.png`, `.pdf` or `.svg` file, written by rename.
    """
    members, names = front_of(searcher), searcher.traded
    width = 7.0 if len(names) == 1 else 5.2 * len(names)
    with figure_file(path, (width, 4.8), len(names)) as (figure, axes):
        panels = [axes] if len(names) == 1 else list(axes)
        for panel, name in zip(panels, names):
            _draw_panel(panel, searcher, members, name)
        panels[0].set_ylabel("top-1 on the selection images (%)")
        count, told = f"{len(members):,}", f"{searcher.ledger.told:,}"
        figure.suptitle(
            f"{count} of {told} subnets of '{searcher.space.name}' are on the front", fontsize="large"
        )
        handles, texts = panels[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=4, frameon=False)
        figure.draw_without_rendering()  # settles the layout
        for panel, name in zip(panels, names):
            _name_members(panel, searcher, members, name)


def _draw_panel(axes: Any, searcher: Searcher, members: Sequence[Member], name: str) -> None:
    cost, model = searcher.costs[name], searcher.space.model
    chosen = {member.number for member in members}
    others = [
        (cost.value(candidate.architecture, model) / cost.scale, accuracy)
        for candidate, accuracy in searcher.ledger.ranking()
        if candidate.number not in chosen
    ]
    axes.scatter(*_columns(others), s=14, color=PALE, linewidth=0, label="dominated candidate")
    places = _places(searcher, members, name)
    # over several costs, members that this cost alone would not keep lie below the line
    line = pareto(places, lambda place: place[0], lambda place: place[1])
    axes.plot(*_columns(line), color=FRONT, linewidth=1.1, drawstyle="steps-post", alpha=0.6)
    axes.errorbar(
        *_columns(places),
        yerr=[member.error or 0.0 for member in members],
        fmt="o",
        markersize=4.5,
        color=FRONT,
        ecolor=ERROR,
        elinewidth=0.9,
        capsize=2,
        label="front, with standard errors",
    )
    for limit, word in zip(searcher.limits[name], ("min", "max")):
        if limit is not None:
            axes.axvline(limit, color=LIMIT, linestyle="--", linewidth=1)
            axes.annotate(
                f"{word} {limit:g} {cost.unit}",
                (limit, 0.01),
                xycoords=("data", "axes fraction"),
                xytext=(3 if word == "min" else -3, 2),
                textcoords="offset points",
                ha="left" if word == "min" else "right",
                color=LIMIT,
                fontsize=NUMBER_SIZE,
            )
    axes.set_xlabel(f"{cost.title} ({cost.unit})")
    axes.margins(x=0.09, y=0.08)


def _name_members(axes: Any, searcher: Searcher, members: Sequence[Member], name: str) -> None:
    """Write numbers above and to the left of the members, where none is as cheap and better; the figure's
    layout is final. Of members close together one has its number, the most accurate one in any case.
    """
    point = axes.figure.dpi / 72
    taken: list[tuple[float, float]] = []
    best_first = sorted(zip(members, _places(searcher, members, name)), key=lambda drawn: -drawn[0].accuracy)
    for member, place in best_first[:1] + best_first[:0:-1]:
        x, y = axes.transData.transform(place) / point
        if any(abs(x - left) < APART[0] and abs(y - low) < APART[1] for left, low in taken):
            continue
        taken.append((x, y))
        axes.annotate(
            str(member.number),
            place,
            xytext=(-3, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color=FRONT,
            fontsize=NUMBER_SIZE,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
            zorder=5,
        )


def _places(searcher: Searcher, members: Sequence[Member], name: str) -> list[tuple[float, float]]:
    return [(member.costs[name] / searcher.costs[name].scale, member.accuracy) for member in members]


def _columns(places: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in places], [y for _, y in places]

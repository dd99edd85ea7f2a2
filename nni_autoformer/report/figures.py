"""Figures: the candidates of a search, a sample of random subnets, results beside those of other networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # a run on a server has no screen

from matplotlib import pyplot as plt

from ..costs import KNOWN
from ..files import replacing
from ..search.ledger import Candidate
from ..search.random_subnets import standard_error
from ..search.searcher import Searcher
from .labels import Label, place_labels
from .results import Result, Series, pareto

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind readers can tell apart."""

PEERS = ("#5f7fa8", "#a8735f", "#6d8f6d", "#8a7aa3", "#9c8a4e", "#5f9a9a", "#a36d88", "0.35")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
"""Of the families of other networks, duller than one's own results."""

NAME_SIZE = 7.5

STYLE = {
    "pdf.fonttype": 42,  # letters stay letters, as journals want them
    "svg.fonttype": "none",
    "svg.hashsalt": "nni-autoformer",  # the same results, the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "text.parse_math": False,  # names are other people's, and a $ in them is a $
}

UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


@contextmanager
def figure_file(path: str | Path, size: tuple[float, float], panels: int = 1) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes, which are written by rename at the end, in the format of the file's suffix.

    Args:
        path: the file.
        size: of the figure in inches.
        panels: how many axes, side by side with the same vertical axis; of several an array is given.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(1, panels, figsize=size, sharey=True, layout="constrained")
        try:
            yield figure, axes
            with replacing(path) as temporary:
                figure.savefig(temporary, dpi=150, format=kind, metadata=UNDATED.get(kind))
        finally:
            plt.close(figure)


def draw_candidates(searcher: Searcher, path: str | Path, winner: Candidate | None = None) -> None:
    """Accuracy on the selection images against the cost that the search limits, by default parameters: all
    candidates, the limits and the winner.

    Args:
        searcher: a search with at least one answer.
        path: a `.png`, `.pdf` or `.svg` file, written by rename.
        winner: who is the best in the end; None for the ranking's first.
    """
    model = searcher.space.model
    ranking = searcher.ledger.ranking()
    cost = searcher.costs[next(iter(searcher.limits.given), "params")]
    sizes = [cost.value(candidate.architecture, model) / cost.scale for candidate, _ in ranking]
    accuracies = [accuracy for _, accuracy in ranking]
    with figure_file(path, (7, 4.5)) as (figure, axes):
        points = axes.scatter(
            sizes,
            accuracies,
            c=[candidate.generation for candidate, _ in ranking],
            s=_area(len(ranking)),
            cmap="viridis",
            alpha=0.8,
            linewidth=0,
        )
        if max(candidate.generation for candidate, _ in ranking) > 0:
            bar = figure.colorbar(points, label="generation")
            bar.locator = matplotlib.ticker.MaxNLocator(integer=True)
            bar.update_ticks()
        for limit, name in zip(searcher.limits[cost.name], ("min", "max")):
            if limit is not None:
                axes.axvline(
                    limit, color="0.35", linestyle="--", linewidth=1, label=f"{name} {limit:g} {cost.unit}"
                )
        best = [candidate for candidate, _ in ranking].index(winner or ranking[0][0])
        label = f"winner: {_told(accuracies[best], sizes[best], cost.unit)}"
        _star(axes, sizes[best], accuracies[best], "crimson", label)
        _name_axes(axes, cost.name, "selection")
        axes.set_title(f"{len(ranking):,} subnets of '{searcher.space.name}' with inherited weights")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)


def draw_samples(
    rows: Sequence[Mapping[str, Any]],
    best: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    space: str,
    path: str | Path,
) -> None:
    """Accuracy of random subnets against parameters, those that the user named marked, as in the paper's
    figure.

    Args:
        rows: all answers, see `SampleFolder`; the random ones are coloured by their embedding size.
        best: best subnet of each size, see `best_of_sizes`; the means of the sizes are drawn.
        front: the rows of the Pareto front.
        space: the space's name.
        path: a `.png`, `.pdf` or `.svg` file, written by rename.
    """
    random = [row for row in rows if row["origin"] == "random"]
    given = [row for row in rows if row["origin"] == "given"]
    widths = sorted({row["architecture"]["embed_dim"] for row in random})
    with figure_file(path, (7, 4.8)) as (figure, axes):
        for place, width in enumerate(widths):
            members = [row for row in random if row["architecture"]["embed_dim"] == width]
            color = plt.get_cmap("viridis")(0.9 * place / max(1, len(widths) - 1))
            axes.scatter(
                [row["params"] / 1e6 for row in members],
                [row["top1"] for row in members],
                s=_area(len(random)),
                color=color,
                alpha=0.6,
                linewidth=0,
                rasterized=len(random) > 2000,
            )
            axes.scatter([], [], s=30, color=color, label=f"embed_dim {width}")
        centres = [(entry["from"] + entry["to"]) / 2 for entry in best]
        means = [entry["mean"] for entry in best]
        axes.plot(centres, means, color="black", linewidth=1.4, linestyle=":", label="mean of a size")
        _front(axes, [(row["params"] / 1e6, row["top1"]) for row in front], "0.25", "Pareto front")
        for row, color in zip(given, _cycle(("crimson", *COLORS[:4]))):
            label = f"{row['name']}: {_told(row['top1'], row['params'] / 1e6, 'M')}"
            _star(axes, row["params"] / 1e6, row["top1"], color, label, row["images"])
        _name_axes(axes, "params", random[0]["split"])
        subnets = "random subnet" if len(random) == 1 else "random subnets"
        axes.set_title(f"{len(random):,} {subnets} of '{space}' with inherited weights")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)


def draw_comparison(
    series: Sequence[Series],
    peers: Sequence[Result],
    path: str | Path,
    *,
    against: str = "params",
    log: bool = False,
    title: str = "",
) -> None:
    """Accuracy against any cost of any results, beside published ones of other networks.

    Args:
        series: results; those whose cost is not known are left out.
        peers: the other networks, drawn in grey; networks of one family are joined.
        path: a `.png`, `.pdf` or `.svg` file, written by rename.
        against: name of the cost.
        log: whether the axis of the cost is logarithmic.
        title: text above the figure.
    """
    with figure_file(path, (7.5, 5.4)) as (figure, axes):
        drawn = [_families(axes, peers, against, PEERS, MARKERS)]
        points = [(label.x, label.y) for label in drawn[0][0]]
        if peers:
            axes.plot([], [], color="0.5", marker="o", markersize=5, label="published ImageNet results")
        for entry, color in zip(series, _cycle(COLORS)):
            known = [result for result in entry.results if against in result.costs]
            points += [_place(result, against) for result in known]
            if entry.kind == "table":
                drawn.append(_families(axes, known, against, (color,), ("o",), 7))
                axes.plot([], [], color=color, marker="o", markersize=7, label=_writable(entry.label))
            else:
                drawn.append(_cloud(axes, entry, known, against, color))
        # only the published ones are known to be on ImageNet
        _name_axes(axes, against, "", imagenet=bool(peers) and not series)
        axes.set_title(_writable(title))
        axes.margins(x=0.1, y=0.08)
        if log:
            _log_axis(axes)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        labels = [label for names, _ in drawn for label in names]
        place_labels(axes, labels, points, [line for _, lines in drawn for line in lines], NAME_SIZE)


def _log_axis(axes: Any) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticker = matplotlib.ticker
    wide = high / low > 6  # in a narrow range those ticks would be too few
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)) if wide else ticker.MaxNLocator(8))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())


Drawn = tuple[list[Label], list[list[tuple[float, float]]]]
"""Names that should stand beside their points, and the lines that they should keep off."""


def _place(result: Result, against: str) -> tuple[float, float]:
    return result.costs[against] / KNOWN[against].scale, result.top1


def _cloud(axes: Any, entry: Series, known: Sequence[Result], against: str, color: str) -> Drawn:
    """The subnets of a search or a sample, their front and what is marked: the best of a search, and those
    that the user named.
    """
    many = [_place(result, against) for result in known if not result.given]
    axes.scatter(
        *zip(*many), s=_area(len(many)), color=color, alpha=0.3, linewidth=0, rasterized=len(many) > 2000
    )
    front = pareto([_place(result, against) for result in known], lambda at: at[0], lambda at: at[1])
    _front(axes, front, color)
    marked = [entry.best()] if entry.kind == "search" else []
    marked += [result for result in known if result.given]
    for result in marked:
        _star(axes, *_place(result, against), color)
    images = f" ({entry.split} images)" if entry.split else ""
    best = f", best {entry.best().top1:.2f} %" if entry.kind == "search" else ""
    shape = {"marker": "*", "s": 90} if marked else {"marker": "o", "s": 20}
    axes.scatter([], [], color=color, label=_writable(f"{entry.label}{images}{best}"), **shape)
    labels = [Label(result.name, *_place(result, against), color, 4) for result in marked if result.name]
    return labels, [front]


def _families(
    axes: Any,
    results: Sequence[Result],
    against: str,
    colors: Sequence[str],
    markers: Sequence[str],
    size: float = 5,
) -> Drawn:
    """Networks as markers, those of a family joined."""
    families = list(dict.fromkeys(result.family for result in results))
    labels, lines = [], []
    for family, color, marker in zip(families, _cycle(colors), _cycle(markers)):
        members = [r for r in results if r.family == family and against in r.costs]
        if not members:
            continue  # after its colour is taken, so that a family looks the same in every figure
        places = sorted(_place(result, against) for result in members)
        style = "-" if family else ""
        axes.plot(*zip(*places), style, color=color, marker=marker, markersize=size, linewidth=0.8)
        labels += [
            Label(result.name, *_place(result, against), color, (size - 5) / 2)
            for result in members
            if result.name
        ]
        lines += [places] if family else []
    return labels, lines


def _star(
    axes: Any, x: float, y: float, color: str, label: str | None = None, images: int | None = None
) -> None:
    """A marked subnet; with the number of images also the standard error of its accuracy."""
    if images:
        axes.errorbar(x, y, standard_error(y, images), color=color, linewidth=1, capsize=2.5, zorder=3)
    axes.scatter(x, y, marker="*", s=200, color=color, edgecolor="white", zorder=4, label=label)


def _front(axes: Any, points: Sequence[tuple[float, float]], color: str, label: str | None = None) -> None:
    axes.plot(*zip(*points), color=color, linewidth=1.1, drawstyle="steps-post", zorder=2.2, label=label)


def _name_axes(axes: Any, against: str, split: str, imagenet: bool = False) -> None:
    cost = KNOWN[against]
    axes.set_xlabel(f"{cost.title} ({cost.unit})")
    images = f" on the {split} images" if split else " on ImageNet" if imagenet else ""
    axes.set_ylabel(f"top-1{images} (%)")


def _told(accuracy: float, value: float, unit: str) -> str:
    return f"{accuracy:.2f} %, {value:.3g} {unit}"


def _writable(text: str) -> str:
    """A text without what no font can show: bytes of a file's name that are no characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _area(points: int) -> float:
    """Of a marker, so that many points stay apart."""
    return 20 if points <= 300 else 12 if points <= 3000 else 6


def _cycle(entries: Sequence[str]) -> Iterator[str]:
    while True:
        yield from entries

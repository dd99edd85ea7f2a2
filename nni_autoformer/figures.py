"""Figures of a search."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a run on a server has no screen

from matplotlib import pyplot as plt

from .complexity import params
from .files import replacing
from .search.evolution import Evolution


def draw_candidates(evolution: Evolution, path: str | Path) -> None:
    """Accuracy on the selection images against parameters: all candidates, the limits and the winner.

    Args:
        evolution: a search with at least one answer.
        path: a `.png`, `.pdf` or `.svg` file, written by rename.
    """
    model = evolution.space.model
    ranking = evolution.ranking()
    sizes = [params(candidate.architecture, model) / 1e6 for candidate, _ in ranking]
    accuracies = [accuracy for _, accuracy in ranking]
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    points = axes.scatter(
        sizes,
        accuracies,
        c=[candidate.generation for candidate, _ in ranking],
        s=18,
        cmap="viridis",
        alpha=0.8,
    )
    if max(candidate.generation for candidate, _ in ranking) > 0:
        bar = figure.colorbar(points, label="generation")
        bar.locator = matplotlib.ticker.MaxNLocator(integer=True)
        bar.update_ticks()
    for limit, name in ((evolution.limits.min_params, "min"), (evolution.limits.max_params, "max")):
        if limit is not None:
            axes.axvline(limit, color="0.35", linestyle="--", linewidth=1, label=f"{name} {limit:g} M")
    axes.scatter(
        sizes[:1],
        accuracies[:1],
        marker="*",
        s=220,
        color="crimson",
        edgecolor="white",
        zorder=3,
        label=f"winner: {accuracies[0]:.2f} %, {sizes[0]:.3g} M",
    )
    axes.set_xlabel("parameters (M)")
    axes.set_ylabel("top-1 on the selection images (%)")
    axes.set_title(f"{len(ranking)} subnets of '{evolution.space.name}' with inherited weights")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    axes.grid(alpha=0.3)
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix.lstrip("."))
    plt.close(figure)

"""What a command prints at its end, and writes beside its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..complexity import macs, params
from ..files import write_text
from ..search.evolution import Evolution

SUMMARY_FILE = "summary.txt"
FIGURE_FILE = "candidates.png"


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two aligned columns."""
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in rows)


def search_rows(evolution: Evolution) -> list[tuple[str, str]]:
    """What a search found."""
    candidate, accuracy = evolution.best()
    architecture, model = candidate.architecture, evolution.space.model
    failed = [("candidates given up", f"{evolution.failed:,}")] if evolution.failed else []
    return [
        ("search space", f"{evolution.space.name}, {evolution.space.size:,} subnets"),
        ("candidates evaluated", f"{evolution.told + evolution.stopped:,}"),
        *failed,
        ("best architecture", str(architecture)),
        ("parameters", f"{params(architecture, model):,}"),
        ("MACs", f"{macs(architecture, model) / 1e6:,.2f} M"),
        ("top-1 on the selection images", f"{accuracy:.2f} %"),
    ]


def print_search(evolution: Evolution, output: Path, more: Sequence[tuple[str, str]] = ()) -> None:
    """Draw the figure of all candidates, and print and write the summary of a search."""
    from ..figures import draw_candidates

    draw_candidates(evolution, output / FIGURE_FILE)
    text = table([*search_rows(evolution), *more])
    write_text(output / SUMMARY_FILE, text)
    print(f"\n{text}\nResults are in {output}")

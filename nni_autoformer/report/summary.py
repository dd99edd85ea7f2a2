"""What a command writes beside its results and prints at its end: aligned tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..costs import COSTS, Costs, cost_rows
from ..files import write_text
from ..search.ledger import UNMEASURED, Candidate
from ..search.random_subnets import standard_error, standing, with_accuracy
from ..search.searcher import Searcher
from ..space import SearchSpace

if TYPE_CHECKING:
    from ..search.trade import Member

SUMMARY_FILE = "summary.txt"
FIGURE_FILE = "candidates.png"


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two aligned columns."""
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in rows)


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns under a head, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    lines = []
    for row in (head, *rows):
        first, *others = (
            f"{entry:<{width}}" if i == 0 else f"{entry:>{width}}"
            for i, (entry, width) in enumerate(zip(row, widths))
        )
        lines.append("  ".join((first, *others)).rstrip())
    return "".join(f"{line}\n" for line in lines)


def search_rows(searcher: Searcher, winner: Candidate | None = None) -> list[tuple[str, str]]:
    """What a search found.

    Args:
        searcher: the search, complete.
        winner: who is the best in the end; None for the ranking's first.
    """
    from ..search.guidance import qualities, typical  # with NumPy, which the command line does without

    ledger, space = searcher.ledger, searcher.space
    candidate = winner or ledger.best()[0]
    accuracy = ledger[candidate.number].accuracy
    architecture, model = candidate.architecture, space.model
    failed = [("candidates given up", f"{ledger.failed:,}")] if ledger.failed else []
    return [
        ("search space", f"{space.name}, {space.size:,} subnets"),
        ("candidates evaluated", f"{ledger.told:,}"),
        *failed,
        ("best architecture", str(architecture)),
        *cost_rows(architecture, model, searcher.costs),
        ("top-1 on the selection images", f"{accuracy:.2f} %"),
        *loss_row(ledger[candidate.number].loss, " on the selection images"),
        *([("surrogate's predictions", typical(found))] if (found := qualities(ledger)) else []),
    ]


def loss_row(loss: float | None, where: str = "") -> list[tuple[str, str]]:
    """A mean cross-entropy as a row of a table; none if it is not known."""
    return [] if loss is None else [(f"cross-entropy{where}", f"{loss:.4f}")]


def front_text(searcher: Searcher, measured: Mapping[int, float] = UNMEASURED) -> str:
    """The front of a search that trades accuracy, as a table.

    Args:
        searcher: the search.
        measured: latencies of whole members in milliseconds, by number; none where nothing was measured.
    """
    from ..search.front_files import file_of
    from ..search.trade import front_of

    costs = searcher.costs
    head = ["front", "top-1 %", *(cost.title for cost in costs.values())]
    rows = []
    for member in front_of(searcher):
        row = [file_of(member), _with_error(member)]
        row += [cost.told(member.costs[name]) for name, cost in costs.items()]
        if measured:
            row.append(f"{measured[member.number]:.2f} ms" if member.number in measured else "")
        rows.append(row)
    return grid([*head, "measured"] if measured else head, rows)


def _with_error(member: Member) -> str:
    error = "" if member.error is None else f" ± {member.error:.2f}"
    return f"{member.accuracy:.2f}{error}"


def write_summary(output: Path, rows: Sequence[tuple[str, str]], more: str = "") -> None:
    """Write the summary of a run into its folder.

    Args:
        output: folder of the run.
        rows: a table of two columns.
        more: text behind the table.
    """
    write_text(output / SUMMARY_FILE, table(rows) + (f"\n{more}" if more else ""))


Row = Mapping[str, Any]


def sample_text(
    rows: Sequence[Row],
    best: Sequence[Row],
    front: Sequence[Row],
    space: SearchSpace,
    n: int,
    costs: Costs = COSTS,
) -> str:
    """What a sample found.

    Args:
        rows: all answers.
        best: best subnet of each size, see `best_of_sizes`.
        front: the rows of the Pareto front.
        space: search space of the subnets.
        n: how many random ones were asked for.
        costs: what is known of a subnet's costs.
    """
    drawn = sum(row["origin"] == "random" for row in rows)
    failed = [row for row in rows if row.get("failed")]
    rows = with_accuracy(rows)
    random = [row["top1"] for row in rows if row["origin"] == "random"]
    images, error = rows[0]["images"], standard_error(max(random), rows[0]["images"])
    lines = [
        ("search space", f"{space.name}, {space.size:,} subnets"),
        ("random subnets", f"{drawn:,}" + (", all that there are" if drawn < n else "")),
        *_failed_row(failed),
        (
            f"{rows[0]['split']} images",
            f"{images:,}; the standard error of an accuracy near the best is {error:.2f} %",
        ),
        (
            "top-1 of the random ones",
            f"mean {statistics.fmean(random):.2f} %, from {min(random):.2f} to {max(random):.2f} %",
        ),
        *(_standing_row(rows, row) for row in rows if row["origin"] == "given"),
    ]
    sizes = [
        (
            f"{entry['from']:g} - {entry['to']:g}",
            f"{entry['subnets']:,}",
            f"{entry['mean']:.2f}",
            f"{entry['std']:.2f}",
            *_short(entry["best"], costs),
        )
        for entry in best
    ]
    titles = [cost.title for cost in costs.values()]
    head = ("parameters (M)", "subnets", "mean %", "std %", "best %", *titles, "number")
    fronts = [(row["name"] or "random", *_short(row, costs)) for row in front]
    return (
        f"{table(lines)}\n{grid(head, sizes)}\n{grid(('Pareto front', *head[4:]), fronts)}\n"
        "The architecture of each number is in architectures/NUMBER.yaml.\n"
    )


def _failed_row(failed: Sequence[Row]) -> list[tuple[str, str]]:
    if not failed:
        return []
    names = [row["name"] or str(row["number"]) for row in failed[:3]]
    more = ", …" if len(failed) > len(names) else ""
    return [("without an accuracy", f"{len(failed):,} ({', '.join(names)}{more}): logits NaN or infinite")]


def _standing_row(rows: Sequence[Row], row: Row) -> tuple[str, str]:
    beaten, cheap = standing(rows, row)
    return row["name"], (
        f"{row['top1']:.2f} %, {COSTS['params'].told(row['params'])}; better than {beaten:.1f} % of the "
        f"random ones, and than {cheap:.1f} % of those of at most its size"
    )


def _short(row: Row, costs: Costs) -> tuple[str, ...]:
    told = [cost.told(row[name]) for name, cost in costs.items()]
    return f"{row['top1']:.2f}", *told, str(row["number"])

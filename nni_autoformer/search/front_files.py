"""What a search that trades accuracy leaves of its front: a table, and an architecture per subnet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..costs import Costs, cost_rows
from ..files import told_when_full, write_text
from .ledger import UNMEASURED
from .searcher import Searcher
from .trade import Member, front_of

FRONT_FILE = "front.csv"
FRONT_FOLDER = "front"


def file_of(member: Member) -> str:
    """Where the architecture of a subnet of the front is in the search's folder."""
    return f"{FRONT_FOLDER}/{member.number}.yaml"


def write_front(folder: Path, searcher: Searcher, measured: Mapping[int, float] = UNMEASURED) -> None:
    """Write the front, the architectures first, each file atomically.

    Args:
        folder: folder of the search.
        searcher: a search that trades, with at least one answer.
        measured: latencies of whole members in milliseconds, by number; none where nothing was measured.

    Raises:
        ConfigError: the disk is full, or cannot be written.
    """
    members = front_of(searcher)
    place = folder / FRONT_FOLDER
    with told_when_full(place):
        place.mkdir(exist_ok=True)
        for member in members:
            comment = (
                f"On the front of {searcher.ledger.told} candidates in the space '{searcher.space.name}': "
                f"{member.accuracy:.2f} % on the selection images,\n"
                f"{_told(member, searcher)} (candidate {member.number})."
            )
            member.architecture.to_yaml(folder / file_of(member), comment, searcher.space.model.to_dict())
        names = {Path(file_of(member)).name for member in members}
        for old in place.glob("*.yaml"):  # of a search that was written before its end
            if old.name not in names:
                old.unlink()
    with told_when_full(folder / FRONT_FILE):
        write_text(folder / FRONT_FILE, front_csv(members, searcher.costs, measured))


def front_csv(members: Sequence[Member], costs: Costs, measured: Mapping[int, float] = UNMEASURED) -> str:
    """The front as the text of a CSV file that `nni-autoformer plot` reads too; costs are in their units.
    Beside a latency that a table predicts stands that of the whole subnet, where it was measured.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    units = [f"{name}_{cost.unit.lower()}" for name, cost in costs.items()]
    whole = ["measured_ms"] if measured else []
    writer.writerow(["number", "accuracy", "standard_error", "top5", "loss", *units, *whole, "file"])
    for member in members:
        values = [member.costs[name] / cost.scale for name, cost in costs.items()]
        found = [member.accuracy, member.error, member.top5, member.loss]
        time = [measured.get(member.number)] if measured else []
        writer.writerow([member.number, *found, *values, *time, file_of(member)])
    return text.getvalue()


def _told(member: Member, searcher: Searcher) -> str:
    rows = cost_rows(member.architecture, searcher.space.model, searcher.costs)
    return ", ".join(f"{count} {title}" for title, count in rows)

"""What a search has found, and what is written of it when it is complete."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..architecture import Architecture
from ..costs import costs_of
from ..deployment import Target
from ..files import told_when_full
from ..search.folder import SearchFolder
from ..search.ledger import Candidate
from ..search.searcher import Searcher
from ..training.ranks import Ranks
from .measured_winners import MeasuredWinners

if TYPE_CHECKING:
    from nni.nas.experiment import NasExperiment

    from ..search.trade import Member


@dataclass(frozen=True)
class Ranked:
    """An evaluated subnet of a search.

    Attributes:
        number: position in the order of proposals, from 0.
        architecture: the subnet.
        accuracy: top-1 in percent on the selection images.
        costs: counts of all costs, by name.
        loss: mean cross-entropy on the same images; None if it is not known.
    """

    number: int
    architecture: Architecture
    accuracy: float
    costs: dict[str, float]
    loss: float | None = None


@dataclass(frozen=True)
class Searched:
    """What a search has found.

    Attributes:
        output: folder of the run.
        searcher: the search, complete.
        files: what the search left in the folder.
        images: number of selection images.
        fresh: False where the folder held the finished search already.
        deployed: what was measured of the winner; None without a latency table.
        experiment: NNI's experiment whose web UI is kept, see `Engine.keep_ui`; `until_stopped` waits for its
            end.
    """

    output: Path
    searcher: Searcher
    files: SearchFolder
    images: int
    fresh: bool = True
    deployed: MeasuredWinners | None = None
    experiment: NasExperiment | None = None

    @property
    def ranking(self) -> list[Ranked]:
        """All evaluated subnets, best first."""
        model, ledger, costs = self.searcher.space.model, self.searcher.ledger, self.searcher.costs
        return [
            Ranked(
                candidate.number,
                candidate.architecture,
                accuracy,
                costs_of(candidate.architecture, model, costs),
                ledger[candidate.number].loss,
            )
            for candidate, accuracy in ledger.ranking()
        ]

    @property
    def best(self) -> Ranked:
        """The winner: the first of the ranking, unless it was measured above the limit on latency."""
        winner = self.winner
        return next(entry for entry in self.ranking if entry.number == winner.number)

    @property
    def winner(self) -> Candidate:
        """The winner's candidate."""
        return self.searcher.ledger.best()[0] if self.deployed is None else self.deployed.winner

    @property
    def deployed_times(self) -> dict[int, float]:
        """Measured latencies of whole subnets in milliseconds, by the candidate's number."""
        times = {} if self.deployed is None else self.deployed.times
        return {number: time.median for number, time in times.items()}

    @property
    def front(self) -> list[Member]:
        """The front over the costs that the search trades, cheapest in the first of them first; without such
        costs the winner alone.
        """
        from ..search.trade import front_of

        return front_of(self.searcher)


def report_search(found: Searched, target: Target) -> None:
    """With a latency table measure the winner, and every member of a front; and write what the search has
    found.

    Args:
        found: the complete search.
        target: how the winner will run.

    Raises:
        ConfigError: the disk is full, or what an earlier process has measured is damaged.
    """
    if target.table is not None:
        ledger = found.searcher.ledger
        members = [ledger[member.number].candidate for member in found.front] if found.searcher.traded else []
        measured = MeasuredWinners.take(found.searcher, target, found.output, members)
        found = replace(found, deployed=measured)
        found.files.write_best(found.winner)
        if members:
            from ..search.front_files import write_front

            write_front(found.output, found.searcher, found.deployed_times)
    write_report(found)


def with_measured(found: Searched, target: Target, ranks: Ranks) -> Searched:
    """What a search has found, on every rank with what was measured of the winner.

    Args:
        found: the complete search, whose folder the main process can read.
        target: how the winner will run.
        ranks: this process among those of the search.

    Raises:
        ConfigError: the measurements are damaged.
    """
    if target.table is None:
        return found
    searcher, folder = found.searcher, found.output
    times = ranks.on_main(lambda: MeasuredWinners.read(searcher, target, folder).times)
    return replace(found, deployed=MeasuredWinners(searcher, target, folder, times))


def write_report(found: Searched, more: list[tuple[str, str]] | None = None) -> None:
    """Draw the figure of all candidates, and that of the front of a search that trades accuracy, and write
    the summary.

    Args:
        found: the complete search.
        more: further rows of the summary.
    """
    from ..report.figures import draw_candidates
    from ..report.summary import FIGURE_FILE, SUMMARY_FILE, front_text, search_rows, write_summary

    with told_when_full(found.output / FIGURE_FILE):
        draw_candidates(found.searcher, found.output / FIGURE_FILE, found.winner)
    front = ""
    if found.searcher.traded:
        from ..report.front_figure import FRONT_FIGURE, draw_front

        with told_when_full(found.output / FRONT_FIGURE):
            draw_front(found.searcher, found.output / FRONT_FIGURE)
        front = front_text(found.searcher, found.deployed_times)
    measured = [] if found.deployed is None else found.deployed.rows()
    rows = [*search_rows(found.searcher, found.winner), *measured, *(more or [])]
    with told_when_full(found.output / SUMMARY_FILE):
        write_summary(found.output, rows, front)

"""What a search has found, and what is written of it when it is complete."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..architecture import Architecture
from ..costs import costs_of
from ..files import told_when_full
from ..search.folder import SearchFolder
from ..search.searcher import Searcher

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
        experiment: NNI's experiment whose web UI is kept, see `Engine.keep_ui`; `until_stopped` waits for its
            end.
    """

    output: Path
    searcher: Searcher
    files: SearchFolder
    images: int
    fresh: bool = True
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
        """The winner."""
        return self.ranking[0]

    @property
    def front(self) -> list[Member]:
        """The front over the costs that the search trades, cheapest in the first of them first; without such
        costs the winner alone.
        """
        from ..search.trade import front_of

        return front_of(self.searcher)


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
        draw_candidates(found.searcher, found.output / FIGURE_FILE)
    front = ""
    if found.searcher.traded:
        from ..report.front_figure import FRONT_FIGURE, draw_front

        with told_when_full(found.output / FRONT_FIGURE):
            draw_front(found.searcher, found.output / FRONT_FIGURE)
        front = front_text(found.searcher)
    with told_when_full(found.output / SUMMARY_FILE):
        write_summary(found.output, [*search_rows(found.searcher), *(more or [])], front)

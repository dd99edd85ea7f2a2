"""What a search algorithm is to the rest of a search: it proposes, and reads the answers from its ledger."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

from ..costs import Costs
from ..space import SearchSpace
from .ledger import Candidate, Ledger
from .limits import Limits


class Answer(Enum):
    """What `Searcher.ask` says when it has no candidate."""

    WAIT = "the generation is still being evaluated"
    DONE = "the search is complete"


class Searcher(Protocol):
    """A search algorithm as NNI's strategy, NNI's tuner, the driver and the files of a search see it.

    It never evaluates anything. What it proposes must depend on its seed and on complete generations alone,
    never on which answers of the present one are in: then a search is the same at any concurrency, and goes
    on after a kill as if there had been none.
    """

    @property
    def space(self) -> SearchSpace:
        """The space that is searched."""

    @property
    def limits(self) -> Limits:
        """What a subnet may cost."""

    @property
    def costs(self) -> Costs:
        """What is known of a subnet's costs; the limited ones are among them."""

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of the costs that accuracy is traded against; empty for a search for one subnet."""

    @property
    def rank_by(self) -> str:
        """What candidates rank by first: 'top1' or 'loss'."""

    @property
    def ledger(self) -> Ledger:
        """All candidates; answers are written here."""

    @property
    def planned(self) -> int:
        """Number of candidates of the whole search, unless the space runs out of new ones before."""

    @property
    def generations(self) -> int:
        """Number of generations that the planned candidates come in."""

    @property
    def done(self) -> bool:
        """Whether the search is over."""

    def ask(self) -> Candidate | Answer:
        """The next candidate to evaluate, an open one of the ledger first; or that there is none now, or none
        any more.
        """

    def state_dict(self) -> dict[str, Any]:
        """The whole search as plain values that pass through JSON unchanged."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another search stopped.

        Raises:
            ConfigError: the state is of a search that was told something else.
        """

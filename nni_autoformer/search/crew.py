"""The ranks of a search: the first one searches, and each evaluates its share of the candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..architecture import HEAD_DIM, Architecture
from ..data.cache import DecodedImages
from ..errors import ConfigError
from ..model import AutoFormer
from ..training.ranks import Ranks, told
from .digests import digest_of_images, digest_of_weights
from .parts import Marks, OnBatch, PartEvaluator
from .shared_forward import half_layers


@dataclass(frozen=True)
class Task:
    """What the first rank asks of another one.

    Attributes:
        architectures: subnets to evaluate; may be none.
        start, stop: the images, see `PartEvaluator.marks`.
        fresh: the first task of a generation.
    """

    architectures: list[Architecture]
    start: int
    stop: int
    fresh: bool


@dataclass(frozen=True)
class End:
    """There is no task any more.

    Attributes:
        error: the sentence that ends the search before its time; empty if it is complete.
    """

    error: str = ""


class Crew:
    """Divides the candidates of a generation among the ranks.

    A candidate evaluated together with others has bit for bit the logits that it has alone, so it does not
    matter with whom it is. Each rank gets neighbours in the generation's tree, which have most in common, and
    about as much to compute as the others.

    Args:
        ranks: this process among those of the search, connected.
    """

    def __init__(self, ranks: Ranks) -> None:
        assert ranks.exchange is not None
        self.ranks, self._exchange = ranks, ranks.exchange
        self._tasks = 0
        self._fresh = False

    def require_same(self, supernet: AutoFormer, images: DecodedImages) -> None:
        """Check that all ranks, on whatever machines, evaluate the same weights on the same images.

        Raises:
            ConfigError: they do not.
        """
        digests = self.ranks.gathered((digest_of_weights(supernet), digest_of_images(images)))

        def compare() -> None:
            for rank, found in enumerate(digests):
                for one, other, what in zip(digests[0], found, ("checkpoint", "selection images")):
                    if one != other:
                        raise ConfigError(f"the process of rank {rank} reads other contents as the {what}.")

        self.ranks.agree(compare)

    # The first rank

    def next_generation(self) -> None:
        """The tasks from now on are those of another generation."""
        self._fresh = True

    def marks(
        self,
        parts: PartEvaluator,
        architectures: Sequence[Architecture],
        start: int,
        stop: int,
        on_batch: OnBatch,
    ) -> Marks:
        """What `PartEvaluator.marks` gives, from all ranks.

        Raises:
            ConfigError: a rank's device has too little memory.
        """
        shares = divided(architectures, self.ranks.world_size)
        others = range(1, self.ranks.world_size)
        for rank in others:
            task = Task([architectures[number] for number in shares[rank]], start, stop, self._fresh)
            self._exchange.put(f"task/{self._tasks}/{rank}", task)
        marks = Marks.none(len(architectures), stop - start)
        mine = parts.marks([architectures[number] for number in shares[0]], start, stop, on_batch)
        marks.named[:, shares[0]], marks.losses[shares[0]] = mine.named, mine.losses
        for rank in others:
            key = f"answer/{self._tasks}/{rank}"
            answer = self._exchange.get(key, rank)
            if isinstance(answer, str):
                raise ConfigError(answer)
            packed, losses = answer
            shape = (3, *losses.shape)
            named = np.unpackbits(packed, count=int(np.prod(shape))).astype(bool).reshape(shape)
            marks.named[:, shares[rank]], marks.losses[shares[rank]] = named, losses
            on_batch(len(shares[rank]) * (stop - start))
            self._exchange.delete(key)
            self._exchange.delete(f"task/{self._tasks}/{rank}")
        self._tasks, self._fresh = self._tasks + 1, False
        return marks

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Let the other ranks go when the search ends, well or with an error of the user's; when something
        else ends it, the launcher does.
        """
        try:
            yield
        except ConfigError as error:
            self._end(str(error))
            raise
        self._end()

    def _end(self, error: str = "") -> None:
        for rank in range(1, self.ranks.world_size):
            # one that has answered an error waits for the next task
            for number in {self._tasks, self._tasks + 1}:
                self._exchange.put(f"task/{number}/{rank}", End(error))

    # The others

    def serve(self, parts: PartEvaluator) -> None:
        """Evaluate what the first rank asks for, until it ends the search.

        Raises:
            ConfigError: that is an error, which the first rank tells.
        """
        rank = self.ranks.rank
        while not isinstance(task := self._exchange.get(f"task/{self._tasks}/{rank}", giver=0), End):
            if task.fresh:
                parts.forget_unused()
            try:
                marks = parts.marks(task.architectures, task.start, task.stop, lambda count: None)
                answer: tuple[np.ndarray, np.ndarray] | str = np.packbits(marks.named), marks.losses
            except ConfigError as error:
                answer = str(error)
            self._exchange.put(f"answer/{self._tasks}/{rank}", answer)
            self._tasks += 1
        if task.error:
            raise told(task.error)


def divided(architectures: Sequence[Architecture], count: int) -> list[list[int]]:
    """The positions of architectures in so many groups, each of neighbours in the tree of half layers, and
    all with about as much to compute.
    """
    paths = [
        [(architecture.embed_dim, *half) for half in half_layers(architecture)]
        for architecture in architectures
    ]
    order = sorted(range(len(paths)), key=lambda number: paths[number])
    groups: list[list[int]] = [[] for _ in range(count)]
    costs: list[int] = []
    before: list[tuple[int, str, int, int]] = []
    for number in order:
        path = paths[number]
        shared = next(
            (i for i, (one, other) in enumerate(zip(before, path)) if one != other),
            min(len(before), len(path)),
        )
        costs.append(1 + sum(_cost(*half) for half in path[shared:]))
        before = path
    ends = np.cumsum(costs)
    for number, cost, end in zip(order, costs, ends):
        middle = (end - cost / 2) / ends[-1]
        groups[min(int(middle * count), count - 1)].append(number)
    return groups


def _cost(embed_dim: int, part: str, i: int, size: int) -> int:
    """What a half layer computes per token, about."""
    return embed_dim * (4 * HEAD_DIM * size if part == "attn" else 2 * size)

"""This process among those of a run, as torchrun has started them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from ..errors import ConfigError
from .exchange import Exchange

_logger = logging.getLogger("nni_autoformer")

T = TypeVar("T")

PATIENCE = timedelta(hours=1)
"""How long a rank waits for another one, which may be decoding validation images."""


@dataclass(frozen=True)
class Ranks:
    """Which process this is.

    Attributes:
        rank, world_size: number of this process, and how many there are.
        local_rank, local_world_size: the same among the processes of this machine.
        restarts: how often torchrun has started the run anew after a failure.
        exchange: what the ranks talk through while they are connected; None for one process.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    restarts: int = 0
    exchange: Exchange | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def current(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """As torchrun says; a process of its own without it."""
        if "TORCHELASTIC_RUN_ID" not in environment:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
        return cls(*(int(environment[name]) for name in names))

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def tell(self, sentence: str) -> None:
        """Log a sentence for the user, once and not by every process."""
        if self.main:
            _logger.info(sentence)

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.world_size // self.local_world_size

    @contextmanager
    def connected(self, cuda: bool) -> Iterator[None]:
        """Connect the ranks, so that they can wait for each other before Lightning is there.

        Args:
            cuda: each rank has a GPU of its own, the one of its local rank.
        """
        if self.world_size == 1:
            yield
            return
        import torch
        from torch import distributed
        from torch.distributed import PrefixStore

        if cuda:
            torch.cuda.set_device(self.local_rank)
        store, rank, world_size = next(distributed.rendezvous("env://", timeout=PATIENCE))
        store = self._store_of_this_attempt(store)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=store,
            rank=rank,
            world_size=world_size,
            timeout=PATIENCE,
        )
        exchange = Exchange(PrefixStore("exchange", store), rank, world_size)
        object.__setattr__(self, "exchange", exchange)
        try:
            with exchange.alive():
                yield
        finally:
            object.__setattr__(self, "exchange", None)
            distributed.destroy_process_group()

    def _store_of_this_attempt(self, store: Any) -> Any:
        """A part of the launcher's store that only this attempt's processes know.

        torchrun keeps one store over its restarts (pytorch issue 135712), and a rank that starts anew would
        read the addresses of the dead. Its count of restarts does not tell attempts apart, as each machine
        has its own. So rank 0 makes up a name, and tells it to each process that greets it, until all have
        confirmed.
        """
        from torch.distributed import PrefixStore

        store = PrefixStore("nni_autoformer", store)
        if not self.main:
            greeting = os.urandom(16).hex()
            store.set(f"greeting/{self.rank}", greeting)
            name = store.get(f"name/{greeting}").decode()  # waits
            store.set(f"confirmed/{name}/{self.rank}", "")
            return PrefixStore(name, store)
        name = os.urandom(16).hex()
        missing = set(range(1, self.world_size))
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while missing:
            for rank in sorted(missing):
                if store.check([f"greeting/{rank}"]):  # perhaps of an earlier attempt
                    store.set(f"name/{store.get(f'greeting/{rank}').decode()}", name)
                if store.check([f"confirmed/{name}/{rank}"]):
                    missing.remove(rank)
            if time.monotonic() > deadline:
                ranks = ", ".join(map(str, sorted(missing)))
                raise ConfigError(f"the processes of rank {ranks} have not come up.")
            time.sleep(0.05)
        return PrefixStore(name, store)

    def gathered(self, value: T) -> list[T]:
        """The values that all ranks give, which must be picklable, by rank."""
        return [value] if self.exchange is None else self.exchange.gathered(value)

    def agree(self, action: Callable[[], T], one_first: bool = False) -> T:
        """Let every rank act; where one of them cannot, none goes on.

        Args:
            action: what each rank does; must not wait for another one.
            one_first: one process of each machine acts before the others, as where it may download something.

        Raises:
            ConfigError: an action did; of several ranks the first tells its sentence, for the others `told`
                is set.
        """
        if self.world_size == 1:
            return action()
        results: list[T] = []
        for turn in (self.local_rank == 0, self.local_rank > 0) if one_first else (True,):
            error = None
            if turn:
                try:
                    results.append(action())
                except ConfigError as caught:
                    error = caught
            sentences = self.gathered(None if error is None else str(error))
            failed = [rank for rank, sentence in enumerate(sentences) if sentence is not None]
            if error is not None and failed[0] == self.rank:
                raise error
            if failed:
                raise told(sentences[failed[0]])
        return results[0]

    def on_main(self, action: Callable[[], T]) -> T:
        """Let the main process act and give every rank the result, which must be picklable.

        Raises:
            ConfigError: the action did; on the other ranks with `told` set, so that one of them prints it.
        """
        results: list[T] = []
        self.agree(lambda: results.append(action()) if self.main else None)
        return self.gathered(results[0] if results else None)[0]  # type: ignore[return-value]


def told(sentence: str | None) -> ConfigError:
    """The error of a rank whose sentence another rank prints."""
    error = ConfigError(sentence)
    error.told = True
    return error

"""The processes that `torchrun` has started for one command: what each does, and how the first speaks for
all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

Value = TypeVar("Value")

PATIENCE = timedelta(days=30)
"""How long a rank waits for another; `torchrun` ends all when one has died."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the command.

    Attributes:
        rank: from 0; the first writes what all have found.
        size: how many there are.
        local_rank: among those of this machine.
        restarted: whether `torchrun` has started the command again after a process had died.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    restarted: bool = False

    @classmethod
    @contextlib.contextmanager
    def joined(cls) -> Iterator[Ranks]:
        """Meet the other processes, if there are any, and part at the end."""
        size = int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1
        if size == 1:
            yield cls(restarted=_restarted())
            return
        import torch.distributed as dist

        dist.init_process_group("gloo", timeout=PATIENCE)
        try:
            local_rank = int(os.environ.get("LOCAL_RANK", 0))
            yield cls(dist.get_rank(), dist.get_world_size(), local_rank, _restarted())
        finally:
            dist.destroy_process_group()

    def first(self, do: Callable[[], Value]) -> Value:
        """Do something in the first process alone, and give its result to all.

        An exception is raised in the first; the others end with status 2 and say nothing.
        """
        if self.size == 1:
            return do()
        import torch.distributed as dist

        message: list = [False, None]
        try:
            if self.rank == 0:
                message = [True, do()]
        finally:
            dist.broadcast_object_list(message, src=0)
        if not message[0]:
            raise SystemExit(2)
        return message[1]

    def first_then_all(self, do: Callable[[], Value]) -> Value:
        """Do something in the first process, and when it has succeeded there in all others, without what it
        prints; so a mistake of the user's is told once, and what the first one has cached is there for all.
        """
        if self.rank == 0:
            result: list[Value] = []
            self.first(lambda: result.append(do()))
            return result[0]
        self.first(lambda: None)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            return do()

    def wait(self) -> None:
        """Wait until all have come here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def share(self, items: Sequence[Value]) -> Sequence[Value]:
        """The items of this process: every `size`-th, so that all ranks have about as many, at whatever
        number.
        """
        return items[self.rank :: self.size]

    def device(self, name: str) -> str:
        """The device of this process: of 'auto' and 'cuda' the machine's GPU with the process's number."""
        import torch

        if self.size == 1 or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        return f"cuda:{self.local_rank % torch.cuda.device_count()}"


def _restarted() -> bool:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0

"""What the processes of a run tell each other, through the launcher's store."""

from __future__ import annotations

import pickle
import time
from typing import Any

PIECE = 4 << 20
"""Bytes of a value that are stored under one key; torch's store takes no more than 8 MiB."""

SHORTEST, LONGEST = 0.001, 0.02
"""Seconds between two looks for a value: more and more, the longer it is waited for."""


class Exchange:
    """Values under keys, in a store that only the processes of this attempt know.

    A collective operation of torch cannot be interrupted while it waits, fails after a time limit, and ends
    with a traceback where another rank has left. Here Ctrl-C and SIGTERM reach a process that waits, and it
    waits as long as it takes: the launcher ends all processes when one has died.

    Args:
        store: torch's store.
        rank, world_size: number of this process, and how many there are.
    """

    def __init__(self, store: Any, rank: int, world_size: int) -> None:
        self._store, self._rank, self._world_size = store, rank, world_size
        self._gathered = 0

    def put(self, key: str, value: Any) -> None:
        """Store a value that can be pickled, once per key."""
        content = pickle.dumps(value)
        pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
        for number, piece in enumerate(pieces):
            self._store.set(f"{key}/{number}", piece)
        self._store.set(key, str(len(pieces)))

    def get(self, key: str) -> Any:
        """The value of a key, as soon as it is there."""
        pause = SHORTEST
        while not self._store.check([key]):
            time.sleep(pause)
            pause = min(1.2 * pause, LONGEST)
        count = int(self._store.get(key))
        return pickle.loads(b"".join(self._store.get(f"{key}/{number}") for number in range(count)))

    def delete(self, key: str) -> None:
        """Let a value go that all have read who need it."""
        for number in range(int(self._store.get(key))):
            self._store.delete_key(f"{key}/{number}")
        self._store.delete_key(key)

    def gathered(self, value: Any) -> list[Any]:
        """The values that all ranks give, which call this as often, by rank."""
        call, self._gathered = f"gathered/{self._gathered}", self._gathered + 1
        self.put(f"{call}/{self._rank}", value)
        return [self.get(f"{call}/{rank}") for rank in range(self._world_size)]

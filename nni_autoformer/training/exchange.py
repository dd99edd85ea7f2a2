"""What the processes of a run tell each other, through the launcher's store."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PIECE = 4 << 20
"""Bytes of a value that are stored under one key; torch's store takes no more than 8 MiB."""

SHORTEST, LONGEST = 0.001, 0.02
"""Seconds between two looks for a value: more and more, the longer it is waited for."""

BEAT = 5.0
"""Seconds between two signs of life of a process."""

SILENCE = 120.0
"""Seconds without a sign of life after which a process is taken for dead."""


class Exchange:
    """Values under keys, in a store that only the processes of this attempt know.

    A collective operation of torch cannot be interrupted while it waits, and fails after a time limit. Here
    Ctrl-C and SIGTERM reach a process that waits, and it waits as long as the other one gives signs of life;
    when a process of the same machine has died, the launcher ends all.

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

    def get(self, key: str, giver: int) -> Any:
        """The value of a key, as soon as it is there.

        Args:
            key: the key.
            giver: rank that puts it.

        Raises:
            RuntimeError: that process has died.
        """
        pause, life = SHORTEST, _Life(self._store, giver)
        while not self._store.check([key]):
            time.sleep(pause)
            pause = min(1.2 * pause, LONGEST)
            life.require()
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
        return [self.get(f"{call}/{rank}", rank) for rank in range(self._world_size)]

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Give signs of life, for those that wait for this process."""
        ended = threading.Event()

        def beat() -> None:
            count = 0
            with suppress(RuntimeError):  # the launcher has gone
                while not ended.wait(BEAT):
                    count += 1
                    self._store.set(f"alive/{self._rank}", str(count))

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class _Life:
    """The signs of life of a process that is waited for."""

    def __init__(self, store: Any, rank: int) -> None:
        self._key, self._store, self._rank = f"alive/{rank}", store, rank
        self._last, self._looked = b"", time.monotonic()
        self._changed = self._looked

    def require(self) -> None:
        """Look now and then.

        Raises:
            RuntimeError: there has been none for long.
        """
        now = time.monotonic()
        if now < self._looked + BEAT:
            return
        self._looked = now
        found = self._store.get(self._key) if self._store.check([self._key]) else b""
        if found != self._last:
            self._last, self._changed = found, now
        elif now > self._changed + SILENCE:
            raise RuntimeError(f"the process of rank {self._rank} has died.")

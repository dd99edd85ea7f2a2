"""Interleaved measuring: in every round each piece has its turn, in an order of the round's own, so that a
machine that grows slower, or a neighbour that comes and goes, meets all alike.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from ..bars import Bar
from ..errors import ConfigError
from ..latency_table import Conditions, Measured
from ..randomness import generator
from ..space import ModelConfig
from .fit import rounded, summaries
from .pieces import Piece
from .runtimes import Run, Runtime, opened

TURN = 60.0
"""Milliseconds that a turn lasts at least, its first run apart, in as many runs as that takes, of 3 to 20."""

LONG = 250.0
"""Milliseconds of a run that needs none before it, to fill caches and to wake threads."""

SHARE_OF_MEMORY = 0.6
"""Of the memory that is free at the beginning, what open networks may take; the others are opened anew."""

Turn = tuple[int, int]
"""Round and number of the piece."""


def turns(pieces: int, rounds: int, seed: int) -> Iterator[Turn]:
    """The order of all turns; it depends on nothing else.

    Args:
        pieces: how many are measured.
        rounds: how often each.
        seed: seed of the orders.
    """
    for number in range(rounds):
        order = list(range(pieces))
        generator(seed, "latency", number).shuffle(order)
        for piece in order:
            yield number, piece


@dataclass
class Networks:
    """Pieces that are opened when they are first needed, and stay open as long as memory allows.

    Attributes:
        runtime: what opens them.
    """

    runtime: Runtime
    _open: dict[Piece, Run] = field(default_factory=dict)
    _room: float = field(default_factory=lambda: SHARE_OF_MEMORY * psutil.virtual_memory().available)

    def turn(self, piece: Piece) -> list[float]:
        """Run a piece a few times; milliseconds of each run."""
        run, fresh = self._open.get(piece), False
        if run is None:
            run, fresh = self._opened(piece), True
        first = _timed(run)
        if fresh and first < LONG:  # its first run of all has prepared buffers and kernels, too
            first = _timed(run)
        elif first >= LONG and not fresh:
            return [first]
        repeats = 1 if first >= LONG else min(20, max(3, round(TURN / first)))
        return [_timed(run) for _ in range(repeats)]

    def _opened(self, piece: Piece) -> Run:
        run = self.runtime.open(piece)
        size = self.runtime.bytes_of(piece)
        if size <= self._room:
            self._room -= size
            self._open[piece] = run
        return run


def _timed(run: Run) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def measure(
    pieces: Sequence[Piece],
    model: ModelConfig,
    conditions: Conditions,
    *,
    rounds: int,
    seed: int = 0,
    known: Mapping[Turn, Sequence[float]] | None = None,
    record: Callable[[Turn, list[float]], None] = lambda turn, times: None,
) -> dict[Piece, Measured]:
    """Measure pieces in interleaved rounds.

    Args:
        pieces: what is measured.
        model: the network around the blocks.
        conditions: what with.
        rounds: how often each has its turn.
        seed: seed of the rounds' orders.
        known: turns that were measured before.
        record: takes each further turn, and its times in milliseconds.

    Returns:
        Median and quartiles of all runs, by piece.

    Raises:
        ConfigError: as `runtimes.require_runtime`, or the runtime fails on a network.
    """
    answers: dict[Turn, Sequence[float]] = dict(known or {})
    left = [turn for turn in turns(len(pieces), rounds, seed) if turn not in answers]
    with opened(conditions, model) as runtime:
        if left:
            _prepare(runtime, [pieces[number] for number in dict.fromkeys(number for _, number in left)])
        networks = Networks(runtime)
        done = len(pieces) * rounds - len(left)
        with Bar(done + len(left), "latency", "measurements", initial=done) as bar, _no_collection():
            for turn in left:
                times = _turn(networks, pieces[turn[1]], conditions)
                record(turn, times)
                answers[turn] = times
                bar.update()
    return dict(
        zip(pieces, summaries([[answers[turn, i] for turn in range(rounds)] for i in range(len(pieces))]))
    )


def _prepare(runtime: Runtime, pieces: Sequence[Piece]) -> None:
    name = "export" if hasattr(runtime, "networks") else "prepare"
    with Bar(len(pieces), name, "networks", shown=name == "export", leave=False) as bar:
        for piece in pieces:
            runtime.prepare(piece)
            bar.update()


def _turn(networks: Networks, piece: Piece, conditions: Conditions) -> list[float]:
    try:
        return [rounded(value) for value in networks.turn(piece)]
    except ConfigError:
        raise
    except (RuntimeError, NotImplementedError, MemoryError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"{conditions.told}: the network does not run here ({reason}).") from error


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Let Python's collector of garbage wait; now and then it takes some milliseconds."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

"""What networks take on a device: their parts and whole subnets, in interleaved rounds, and the fit of a
latency table to them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from statistics import median

from ..architecture import Architecture
from ..latency_table import Conditions, LatencyTable, Measured
from ..space import ModelConfig

_logger = logging.getLogger("nni_autoformer")

DRIFT = 0.1
"""Share by which a machine may be faster or slower than when a table was measured, before that is said."""


def measure_by_table(
    table: LatencyTable, architectures: Sequence[Architecture], *, rounds: int = 10, seed: int = 0
) -> list[Measured]:
    """Measure whole subnets under a table's conditions, and three of the table's own subnets in the same
    rounds; if these take other times now than then, a warning says so: a processor that is shared, or
    changes its clock, is another one than that which the table predicts.

    Args:
        table: the table.
        architectures: subnets of its space.
        rounds: how often each has its turn.
        seed: seed of the rounds' orders.

    Raises:
        ConfigError: as `measure_subnets`.
    """
    known = sorted(table.subnets, key=lambda subnet: table.subnets[subnet].median)
    references = list(dict.fromkeys([known[0], known[len(known) // 2], known[-1]]))
    wanted = [*architectures, *references]
    times = measure_subnets(wanted, table.space.model, table.conditions, rounds=rounds, seed=seed)
    now = times[len(architectures) :]
    pace = median(time.median / table.subnets[known].median for known, time in zip(references, now))
    if abs(pace - 1) > DRIFT:
        _logger.warning(
            f"This machine takes {pace:.2f} times as long now as when the table was measured, by "
            f"{len(references)} of the table's own subnets: predicted and measured times are of different "
            "states of it. Measure both when it has no other work."
        )
    return times[: len(architectures)]


def measure_subnets(
    architectures: Sequence[Architecture],
    model: ModelConfig,
    conditions: Conditions,
    *,
    rounds: int = 10,
    seed: int = 0,
) -> list[Measured]:
    """Measure whole subnets, with random weights, in interleaved rounds.

    Args:
        architectures: the subnets.
        model: the network around them.
        conditions: runtime, device, batch size, threads and precision.
        rounds: how often each has its turn.
        seed: seed of the rounds' orders.

    Returns:
        Median and quartiles of each, in milliseconds, in the order of the architectures.

    Raises:
        ConfigError: the runtime is not installed or cannot do what is wanted.
    """
    from .pieces import Piece
    from .rounds import measure

    pieces = [Piece("subnet", architecture) for architecture in dict.fromkeys(architectures)]
    found = measure(pieces, model, conditions, rounds=rounds, seed=seed)
    return [found[Piece("subnet", architecture)] for architecture in architectures]

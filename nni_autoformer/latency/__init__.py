"""What networks take on a device: their parts and whole subnets, in interleaved rounds, and the fit of a
latency table to them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..architecture import Architecture
from ..latency_table import Conditions, Measured
from ..space import ModelConfig


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

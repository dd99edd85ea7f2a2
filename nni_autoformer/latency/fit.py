"""From what was measured to a table: times of the parts, the correction by whole subnets, and the table's
error.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..architecture import Architecture
from ..latency_table import Conditions, Deviation, LatencyTable, Measured, Parts, Shape
from ..space import SearchSpace
from .pieces import Piece

LEAST_SUBNETS = 3
"""With fewer whole subnets no line is fitted, only a factor."""

COMPARABLE = 10
"""Pieces from which on a round's level is not mistaken for the spread of one of them."""

POLISHES = 5
"""Passes of the median polish; it changes little after the second."""

LEAST_SHARE = 1e-3
"""A part takes at least this share of what it was measured in; noise must not make it take no time."""


def parts_from(times: Mapping[Piece, Measured]) -> Parts:
    """The times of the parts: a block's is what a subnet of this shape takes above stem and head, divided by
    its depth.
    """
    stem, head = (
        {piece.architecture.embed_dim: time for piece, time in times.items() if piece.kind == kind}
        for kind in ("stem", "head")
    )
    blocks: dict[Shape, Measured] = {}
    for piece, time in times.items():
        if piece.kind == "subnet":
            subnet = piece.architecture
            ends = stem[subnet.embed_dim].median + head[subnet.embed_dim].median
            shape = (subnet.embed_dim, subnet.num_heads[0], subnet.mlp_ratio[0])
            blocks[shape] = _share(time, ends, subnet.depth)
    return Parts(stem, head, blocks)


def _share(time: Measured, less: float, among: int) -> Measured:
    median, low, high = (
        rounded(max(value - less, LEAST_SHARE * value) / among)
        for value in (time.median, time.low, time.high)
    )
    return Measured(median, low, high)


def correction(sums: Sequence[float], measured: Sequence[float]) -> tuple[float, float]:
    """Offset and factor that lead from the sums of subnets' parts to the subnets' latencies: the Theil-Sen
    line, which no few outliers move.

    Args:
        sums: milliseconds of the parts.
        measured: milliseconds of the whole subnets.
    """
    from scipy.stats import theilslopes

    if len(set(sums)) >= LEAST_SUBNETS:
        line = theilslopes(measured, sums, method="joint")
        offset, factor = float(line.intercept), float(line.slope)
        if factor > 0.1 and offset + factor * min(sums) > 0:
            return offset, factor
    return 0.0, statistics.median(whole / total for total, whole in zip(sums, measured))


def deviation(predicted: Sequence[float], measured: Sequence[float]) -> Deviation:
    """How far predictions are from measurements.

    Args:
        predicted, measured: milliseconds of the same subnets.
    """
    from scipy.stats import kendalltau

    errors = [100 * abs(guess - true) / true for guess, true in zip(predicted, measured)]
    alike = len(set(predicted)) < 2 or len(set(measured)) < 2  # without an order there is no correlation
    tau = 0.0 if alike else float(kendalltau(predicted, measured).statistic)
    median, p95 = (float(np.percentile(errors, share)) for share in (50, 95))
    return Deviation(len(errors), rounded(median), rounded(p95), rounded(tau))


def left_out(parts: Parts, subnets: Mapping[Architecture, Measured]) -> Deviation:
    """How well each subnet is predicted by the parts and a correction that the others alone have made."""
    sums = [parts.total(architecture) for architecture in subnets]
    measured = [time.median for time in subnets.values()]
    predicted = []
    for number, total in enumerate(sums):
        others = [index for index in range(len(sums)) if index != number] or [number]
        offset, factor = correction([sums[i] for i in others], [measured[i] for i in others])
        predicted.append(offset + factor * total)
    return deviation(predicted, measured)


def summaries(turns: Sequence[Sequence[Sequence[float]]]) -> list[Measured]:
    """Median and quartiles of each piece's measurements.

    Args:
        turns: by piece and round, the milliseconds of a turn's runs.
    """
    levels = _levels(np.array([[np.median(runs) for runs in rounds] for rounds in turns]))
    found = []
    for rounds in turns:
        times = [time / level for runs, level in zip(rounds, levels) for time in runs]
        low, median, high = (rounded(float(value)) for value in np.percentile(times, (25, 50, 75)))
        found.append(Measured(median, low, high))
    return found


def _levels(times: np.ndarray) -> np.ndarray:
    """How slow the machine was in each round, around 1: what all pieces have in common there (median polish).

    Args:
        times: milliseconds by piece and round.
    """
    if len(times) < COMPARABLE:
        return np.ones(times.shape[1])
    logarithms, levels = np.log(times), np.zeros(times.shape[1])
    for _ in range(POLISHES):
        typical = np.median(logarithms - levels, axis=1, keepdims=True)
        levels = np.median(logarithms - typical, axis=0)
        levels -= np.median(levels)
    return np.exp(levels)


def rounded(value: float) -> float:
    """Six significant digits, which a file needs no more of."""
    return float(f"{value:.6g}")


def table_from(
    space: SearchSpace,
    conditions: Conditions,
    times: Mapping[Piece, Measured],
    parts: Sequence[Piece],
    subnets: Sequence[Architecture],
    **facts: Any,
) -> LatencyTable:
    """The table that measurements make.

    Args:
        space: the search space.
        conditions: what was measured with.
        times: what was measured.
        parts: the pieces that the parts' times come from.
        subnets: whole subnets for the correction.
        facts: machine, versions and date.
    """
    found = parts_from({piece: times[piece] for piece in parts})
    whole = {subnet: times[Piece("subnet", subnet)] for subnet in subnets}
    sums = [found.total(subnet) for subnet in whole]
    offset, factor = correction(sums, [time.median for time in whole.values()])
    error = left_out(found, whole)
    table = LatencyTable(space, conditions, found, rounded(offset), rounded(factor), error, whole, **facts)
    if table.range(space)[0] <= 0:  # far from what was measured, where noise has drawn the line
        ratios = [time.median / total for time, total in zip(whole.values(), sums)]
        table = replace(table, offset=0.0, factor=rounded(statistics.median(ratios)))
    return table

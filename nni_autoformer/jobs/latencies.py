"""A latency table of a space, measured on this machine; and what it predicts beside what is measured."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..architecture import Architecture
from ..config import at_least, require_ranges, setting
from ..errors import ConfigError
from ..files import told_when_full
from ..latency_table import Conditions, LatencyTable, Measured
from ..space import SearchSpace

_logger = logging.getLogger("nni_autoformer")

SUFFIX = ".measuring"
"""What is appended to the output's name while it is measured."""

DOUBTFUL = 10.0
"""Percent of the 95th percentile of a table's error from which on the machine was too busy to measure."""


@dataclass(frozen=True)
class Measuring:
    """How thoroughly a space is measured.

    Raises:
        ConfigError: a value is out of its range; the sentence names the flag.
    """

    subnets: int = setting(
        30, "random whole subnets that correct the table and tell its error", at_least(30), metavar="N"
    )
    rounds: int = setting(10, "how often each part and subnet has its turn", at_least(1), metavar="N")
    seed: int = setting(0, "random seed of the subnets and of the order in a round", metavar="N")

    def __post_init__(self) -> None:
        require_ranges(self)


@dataclass(frozen=True)
class MeasuredLatency:
    """What a measurement has left.

    Attributes:
        output: file of the table.
        table: the table.
        fresh: False where the file held the finished table already.
    """

    output: Path
    table: LatencyTable
    fresh: bool = True


@dataclass(frozen=True)
class CheckedLatency:
    """A subnet's latency as a table has it and as a clock has it, in milliseconds."""

    name: str
    architecture: Architecture
    predicted: float
    measured: Measured

    @property
    def error(self) -> float:
        """Of the prediction, in percent of what was measured."""
        return 100 * (self.predicted / self.measured.median - 1)


def measure_latency(
    space: SearchSpace | str | Path,
    output: str | Path,
    *,
    conditions: Conditions = Conditions(),
    measuring: Measuring = Measuring(),
    resume: bool = False,
    overwrite: bool = False,
) -> MeasuredLatency:
    """Measure the parts of a space's subnets and some whole subnets, and write the table.

    Args:
        space: name of a packaged space, a YAML file, or the space itself.
        output: YAML file of the table; while it is measured, `OUTPUT.measuring` stands beside it.
        conditions: runtime, device, batch size, threads and precision.
        measuring: how thoroughly.
        resume: go on with an unfinished measurement.
        overwrite: replace a table, and an unfinished measurement.

    Raises:
        ConfigError: something that the user can put right, before anything is measured.
    """
    space, output = SearchSpace.load(space), Path(output)
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other.")
    if (finished := _finished(output, space, conditions, resume, overwrite)) is not None:
        return MeasuredLatency(output, finished, fresh=False)
    from ..latency.runtimes import require_runtime
    from .latency_state import sole_owner

    require_runtime(conditions)
    with sole_owner(output):
        table = _measured(space, output, conditions, measuring, resume, overwrite)
    return MeasuredLatency(output, table)


def _finished(
    output: Path, space: SearchSpace, conditions: Conditions, resume: bool, overwrite: bool
) -> LatencyTable | None:
    """The table that a resume finds finished, if it does."""
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder; it should be a YAML file.")
    unfinished = output.with_name(output.name + SUFFIX).exists()  # of one that replaces the table
    if not output.exists() or overwrite or (resume and unfinished):
        return None
    if not resume:
        raise ConfigError(f"--output {output} exists already; replace it with --overwrite, or name another.")
    table = LatencyTable.load(output)
    table.require(space)
    if table.conditions != conditions:
        raise ConfigError(
            f"--output {output} was measured with {table.conditions.told}, not with {conditions.told}; "
            "replace it with --overwrite, or name another."
        )
    return table


def _measured(
    space: SearchSpace,
    output: Path,
    conditions: Conditions,
    measuring: Measuring,
    resume: bool,
    overwrite: bool,
) -> LatencyTable:
    from ..latency.fit import table_from
    from ..latency.machine import machine, versions
    from ..latency.pieces import Piece, parts_of
    from ..latency.rounds import measure
    from ..search.random_subnets import draw_subnets
    from .latency_state import LatencyState

    facts = {"machine": machine(conditions), "versions": versions(conditions)}
    told = {"space": _told(space), **asdict(conditions), **asdict(measuring), **facts}
    state = LatencyState(output.with_name(output.name + SUFFIX), told)
    state.open(resume, overwrite)
    subnets = draw_subnets(space, measuring.subnets, seed=measuring.seed)
    parts = parts_of(space)
    pieces = list(dict.fromkeys([*parts, *(Piece("subnet", subnet) for subnet in subnets)]))
    _logger.info(
        f"Measuring '{space.name}' with {conditions.told}: {len(parts)} parts and {len(subnets)} random "
        f"subnets, {measuring.rounds} rounds."
    )
    times = measure(
        pieces,
        space.model,
        conditions,
        rounds=measuring.rounds,
        seed=measuring.seed,
        known=state.turns,
        record=state.record,
    )
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    table = table_from(space, conditions, times, parts, subnets, date=date, **facts)
    with told_when_full(output):
        table.save(output)
    state.remove()
    if table.error.p95 > DOUBTFUL:
        _logger.warning(
            f"The table predicts badly ({table.error.told}): has the machine had other work? More --rounds "
            "help, and fewer --threads than cores."
        )
    return table


def _told(space: SearchSpace) -> dict[str, Any]:
    return {key: value for key, value in space.to_dict().items() if key in ("choices", "model")}


def check_latency(
    table: LatencyTable | str | Path,
    architectures: Sequence[Architecture | str | Path],
    *,
    rounds: int = 10,
    seed: int = 0,
) -> list[CheckedLatency]:
    """Measure whole subnets under a table's conditions.

    Args:
        table: the table, or its file.
        architectures: subnets of the table's space: YAML files (a search writes best.yaml), or smallest,
            middle, largest.
        rounds: how often each has its turn.
        seed: seed of the rounds' orders.

    Raises:
        ConfigError: the table or an architecture cannot be read or do not fit together, or the table's
            runtime or device is not here.
    """
    table = table if isinstance(table, LatencyTable) else LatencyTable.load(table)
    if rounds < 1:
        raise ConfigError(f"--rounds is {rounds}; it should be at least 1.")
    subnets = [table.space.architecture(word) for word in architectures]
    from ..latency import measure_by_table
    from ..latency.machine import machine

    here = machine(table.conditions)
    if table.machine != here:
        _logger.warning(
            f"{table.source} was measured on another machine ({_machine_told(table.machine)}) than this one "
            f"({_machine_told(here)})."
        )
    times = measure_by_table(table, subnets, rounds=rounds, seed=seed)
    return [
        CheckedLatency(str(word), subnet, table.predicted(subnet), time)
        for word, subnet, time in zip(architectures, subnets, times)
    ]


def _machine_told(machine: Any) -> str:
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return f"{machine['processor']}, {machine['cores']} cores{gpu}"

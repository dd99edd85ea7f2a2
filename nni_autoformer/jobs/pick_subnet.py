"""The best subnet of a search or a sample under any limits, without evaluating again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..architecture import Architecture
from ..costs import KNOWN, NEEDS_TABLE, Costs, costs_of
from ..deployment import Deployment, Target
from ..errors import ConfigError
from ..files import told_when_full
from ..search.limits import Limits
from ..search.ranking import Ranking
from .found_subnets import FoundSubnets

_logger = logging.getLogger("nni_autoformer")

PICKED = "picked"
"""Folder within that of the search, for who names no other place."""


@dataclass(frozen=True)
class Picked:
    """A subnet that was picked.

    Attributes:
        number: position among the candidates or the subnets of the sample, from 0.
        architecture: the subnet.
        accuracy: top-1 in percent on the images of `split`.
        split: 'selection' or 'test'.
        costs: counts of the known costs, by name.
        file: where the architecture was written.
        complete: whether the search or the sample is.
        chosen_from: how many evaluated subnets meet the limits.
        checkpoint: the supernet's file, as far as the folder says it.
    """

    number: int
    architecture: Architecture
    accuracy: float
    split: str
    costs: Mapping[str, float]
    file: Path
    complete: bool
    chosen_from: int
    checkpoint: Path | None


def pick(
    search: str | Path,
    *,
    limits: Limits = Limits(),
    output: str | Path | None = None,
    rank_by: str | None = None,
    deployment: Deployment | None = None,
    latency_table: str | Path | None = None,
) -> Picked:
    """Pick the best evaluated subnet within limits, and write its architecture.

    Args:
        search: folder of a search or a sample, complete or not.
        limits: what the subnet may cost.
        output: the architecture's file, which must not exist yet; None for `picked/NUMBER.yaml` in the
            folder.
        rank_by: 'top1' or 'loss'; None for what the search ranked by.
        deployment: how the subnet will run, which decides its memory; None for what the search was told.
        latency_table: a table of latencies of the search's space.

    Raises:
        ConfigError: the folder holds no evaluated subnets, none of them meets the limits, or a file cannot
            be read or written.
    """
    found = FoundSubnets.of(Path(search))
    costs = _costs(found, limits, deployment, latency_table)
    if not found.subnets:
        raise ConfigError(f"--search {found.folder}: none of its subnets has an accuracy yet.")
    allowed = [entry for entry in found.subnets if limits.allows(entry.architecture, found.model, costs)]
    if not allowed:
        raise ConfigError(_nearest(found, limits, costs))
    cheaper = [costs[name] for name in limits.given or ("params",) if name in costs]
    ranking = Ranking(rank_by or found.rank_by, cheaper, found.model)
    best = min(
        allowed, key=lambda entry: ranking.key(entry.accuracy, entry.loss, entry.architecture, entry.number)
    )
    if not found.complete:
        of = f" of {found.planned:,}" if found.planned else ""
        _logger.warning(
            f"{found.folder}: the {found.job} is not complete: {len(found.subnets):,}{of} subnets have an "
            "accuracy so far."
        )
    file = Path(output) if output is not None else found.folder / PICKED / f"{best.number}.yaml"
    picked = Picked(
        best.number,
        best.architecture,
        best.accuracy,
        found.split,
        costs_of(best.architecture, found.model, costs),
        file,
        found.complete,
        len(allowed),
        found.checkpoint,
    )
    _write(picked, found, costs, new=output is not None)
    return picked


def _costs(
    found: FoundSubnets, limits: Limits, deployment: Deployment | None, table: str | Path | None
) -> Costs:
    costs = dict(found.costs)
    if found.space is None and table is not None:
        raise ConfigError(f"--latency-table needs the folder of a search; {found.folder} is of a sample.")
    if found.space is None and deployment not in (None, Deployment()):
        raise ConfigError(f"--search {found.folder}: a sample has the memory that it was told alone.")
    if found.space is not None and (table is not None or deployment not in (None, Deployment())):
        costs.update(Target.of(deployment or Deployment(), table).costs(found.space))
    for name in limits.given:
        if name not in costs:
            flag = f"--{'min' if limits[name][1] is None else 'max'}-{name}"
            if name == "latency" and found.space is not None:
                raise ConfigError(NEEDS_TABLE.format(flag))
            raise ConfigError(f"{flag}: {found.folder} does not say the {KNOWN[name].title} of its subnets.")
    return costs


def _nearest(found: FoundSubnets, limits: Limits, costs: Costs) -> str:
    """The sentence for limits that no subnet meets: what the nearest one costs, and what all cost."""
    counts = {
        name: [
            costs[name].value(entry.architecture, found.model) / costs[name].scale for entry in found.subnets
        ]
        for name in limits.given
    }
    spans = {name: (max(values) - min(values)) or 1.0 for name, values in counts.items()}

    def excess(place: int, name: str) -> float:
        low, high = limits[name]
        value = counts[name][place]
        over = 0.0 if high is None else value - high
        under = 0.0 if low is None else low - value
        return max(0.0, over, under)

    def distance(place: int) -> float:
        return sum(excess(place, name) / spans[name] for name in counts)

    place = min(range(len(found.subnets)), key=distance)
    missed = []
    for name, values in counts.items():
        if excess(place, name):
            cost, (low, high), value = costs[name], limits[name], values[place]
            side, limit = ("min", low) if high is None or value < high else ("max", high)
            missed.append(
                f"has {value:.6g} {cost.unit} {cost.title}, and --{side}-{name} is {limit:g} (they have "
                f"{min(values):.6g} to {max(values):.6g} {cost.unit})"
            )
    return (
        f"--search {found.folder}: none of its {len(found.subnets):,} evaluated subnets meets the limits. "
        f"The nearest one, number {found.subnets[place].number}, {'; it '.join(missed)}."
    )


def _write(picked: Picked, found: FoundSubnets, costs: Costs, new: bool) -> None:
    told = ", ".join(costs[name].short(count) for name, count in picked.costs.items())
    comment = (
        f"Best of {picked.chosen_from} subnets of a {found.job} within the limits: {picked.accuracy:.2f} % "
        f"on the {found.split} images,\n{told} (number {picked.number})."
    )
    file = picked.file
    if new and file.exists():
        raise ConfigError(f"--output {file} exists already; give another name.")
    model = None if found.space is None else found.space.model.to_dict()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with told_when_full(file):
            picked.architecture.to_yaml(file, comment, model)
    except OSError as error:
        raise ConfigError(f"--output {file} cannot be written: {error.strerror}.") from None

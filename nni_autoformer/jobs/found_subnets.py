"""The evaluated subnets of a folder that a search or a sample has left, and what is known of their costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..architecture import Architecture
from ..config import checked_values, shown
from ..costs import COSTS, KNOWN, Costs
from ..deployment import TABLE, Deployment, Target
from ..errors import ConfigError
from ..files import parse_json
from ..report.results import CANDIDATES, SAMPLES
from ..search.algorithms import SEARCHERS
from ..search.folder import STATE_FILE
from ..search.ledger import Ledger
from ..search.state_file import read_state
from ..space import ModelConfig, SearchSpace
from .old_run import RUN_FILE
from .run_folder import read_run
from .sample_folder import PART, read_answers


@dataclass(frozen=True)
class Evaluated:
    """A subnet with an accuracy.

    Attributes:
        number: position among the candidates or the subnets of the sample, from 0.
        architecture: the subnet.
        accuracy: top-1 in percent.
        loss: cross-entropy on the same images; None if it is not known.
    """

    number: int
    architecture: Architecture
    accuracy: float
    loss: float | None = None


@dataclass(frozen=True)
class FoundSubnets:
    """What a folder holds.

    Attributes:
        folder: the folder.
        subnets: those with an accuracy, in their order.
        costs: what is known of their costs.
        job: 'search' or 'sample'.
        split: the images that accuracies are on, 'selection' or 'test'.
        planned: how many subnets there will be; None if it is not known.
        complete: whether nothing more is expected.
        space: the search space; None if the folder does not say it.
        rank_by: what the search ranks by first.
        run: what the run was told, as its `run.json` has it.
    """

    folder: Path
    subnets: list[Evaluated]
    costs: Costs
    job: str
    split: str
    planned: int | None
    complete: bool
    space: SearchSpace | None = None
    rank_by: str = "top1"
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> ModelConfig:
        """The network around the subnets, which costs depend on."""
        return ModelConfig() if self.space is None else self.space.model

    @property
    def checkpoint(self) -> Path | None:
        """The supernet's file, as far as the folder says it."""
        named, own = self.run.get("checkpoint"), self.folder / "supernet.safetensors"
        return Path(named) if isinstance(named, str) else own if own.is_file() else None

    @classmethod
    def of(cls, folder: Path) -> FoundSubnets:
        """Read a folder.

        Raises:
            ConfigError: there is no such folder, it holds neither a search nor a sample, or a file is
                damaged; the sentence names file and key.
        """
        if not folder.is_dir():
            raise ConfigError(f"--search {folder}: there is no such folder.")
        config = read_run(folder / RUN_FILE)["config"] if (folder / RUN_FILE).is_file() else {}
        if (folder / STATE_FILE).is_file():
            return _of_search(folder, config)
        if (folder / SAMPLES).is_file() or list(folder.glob(PART.format("*"))):
            return _of_sample(folder, config)
        raise ConfigError(
            f"--search {folder}: the folder holds neither the state of a search ({STATE_FILE}) nor the "
            f"answers of a sample ({SAMPLES})."
        )


def _of_search(folder: Path, config: Mapping[str, Any]) -> FoundSubnets:
    file = folder / STATE_FILE
    state = read_state(file)
    evolution, details = state["evolution"], state["details"]
    setting = evolution["setting"]
    parts = {key: setting[key] for key in ("choices", "model") if key in setting}
    space = SearchSpace.from_dict({"name": "searched", **parts}, f"{file}: evolution.setting")
    name = next((name for name in SEARCHERS if name in setting), None)
    if name is None:
        raise ConfigError(f"{file}: evolution.setting names none of the algorithms {', '.join(SEARCHERS)}.")
    told = checked_values(SEARCHERS[name].configuration, setting[name], f"{file}: evolution.setting.{name}")
    ledger = Ledger.from_state(evolution["candidates"])
    for entry in ledger:
        space.require(entry.candidate.architecture, f"{file}: candidate {entry.candidate.number}")
    subnets = [
        Evaluated(number, entry.candidate.architecture, entry.accuracy, _number(details, number, "loss"))
        for number, entry in enumerate(ledger)
        if entry.accuracy is not None
    ]
    costs = Target(_deployment(config, folder)).costs(space)
    if (latencies := _latencies(folder, subnets)) is not None:
        costs["latency"] = replace(KNOWN["latency"], value=_looked_up(latencies))
    generations, last = told.get("generations", 0), evolution["generation"]
    over = last + 1 >= generations or all(entry.candidate.generation < last for entry in ledger)
    return FoundSubnets(
        folder,
        subnets,
        costs,
        "search",
        "selection",
        planned=told.get("population_size", 0) * generations,
        complete=evolution["closed"] and ledger.answered == len(ledger) and over,
        space=space,
        rank_by=str(told.get("rank_by", "top1")),
        run=config,
    )


def _latencies(folder: Path, subnets: Sequence[Evaluated]) -> dict[Architecture, float] | None:
    """The latency of every subnet, in milliseconds, as a search with a latency table has listed it; the state
    itself knows architectures and accuracies alone.
    """
    file, listed = folder / CANDIDATES, {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []:
        try:
            row = parse_json(line)
            number, latency = row["number"], row["latency"]
            architecture = Architecture.from_dict(row["architecture"], str(file))
        except (ValueError, RecursionError, TypeError, LookupError):  # a kill may have cut the last line
            continue
        if type(latency) in (int, float) and 0 < latency < math.inf:
            listed[number, architecture] = float(latency)
    known = {entry.architecture: listed.get((entry.number, entry.architecture)) for entry in subnets}
    found = {architecture: latency for architecture, latency in known.items() if latency is not None}
    return found if found and len(found) == len(subnets) else None


def _number(details: Mapping[str, Any], number: int, key: str) -> float | None:
    value = details.get(str(number), {}).get(key)
    return float(value) if type(value) in (int, float) else None


def _deployment(config: Mapping[str, Any], folder: Path) -> Deployment:
    """How the winner will run, as the search was told."""
    told = config.get("deployment", {})
    if not isinstance(told, Mapping):
        raise ConfigError(f"{folder / RUN_FILE}: config.deployment is {shown(told)}; it should hold keys.")
    flags = {name: value for name, value in told.items() if name != TABLE}
    return Deployment(**checked_values(Deployment, flags, f"{folder / RUN_FILE}: config.deployment"))


def _of_sample(folder: Path, config: Mapping[str, Any]) -> FoundSubnets:
    finished = (folder / SAMPLES).is_file() and not list(folder.glob(PART.format("*")))
    rows = [row for row in read_answers(folder) if not row.get("failed")]
    found = [
        (Architecture.from_dict(row["architecture"], f"{folder}: subnet {row.get('number')}"), row)
        for row in rows
    ]
    subnets = [
        Evaluated(int(row["number"]), architecture, float(row["top1"]), row.get("loss"))
        for architecture, row in found
    ]
    costs = {}
    for name in COSTS:
        counts = {subnet: row[name] for subnet, row in found if type(row.get(name)) in (int, float)}
        if len(counts) == len(found):
            costs[name] = replace(KNOWN[name], value=_looked_up(counts))
    split = str(rows[0]["split"]) if rows else "selection"
    return FoundSubnets(folder, subnets, costs, "sample", split, None, finished, run=config)


def _looked_up(counts: Mapping[Architecture, float]) -> Callable[[Architecture, ModelConfig], float]:
    return lambda architecture, model: counts[architecture]

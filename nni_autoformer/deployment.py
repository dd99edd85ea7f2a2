"""Where a subnet will run: what decides its memory and, by a latency table of the device, its latency."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .config import at_least, one_of, require_ranges, setting
from .costs import COSTS, Cost
from .errors import ConfigError
from .files import file_digest
from .latency_table import LatencyTable
from .latency_values import PRECISIONS, RUNTIMES
from .memory import memory
from .space import SearchSpace

GROUP = "deployment"

TABLE = "latency table"
"""Key of a table's digest in what a run keeps of its deployment."""


@dataclass(frozen=True)
class Deployment:
    """How the winner will run. What is None is as the latency table says.

    Raises:
        ConfigError: a value is out of its range.
    """

    deploy_batch_size: int | None = setting(
        None,
        "images per forward pass of the deployed subnet (default: the latency table's, else 1)",
        at_least(1),
        GROUP,
        "N",
    )
    deploy_precision: str | None = setting(
        None,
        "precision of the deployed subnet (default: the latency table's, else fp32)",
        one_of(*PRECISIONS),
        GROUP,
    )
    deploy_runtime: str | None = setting(
        None,
        "what runs the deployed subnet (default: the latency table's)",
        one_of(*RUNTIMES),
        GROUP,
    )

    def __post_init__(self) -> None:
        require_ranges(self)


@dataclass(frozen=True)
class Target:
    """A deployment with its latency table, if there is one.

    Attributes:
        deployment: what was told.
        table: measured latencies.
        path: the table's file.
    """

    deployment: Deployment = Deployment()
    table: LatencyTable | None = None
    path: Path | None = None

    @classmethod
    def of(cls, deployment: Deployment = Deployment(), path: str | Path | None = None) -> Target:
        """Read the table of a deployment.

        Args:
            deployment: how the winner will run.
            path: file of the latency table, or None.

        Raises:
            ConfigError: the file cannot be read, is damaged or no latency table, or was measured in another
                way than the deployment says; or a runtime is given without a table.
        """
        if path is None:
            if deployment.deploy_runtime is not None:
                raise ConfigError("--deploy-runtime needs --latency-table: it decides the latency alone.")
            return cls(deployment)
        table = LatencyTable.load(path)
        for name, given in asdict(deployment).items():
            key = name.removeprefix("deploy_")
            measured = getattr(table.conditions, key)
            if given not in (None, measured):
                flag = name.replace("_", "-")
                raise ConfigError(
                    f"--{flag} is {given}, and {path} was measured with {measured}; leave --{flag} out, or "
                    f"measure a table with nni-autoformer latency --{key.replace('_', '-')} {given}."
                )
        return cls(deployment, table, Path(path))

    def costs(self, space: SearchSpace) -> dict[str, Cost]:
        """What is known of the costs of a space's subnets.

        Raises:
            ConfigError: the table is of another space.
        """
        batch_size, precision = self.deployment.deploy_batch_size, self.deployment.deploy_precision
        if self.table is not None:
            self.table.require(space)
            conditions = self.table.conditions
            batch_size, precision = conditions.batch_size, conditions.precision
        value = functools.partial(memory, batch_size=batch_size or 1, precision=precision or "fp32")
        costs = {**COSTS, "memory": replace(COSTS["memory"], value=value)}
        return costs if self.table is None else {**costs, "latency": self.table.cost}

    @property
    def arguments(self) -> dict[str, Any]:
        """What a `TrialEvaluator` is told, as plain values."""
        path = None if self.path is None else str(self.path.resolve())
        batch_size, precision = self.deployment.deploy_batch_size, self.deployment.deploy_precision
        return {"latency_table": path, "deploy_batch_size": batch_size, "deploy_precision": precision}

    @property
    def record(self) -> dict[str, Any]:
        """What a run keeps of it, as JSON values; nothing but None where all is as by default."""
        digest = None if self.path is None else file_digest(self.path)
        return {**asdict(self.deployment), TABLE: digest}

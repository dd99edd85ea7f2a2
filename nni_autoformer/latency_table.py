"""A table of measured latencies, and what it predicts of any subnet of its space; loads no torch.

A network's latency is close to the sum of its parts': `offset + factor x (stem + blocks + head)`, with a time
per embedding size for stem (patches, class token, position) and head (norm, pooling, classifier), and one per
shape of a block. `nni-autoformer latency` measures the parts and fits offset and factor to whole subnets. The
file is YAML for people to read, with a checksum: a damaged time would mislead a search in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from .architecture import Architecture
from .costs import LATENCY, Cost
from .errors import ConfigError
from .files import write_text
from .latency_file import FORMAT, checked, checksum
from .latency_values import Conditions, Deviation, Measured, Parts, Shape
from .space import SearchSpace

__all__ = ["Conditions", "Deviation", "LatencyTable", "Measured", "Parts", "Shape"]


@dataclass(frozen=True)
class LatencyTable:
    """Measured latencies of a space's parts, corrected by whole subnets.

    Attributes:
        space: the search space.
        conditions: runtime, device, batch size, threads and precision.
        parts: times of the parts, in milliseconds.
        offset, factor: the correction, see the module; the offset is in milliseconds.
        error: how well the table predicts.
        subnets: the whole subnets that were measured for the correction.
        machine: processor, cores and GPU.
        versions: of Python and the packages that ran.
        date: when the measurement ended, ISO 8601 with the time zone.
        source: the file, for error messages.
    """

    space: SearchSpace
    conditions: Conditions
    parts: Parts
    offset: float
    factor: float
    error: Deviation
    subnets: Mapping[Architecture, Measured]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    date: str
    source: str = field(default="the latency table", compare=False)

    def predicted(self, architecture: Architecture) -> float:
        """The latency of a subnet of the table's space, in milliseconds."""
        return self.offset + self.factor * self.parts.total(architecture)

    def range(self, space: SearchSpace) -> tuple[float, float]:
        """The least and the greatest latency that is predicted of a subnet of a space, exactly.

        Args:
            space: the table's space, or one with fewer choices of it.
        """
        # a sum of floats is monotonic in each of its terms, so one block repeated gives the exact end
        choices = list(product(space.num_heads, space.mlp_ratio))
        ends = []
        for embed in space.embed_dim:
            time = {choice: self.parts.blocks[(embed, *choice)].median for choice in choices}
            for pick, depth in ((min, space.depth[0]), (max, space.depth[-1])):
                heads, ratio = pick(choices, key=time.__getitem__)
                ends.append(self.predicted(Architecture(embed, (heads,) * depth, (ratio,) * depth)))
        return min(ends), max(ends)

    @property
    def cost(self) -> Cost:
        """Latency as one of a subnet's costs."""
        return replace(
            LATENCY, value=lambda architecture, model: self.predicted(architecture), bounds=self.range
        )

    def require(self, space: SearchSpace) -> None:
        """Check that the table is of a space.

        Raises:
            ConfigError: it is of another one; the sentence says what differs.
        """
        if differences := self.space.differences(space):
            raise ConfigError(
                f"{self.source}: the table is of another space: {differences[0]} ('{space.name}'). Measure "
                "one of this space with nni-autoformer latency."
            )

    def save(self, path: str | Path) -> None:
        """Write as a YAML file that `load` reads, atomically."""
        content = self._content()
        header = f"# {self.conditions.told}: {self.error.told}\n# milliseconds; edited times are refused\n"
        text = yaml.safe_dump(
            {**content, "checksum": checksum(content)}, sort_keys=False, default_flow_style=None, width=110
        )
        write_text(path, header + text)

    def _content(self) -> dict[str, Any]:
        space = self.space.to_dict()
        del space["architectures"]
        blocks = [
            {"embed_dim": embed, "num_heads": heads, "mlp_ratio": ratio, **_times(time)}
            for (embed, heads, ratio), time in self.parts.blocks.items()
        ]
        sized = {
            name: [{"embed_dim": embed, **_times(time)} for embed, time in times.items()]
            for name, times in (("stem", self.parts.stem), ("head", self.parts.head))
        }
        return {
            "format": FORMAT,
            "date": self.date,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "conditions": asdict(self.conditions),
            "space": space,
            "offset": self.offset,
            "factor": self.factor,
            "error": asdict(self.error),
            "parts": {**sized, "blocks": blocks},
            "subnets": [
                {"architecture": architecture.to_dict(), **_times(time)}
                for architecture, time in self.subnets.items()
            ],
        }

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read a table, checked to the last value.

        Raises:
            ConfigError: the file cannot be read, is no latency table, has a key too many or too few, a value
                of a wrong kind or out of its range, lacks a part of its space, or was changed since it was
                written; the sentence names file and key.
        """
        table = cls(**checked(path), source=str(path))
        if table.range(table.space)[0] <= 0:
            raise ConfigError(f"{path}: offset is {table.offset:g}; by it a subnet takes less than no time.")
        return table


def _times(time: Measured) -> dict[str, float]:
    return {"ms": time.median, "low": time.low, "high": time.high}

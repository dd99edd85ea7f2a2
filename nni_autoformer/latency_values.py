"""What a latency is measured with and of, and how well it is predicted: the values of a latency table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .architecture import Architecture
from .config import Check, one_of, require_ranges, setting

RUNTIMES = ("torch", "compile", "onnxruntime", "openvino")

PRECISIONS = ("fp32", "bf16", "fp16")


def _whole_up_to(most: int) -> Check:
    return Check(lambda value: 1 <= value <= most, f"from 1 to {most:,}")


@dataclass(frozen=True)
class Conditions:
    """What a latency is measured with.

    Raises:
        ConfigError: a value is of another kind or out of its range; the sentence names the flag.
    """

    runtime: str = setting(
        "torch",
        "what runs the network; compile is torch.compile, on each block by itself",
        one_of(*RUNTIMES),
    )
    device: str = setting("cpu", "where it runs", one_of("cpu", "cuda"))
    batch_size: int = setting(1, "images that go through at once", _whole_up_to(65_536), metavar="N")
    threads: int = setting(1, "threads of the processor", _whole_up_to(4096), metavar="N")
    precision: str = setting("fp32", "number format of weights and activations", one_of(*PRECISIONS))

    def __post_init__(self) -> None:
        require_ranges(self)

    @property
    def told(self) -> str:
        """As a text: 'torch on the cpu, batch size 1, 2 threads, fp32'."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.runtime} on {self.device}, batch size {self.batch_size}, {threads}, {self.precision}"


@dataclass(frozen=True)
class Measured:
    """A latency in milliseconds, as repeated measurements have it.

    Attributes:
        median: what counts.
        low, high: lower and upper quartile.
    """

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Interquartile range, in milliseconds."""
        return self.high - self.low


Shape = tuple[int, int, float]
"""What a block's latency depends on: embedding size, heads and MLP ratio."""


@dataclass(frozen=True)
class Parts:
    """The latencies of what subnets are made of.

    Attributes:
        stem: patches, class token and position, by embedding size.
        head: norm, pooling and classifier, by embedding size.
        blocks: one block, by its shape.
    """

    stem: Mapping[int, Measured]
    head: Mapping[int, Measured]
    blocks: Mapping[Shape, Measured]

    def total(self, architecture: Architecture) -> float:
        """The sum over a subnet's parts, in milliseconds."""
        embed = architecture.embed_dim
        total = self.stem[embed].median + self.head[embed].median
        for heads, ratio in zip(architecture.num_heads, architecture.mlp_ratio):
            total += self.blocks[embed, heads, ratio].median
        return total


@dataclass(frozen=True)
class Deviation:
    """How far predictions are from measurements, on subnets that had no part in the fit that predicted them.

    Attributes:
        subnets: how many were compared.
        median, p95: median and 95th percentile of the absolute error, in percent of the measured latency.
        kendall_tau: rank correlation of predicted and measured.
    """

    subnets: int
    median: float
    p95: float
    kendall_tau: float

    @property
    def told(self) -> str:
        """As a text."""
        return (
            f"median {self.median:.2f} %, 95th percentile {self.p95:.2f} %, Kendall tau "
            f"{self.kendall_tau:.3f} ({self.subnets} subnets)"
        )

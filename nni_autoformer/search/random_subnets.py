"""Random subnets of a space: which ones, and which of them are worth a second look.

Every draw has a generator of its own, so the list is the same for any number of processes, and the first
subnets of a longer list are those of a shorter one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..architecture import Architecture
from ..costs import COSTS, Costs, costs_of
from ..errors import ConfigError
from ..randomness import generator
from ..space import SearchSpace
from .limits import Limits

DRAWS = 10_000
"""How often a subnet is drawn before it is concluded that no new one is left within the limits."""


@dataclass(frozen=True)
class SampledSubnet:
    """A subnet to evaluate.

    Attributes:
        number: position in the list, from 0.
        architecture: which subnet.
        name: what the user called it; empty for a random one.
    """

    number: int
    architecture: Architecture
    name: str = ""

    @property
    def told(self) -> str:
        """Its number, and its name if it has one."""
        return f"{self.number} '{self.name}'" if self.name else str(self.number)

    def row(self, space: SearchSpace, costs: Costs = COSTS) -> dict[str, Any]:
        """What is known of it before it is evaluated, as JSON values; the keys are those of a search's
        candidates.
        """
        return {
            "number": self.number,
            "origin": "given" if self.name else "random",
            "name": self.name,
            "architecture": self.architecture.to_dict(),
            **costs_of(self.architecture, space.model, costs),
        }


def draw_subnets(
    space: SearchSpace, count: int, limits: Limits = Limits(), seed: int = 0, costs: Costs = COSTS
) -> list[Architecture]:
    """Different subnets of a space within limits, each drawn uniformly in the published order.

    Args:
        space: the space.
        count: how many.
        limits: what a subnet may cost.
        seed: random seed of all draws.
        costs: what is known of a subnet's costs.

    Returns:
        `count` subnets, or all that are within the limits if a small space has fewer.

    Raises:
        ConfigError: no subnet meets the limits, or in a large space too few were found.
    """
    limits.require_feasible(space, costs)
    found: dict[Architecture, None] = {}  # in the order of the draws
    for number in range(count):
        rng = generator(seed, "sample", number)
        for _ in range(DRAWS):
            architecture = space.sample(rng)
            if architecture not in found and limits.allows(architecture, space.model, costs):
                found[architecture] = None
                break
        else:
            return _and_the_rest(space, count, limits, costs, found)
    return list(found)


def _and_the_rest(
    space: SearchSpace, count: int, limits: Limits, costs: Costs, found: Mapping[Architecture, None]
) -> list[Architecture]:
    if space.size > DRAWS:  # too many to look at all
        raise ConfigError(
            f"--n {count}: only {len(found)} different subnets within the limits were found in "
            f"'{space.name}', and no other one in {DRAWS:,} draws; widen the limits or ask for fewer."
        )
    rest = [entry for entry in space if entry not in found and limits.allows(entry, space.model, costs)]
    if not found and not rest:
        raise ConfigError(f"no subnet of '{space.name}' is within the limits; widen them.")
    return [*found, *rest][:count]


# What a sample tells

Row = Mapping[str, Any]


def rank(row: Row) -> tuple[float, ...]:
    """Sorts rows that have an accuracy, best first, as a search ranks its candidates."""
    loss = row.get("loss")  # earlier versions measured none
    return -row["top1"], math.inf if loss is None else loss, row["params"], row["number"]


def with_accuracy(rows: Sequence[Row]) -> list[Row]:
    """The rows of subnets that have an accuracy; those whose logits are not finite have none."""
    return [row for row in rows if not row.get("failed")]


def best_of_sizes(rows: Sequence[Row], sizes: int) -> list[dict[str, Any]]:
    """The best random subnet of every size: the sampled range of parameters is cut at round numbers.

    Args:
        rows: evaluated subnets; those that the user named are left out.
        sizes: about how many.

    Returns:
        A row per size that has a subnet, smallest first: `from` and `to` in millions of parameters (the lower
        end counts, the upper does not), how many `subnets`, the `mean` and standard deviation `std` of their
        accuracies, and the row of the `best`, see `rank`.
    """
    random = [row for row in rows if row["origin"] == "random"]
    counts = [row["params"] / 1e6 for row in random]
    step = round_step((max(counts) - min(counts)) / sizes, max(counts))
    groups: dict[int, list[Row]] = {}
    for row, count in zip(random, counts):
        groups.setdefault(math.floor(count / step + 1e-9), []).append(row)
    found = []
    for index, members in sorted(groups.items()):
        accuracies = [row["top1"] for row in members]
        found.append(
            {
                "from": float(f"{index * step:.6g}"),
                "to": float(f"{(index + 1) * step:.6g}"),
                "subnets": len(members),
                "mean": statistics.fmean(accuracies),
                "std": statistics.pstdev(accuracies),
                "best": min(members, key=rank),
            }
        )
    return found


def round_step(width: float, largest: float) -> float:
    """The smallest of 1, 2, 2.5, 5 and 10 times a power of ten that is not below a width.

    Args:
        width: width of the range, above 0, or 0 for one that is a point.
        largest: gives a step in that case.
    """
    width = width or largest / 10
    power = 10.0 ** math.floor(math.log10(width))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= width * (1 - 1e-9))


def standing(rows: Sequence[Row], row: Row) -> tuple[float, float]:
    """How a named subnet compares: in percent, how many of the random subnets it beats, and how many of those
    with at most as many parameters. Of an empty group it beats 100 %.
    """
    others = [other for other in rows if other["origin"] == "random"]
    cheap = [other for other in others if other["params"] <= row["params"]]
    shares = (
        statistics.fmean(100.0 * (row["top1"] > other["top1"]) for other in group) if group else 100.0
        for group in (others, cheap)
    )
    return next(shares), next(shares)


def standard_error(top1: float, images: int) -> float:
    """Of an accuracy in percent that was measured on so many images."""
    return math.sqrt(top1 * (100 - top1) / images)

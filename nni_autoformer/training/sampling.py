"""Which subnets a step of supernet training trains: rules behind one small interface.

Every rule is a function of (seed, step): a resume, another number of processes and a repetition draw the
same.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

from ..architecture import Architecture
from ..complexity import params
from ..randomness import generator
from ..space import SearchSpace


class Sampling(ABC):
    """A rule.

    Args:
        space: search space that is drawn from.
        seed: random seed of the run.
    """

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        self.space, self.seed = space, seed

    @abstractmethod
    def architectures(self, step: int) -> tuple[Architecture, ...]:
        """The subnets that an optimizer step trains, on every rank and in all of its micro-batches. The first
        learns from the labels; others, where there are any, learn what the first answers.
        """

    def _generator(self, step: int) -> random.Random:
        return generator(self.seed, "subnet", step)


class Uniform(Sampling):
    """The paper's (section 3.3): one subnet, every choice as likely as the others."""

    def architectures(self, step: int) -> tuple[Architecture, ...]:
        """One random subnet."""
        return (self.space.sample(self._generator(step)),)


class Sandwich(Sampling):
    """The largest subnet, random ones and the smallest in every step; all but the largest learn the largest
    one's answers (slimmable networks, Yu and Huang 2019, arXiv:1903.05134; BigNAS, Yu et al. 2020,
    arXiv:2003.11142).

    A step costs as many passes as it trains subnets, so compare it with other rules at equal passes.

    Args:
        space: search space that is drawn from.
        seed: random seed of the run.
        count: random subnets.
    """

    def __init__(self, space: SearchSpace, seed: int = 0, count: int = 2) -> None:
        super().__init__(space, seed)
        self.count = count

    def architectures(self, step: int) -> tuple[Architecture, ...]:
        """The largest, then the random ones, then the smallest; in a space of one subnet that one alone."""
        if self.space.size == 1:
            return (self.space.largest,)
        rng = self._generator(step)
        between = [self.space.sample(rng) for _ in range(self.count)]
        return (self.space.largest, *between, self.space.smallest)


class Balanced(Sampling):
    """One subnet, so that all numbers of parameters between the smallest and the largest come up as often.

    A uniform draw of every choice adds up many independent layers, so that it hardly meets the ends of the
    space: in the paper's spaces the largest tenth of the range of sizes gets fewer than one draw in a
    thousand, the smallest about five in a hundred or fewer; and the largest subnets are those that the
    published supernets are weak at. Here a size is drawn first, uniformly over the range, then subnets from
    the distribution that is closest to the uniform one (by relative entropy) of all whose mean is that size;
    of a few of them, the nearest to the size is trained. That distribution tilts each subnet's probability by
    exp(t x parameters). Under it the layers of a given embedding size are independent, so that a draw is
    exact and cheap.
    """

    GRID = 64
    """Sizes at which the tilt is solved for; between them it is interpolated."""

    CANDIDATES = 8
    """Draws of which the nearest to the size is taken."""

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        super().__init__(space, seed)
        model = space.model
        self._low, high = params(space.smallest, model), params(space.largest, model)
        self._range = max(high - self._low, 1)
        self._pairs = list(product(space.depth, space.embed_dim))
        self._layers = list(product(space.num_heads, space.mlp_ratio))
        self._sizes: dict[int, tuple[float, list[float]]] = {}  # per embed_dim: of the rest, of each layer
        for embed_dim in space.embed_dim:
            one = [params(Architecture(embed_dim, (h,), (r,)), model) for h, r in self._layers]
            two = params(Architecture(embed_dim, self._layers[0][:1] * 2, self._layers[0][1:] * 2), model)
            rest = 2 * one[0] - two
            self._sizes[embed_dim] = (rest / self._range, [(size - rest) / self._range for size in one])
        self._targets = [(i + 0.5) / self.GRID for i in range(self.GRID)]
        self._tilts = [self._solve(self._low / self._range + target) for target in self._targets]

    def architectures(self, step: int) -> tuple[Architecture, ...]:
        """One subnet near a random size."""
        rng = self._generator(step)
        target = rng.random()
        tilt = self._tilt(target)
        weights = _normalised([self._log_weight(tilt, *pair) for pair in self._pairs])
        candidates = [
            self._candidate(rng, tilt, *pair) for pair in rng.choices(self._pairs, weights, k=self.CANDIDATES)
        ]
        wanted = self._low + target * self._range
        return (min(candidates, key=lambda entry: abs(params(entry, self.space.model) - wanted)),)

    def _candidate(self, rng: random.Random, tilt: float, depth: int, embed_dim: int) -> Architecture:
        tilted = _normalised([tilt * size for size in self._sizes[embed_dim][1]])
        heads, ratios = zip(*rng.choices(self._layers, tilted, k=depth))
        return Architecture(embed_dim, heads, ratios)

    def _tilt(self, target: float) -> float:
        after = min(max(bisect(self._targets, target), 1), self.GRID - 1)
        low, high = self._targets[after - 1], self._targets[after]
        share = min(max((target - low) / (high - low), 0.0), 1.0)
        return (1 - share) * self._tilts[after - 1] + share * self._tilts[after]

    def _log_weight(self, tilt: float, depth: int, embed_dim: int) -> float:
        rest, sizes = self._sizes[embed_dim]
        return tilt * rest + depth * (_log_sum([tilt * size for size in sizes]) - math.log(len(sizes)))

    def _mean(self, tilt: float) -> float:
        weights = _normalised([self._log_weight(tilt, *pair) for pair in self._pairs])
        mean = 0.0
        for weight, (depth, embed_dim) in zip(weights, self._pairs):
            rest, sizes = self._sizes[embed_dim]
            layer = sum(w * s for w, s in zip(_normalised([tilt * size for size in sizes]), sizes))
            mean += weight * (rest + depth * layer)
        return mean

    def _solve(self, wanted: float) -> float:
        # the mean rises with the tilt; sizes are in units of the range, so tilts beyond this change nothing
        low, high = -1e4, 1e4
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self._mean(middle) < wanted else (low, middle)
        return (low + high) / 2


def _log_sum(logs: list[float]) -> float:
    largest = max(logs)
    return largest + math.log(sum(math.exp(value - largest) for value in logs))


def _normalised(logs: list[float]) -> list[float]:
    total = _log_sum(logs)
    return [math.exp(value - total) for value in logs]


class Widening(Sampling):
    """A rule in a space that is widened while training (progressive shrinking, Cai et al. 2020,
    arXiv:1908.09791): in the first half of `steps` the largest subnet alone, in the second also fewer heads
    and lower MLP ratios, then the whole space.

    A supernet that begins as a pretrained network then settles before the small subnets change the weights
    that all share. What costs a subnet least comes first: heads and hidden neurons are a layer's own matter,
    an embedding channel or a whole layer is missing everywhere behind it.

    Args:
        rule: makes the rule for a space.
        space: the whole space.
        steps: optimizer steps before the whole space is trained.
        seed: random seed of the run.
    """

    def __init__(
        self, rule: Callable[[SearchSpace], Sampling], space: SearchSpace, steps: int, seed: int = 0
    ) -> None:
        super().__init__(space, seed)
        widest: dict[str, Any] = {"embed_dim": space.embed_dim[-1:], "depth": space.depth[-1:]}
        largest = widest | {"num_heads": space.num_heads[-1:], "mlp_ratio": space.mlp_ratio[-1:]}
        # named subnets need not be in a part of the space
        parts = [replace(space, **sizes, architectures={}) for sizes in (largest, widest)]
        self._rules = [rule(part) for part in (*parts, space)]
        self._ends = (steps // 2, steps)

    def architectures(self, step: int) -> tuple[Architecture, ...]:
        """What the rule draws in the part of the space that the step trains."""
        return self._rules[bisect(self._ends, step)].architectures(step)


def sampling_rule(
    name: str, space: SearchSpace, seed: int = 0, count: int = 2, widen_steps: int = 0
) -> Sampling:
    """A rule by its name in a recipe.

    Args:
        name: 'uniform', 'sandwich' or 'balanced'.
        space: search space that is drawn from.
        seed: random seed of the run.
        count: random subnets of a sandwich.
        widen_steps: optimizer steps before the whole space is trained, see `Widening`.
    """
    if widen_steps:
        return Widening(lambda part: sampling_rule(name, part, seed, count), space, widen_steps, seed)
    if name == "sandwich":
        return Sandwich(space, seed, count)
    return {"uniform": Uniform, "balanced": Balanced}[name](space, seed)

"""A Gaussian process that knows what has been evaluated, and says which children are worth evaluating next.

It is fitted to complete generations only and its hyperparameters come from a fixed grid, so a search is the
same at any concurrency, order of answers and number of threads, and a resumed one needs no stored model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy

from ..architecture import Architecture
from ..complexity import macs, params
from ..errors import ConfigError
from ..space import SearchSpace

Array = numpy.ndarray[Any, numpy.dtype[numpy.float64]]

FEWEST = 4
"""Evaluated subnets that a model needs."""

MOST_TUNED, MOST_FITTED = 300, 1500
"""Evaluated subnets that the hyperparameters, and that the model itself, are fitted to at most: the time
grows with the third power.
"""

DIGITS = 5
"""Decimals of what the model says: what is below them may depend on the processor and its libraries."""

GLOBAL = 6
"""Features of the whole subnet, which come first."""

SCALES = tuple(2.0**k for k in range(0, 7))
AMPLITUDES = (0.5, 2.0, 8.0, 32.0)
NOISES = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
SWEEPS = 2
"""Values of the hyperparameters for features and accuracies of variance 1, and how often each is tried."""


def features(architectures: Sequence[Architecture], space: SearchSpace) -> Array:
    """What the model knows of subnets: embedding size, depth, mean heads and ratio, parameters and MACs, then
    heads and ratio of each layer, 0 for those that a subnet does not have.

    Args:
        architectures: the subnets.
        space: their search space.

    Returns:
        (subnets, 6 + 2 · largest depth).
    """
    rows = []
    for architecture in architectures:
        depth, missing = architecture.depth, space.max_depth - architecture.depth
        heads, ratios = architecture.num_heads, architecture.mlp_ratio
        costs = params(architecture, space.model), macs(architecture, space.model)
        whole = architecture.embed_dim, depth, sum(heads) / depth, sum(ratios) / depth, *costs
        rows.append([*whole, *heads, *[0] * missing, *ratios, *[0] * missing])
    return numpy.array(rows, dtype=float).reshape(len(rows), GLOBAL + 2 * space.max_depth)


class Surrogate:
    """A model of the accuracy of a space's subnets.

    Args:
        space: search space of the subnets.
        architectures: evaluated subnets, at least `FEWEST`, in an order that does not depend on how they were
            evaluated.
        accuracies: their accuracies in percent.

    Raises:
        ConfigError: scikit-learn is missing.
    """

    def __init__(
        self, space: SearchSpace, architectures: Sequence[Architecture], accuracies: Sequence[float]
    ) -> None:
        self.space = space
        rows, values = features(architectures, space), numpy.array(accuracies, dtype=float)
        chosen = _spread(values, MOST_FITTED)
        rows, values = rows[chosen], values[chosen]
        self._shift, self._scale = rows.mean(axis=0), _deviation(rows)
        self._mean, self._deviation = float(values.mean()), float(_deviation(values))
        rows, values = (rows - self._shift) / self._scale, (values - self._mean) / self._deviation
        with _one_thread():
            self._process = _fitted(rows, values)

    def predict(self, architectures: Sequence[Architecture]) -> tuple[Array, Array]:
        """Expected accuracies and their standard deviations, in percent."""
        with _one_thread():
            mean, deviation = self._process.predict(self._rows(architectures), return_std=True)
        known = numpy.sqrt(numpy.clip(deviation**2 - self._noise, 0, None))  # not the noise of an evaluation
        return self._told(mean), numpy.round(known * self._deviation, DIGITS)

    def apart(self, architectures: Sequence[Architecture], count: int, weight: float) -> list[int]:
        """The most promising subnets that are not all of one kind: one after the other that of the highest
        upper confidence bound, which those before it lower where they would tell the same (Desautels et al.
        2014, GP-BUCB).

        Args:
            architectures: the subnets.
            count: how many are wanted.
            weight: standard deviations above the expected accuracy.

        Returns:
            Positions in the list, the most promising first.
        """
        with _one_thread():
            mean, covariance = self._process.predict(self._rows(architectures), return_cov=True)
        mean, noise = self._told(mean), self._noise
        covariance = covariance - noise * numpy.eye(len(mean))
        left, chosen = numpy.ones(len(mean), dtype=bool), []
        for _ in range(min(count, len(mean))):
            variance = numpy.clip(numpy.diagonal(covariance), 0, None)
            bounds = numpy.round(mean + weight * self._deviation * numpy.sqrt(variance), DIGITS)
            position = int(numpy.argmax(numpy.where(left, bounds, -numpy.inf)))
            chosen.append(position)
            left[position] = False
            column = covariance[:, position]
            covariance = covariance - numpy.outer(column, column) / (variance[position] + noise)
        return chosen

    @property
    def _noise(self) -> float:
        return float(self._process.kernel_.k2.noise_level)

    def _rows(self, architectures: Sequence[Architecture]) -> Array:
        return (features(architectures, self.space) - self._shift) / self._scale

    def _told(self, mean: Array) -> Array:
        told: Array = numpy.round(self._mean + self._deviation * mean, DIGITS)
        return told


def _fitted(rows: Array, values: Array) -> Any:
    try:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
    except ImportError as error:
        raise ConfigError(
            f"--surrogate needs scikit-learn, which cannot be imported ({error}); install it with "
            "'pip install scikit-learn', or search without --surrogate."
        ) from None
    kernel = ConstantKernel(2.0) * Matern(numpy.full(rows.shape[1], 8.0), nu=2.5) + WhiteKernel(0.1)
    tuned = _spread(values, MOST_TUNED)
    process = GaussianProcessRegressor(kernel, alpha=1e-6, optimizer=_on_the_grid)
    process.fit(rows[tuned], values[tuned])
    if len(tuned) == len(rows):
        return process
    return GaussianProcessRegressor(process.kernel_, alpha=1e-6, optimizer=None).fit(rows, values)


def _on_the_grid(objective: Callable[..., float], start: Array, bounds: Any) -> tuple[Array, float]:
    """The hyperparameters of the grid that the data make likeliest, one after the other.

    A gradient's steps would end somewhere else with every rounding; a choice from a few does not.
    """
    groups = [
        (slice(0, 1), AMPLITUDES),
        (slice(1, 1 + GLOBAL), SCALES),
        (slice(1 + GLOBAL, -1), SCALES),
        (slice(-1, None), NOISES),
    ]
    best, lowest = start.copy(), round(objective(start, eval_gradient=False), DIGITS)
    for _ in range(SWEEPS):
        before = lowest
        for group, values in groups:
            for value in values:
                theta = best.copy()
                theta[group] = numpy.log(value)
                if (found := round(objective(theta, eval_gradient=False), DIGITS)) < lowest:
                    best, lowest = theta, found
        if lowest == before:
            break
    return best, lowest


def _spread(values: Array, most: int) -> Any:
    """Positions of up to so many values: half of them the highest, the others evenly from the rest."""
    if len(values) <= most:
        return numpy.arange(len(values))
    order = numpy.argsort(-values, kind="stable")
    rest = order[most // 2 :]
    evenly = numpy.linspace(0, len(rest) - 1, most - most // 2).round().astype(int)
    return numpy.sort(numpy.concatenate([order[: most // 2], rest[evenly]]))


def _deviation(values: Array) -> Any:
    found = values.std(axis=0)
    return numpy.where(found > 1e-12, found, 1.0)


def _one_thread() -> Any:
    """Linear algebra with as many threads everywhere: others would round otherwise."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # comes with scikit-learn, whose absence has its own sentence
        return nullcontext()
    return threadpool_limits(1, "blas")

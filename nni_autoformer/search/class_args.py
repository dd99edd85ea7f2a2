"""The class arguments of the tuner, as an experiment's `config.yml` gives them: checked before all else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoints.header import own_header
from ..config import Setting, settings_of, shown
from ..deployment import Deployment, Target
from ..errors import ConfigError
from ..files import file_digest
from ..space import SearchSpace
from .algorithms import algorithm_of
from .driver import RETRIES
from .evolution import Evolution
from .limits import LIMITS, Limits
from .searcher import Searcher

FILES = ("space", "checkpoint", "output", "latency_table")
TEXTS = (*FILES, "optimize_mode", "algorithm")


@dataclass(frozen=True)
class ClassArgs:
    """What the tuner was told; each value has its type and is in its range.

    Attributes:
        space: name of a packaged space, or a YAML file.
        checkpoint: file of a supernet.
        output: folder of the search's files.
        latency_table: file of measured latencies of the device.
        retries: how often a failing trial is run again before its candidate is given up.
        algorithm: name of the search algorithm.
        limits: limits by name.
        deployment: how the winner will run.
        settings: settings of the algorithm by name.
    """

    space: str | None = None
    checkpoint: str | None = None
    output: str | None = None
    latency_table: str | None = None
    retries: int = RETRIES
    algorithm: str = Evolution.algorithm
    limits: Mapping[str, float | None] = field(default_factory=dict)
    deployment: Deployment = Deployment()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> ClassArgs:
        """Check class arguments.

        Raises:
            ConfigError: one is unknown, of another kind or out of its range; the sentence names it.
        """
        given = dict(arguments)
        for name in TEXTS:
            optional = name in FILES
            if name in given and not (isinstance(given[name], str) or (optional and given[name] is None)):
                raise _wrong(name, given[name], "text")
        if given.pop("optimize_mode", "maximize") != "maximize":
            mode = shown(repr(arguments["optimize_mode"]))
            raise ConfigError(f"classArgs: optimize_mode is {mode}; accuracy can only be maximized.")
        algorithm = given.pop("algorithm", cls.algorithm)
        retries = given.pop("retries", RETRIES)
        if type(retries) is not int or retries < 0:
            raise _wrong("retries", retries, "a whole number, 0 or more")
        names = {name: given.pop(name, None) for name in FILES}
        limits = {name: given.pop(name) for name in LIMITS if name in given}
        for name, value in limits.items():
            if value is not None and not (_is_finite(value) and value >= 0):
                raise _wrong(name, value, "a finite number, 0 or more")
        deployment = {name: given.pop(name) for name in settings_of(Deployment) if name in given}
        settings = _settings(algorithm, given)
        return cls(
            **names,
            retries=retries,
            algorithm=algorithm,
            limits=limits,
            deployment=Deployment(**_checked(deployment, settings_of(Deployment))),
            settings=settings,
        )

    def searcher(self, base: Path) -> Searcher:
        """The search that they describe.

        Args:
            base: folder that relative paths start from.

        Raises:
            ConfigError: the space or the checkpoint cannot be read, or no subnet meets the limits.
        """
        algorithm = algorithm_of(self.algorithm)
        config = algorithm.configuration(**self.settings)
        try:
            space = self._space(base)
        except OSError as error:  # a name that is too long, a file that is not ours to read
            raise ConfigError(
                f"classArgs: {shown(error.filename)} cannot be read: {error.strerror}."
            ) from None
        table = None if self.latency_table is None else base / self.latency_table
        costs = Target.of(self.deployment, table).costs(space)
        return algorithm(space, Limits(**self.limits), config, costs)

    def contents(self, base: Path) -> dict[str, str]:
        """Digests of what the trials evaluate with, as far as the tuner knows it, see `SearchFolder`."""
        files = {"checkpoint": self.checkpoint, "latency table": self.latency_table}
        return {name: file_digest(base / path) for name, path in files.items() if path is not None}

    def _space(self, base: Path) -> SearchSpace:
        expected = None
        if self.space is not None:
            file = base / self.space
            expected = SearchSpace.load(file if file.is_file() else self.space)
        if self.checkpoint is None:
            if expected is None:
                raise ConfigError("classArgs: 'checkpoint' or 'space' is needed, to know what is searched.")
            return expected
        header = own_header(base / self.checkpoint)
        if header is None:
            if expected is None:
                raise ConfigError(
                    f"classArgs: {self.checkpoint} does not say which search space it is for; give 'space' "
                    "too."
                )
            return expected
        if expected is not None:
            same = expected.with_model(num_classes=header.space.model.num_classes)
            if differences := same.differences(header.space):
                raise ConfigError(
                    f"classArgs: {self.checkpoint} is of another search space than '{self.space}': "
                    f"{'; '.join(differences)} (here: space, there: the checkpoint)."
                )
        return header.space


def _settings(algorithm: str, given: Mapping[str, Any]) -> dict[str, Any]:
    entries = settings_of(algorithm_of(algorithm, "classArgs: algorithm").configuration)
    for name in given:
        if name not in entries:
            known = ", ".join((*TEXTS, "retries", *LIMITS, *settings_of(Deployment), *entries))
            raise ConfigError(
                f"classArgs: unknown argument '{shown(name)}'; known with the algorithm '{algorithm}' are "
                f"{known}."
            )
    return _checked(given, entries)


def _checked(given: Mapping[str, Any], entries: Mapping[str, Setting]) -> dict[str, Any]:
    values = {}
    for name, value in given.items():
        if wanted := entries[name].problem(value):
            raise _wrong(name, value, wanted)
        values[name] = entries[name].read(value)
    return values


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floating-point ones
        return False


def _wrong(name: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"classArgs: {name} is {shown(repr(value))}; it should be {wanted}.")

"""NNI's one-shot strategy for supernet training, with randomness that is derived from the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import nni.nas.strategy  # noqa: F401  (first: importing nni.nas.oneshot before it is a circular import)
from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.oneshot.pytorch.strategy import RandomOneShot

from ..architecture import Architecture
from ..model import AutoFormer, entangle
from .module import ArchitectureAt, SupernetModule


class SupernetTraining(RandomOneShot):
    """Train an entangled supernet: one random subnet per step (paper section 3.3), on top of NNI's
    `RandomOneShot`.

    Use it as any strategy of NNI: ``NasExperiment(AutoFormer(space), evaluator,
    SupernetTraining(seed=0)).run()``; the trained supernet is ``strategy.supernet`` afterwards.

    Args:
        seed: of the initial weights, the subnets and everything that the network draws while training.
        subnets: what to validate, by name; None for the space's own named subnets.
        architecture_at: which subnet an optimizer step trains; None for a uniform draw.
        kwargs: as for `RandomOneShot`.
    """

    def __init__(
        self,
        seed: int = 0,
        subnets: Mapping[str, Architecture] | None = None,
        architecture_at: ArchitectureAt | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self._subnets = subnets
        self._architecture_at = architecture_at

    def mutate_model(self, model: AutoFormer) -> AutoFormer:
        """Turn the model space into a supernet, in place, with weights that the seed decides."""
        return entangle(model, super().mutate_model, self.seed)

    def configure_oneshot_module(self, training_module: LightningModule) -> SupernetModule:
        """The module that chooses the subnets around the recipe."""
        return SupernetModule(training_module, self.seed, self._subnets, self._architecture_at)

    @property
    def supernet(self) -> AutoFormer:
        """The supernet, once the experiment runs."""
        return cast(AutoFormer, super().supernet)

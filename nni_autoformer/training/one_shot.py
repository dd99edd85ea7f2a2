"""NNI's one-shot strategy for supernet training, with randomness that is derived from the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import nni.nas.strategy  # noqa: F401  (first: importing nni.nas.oneshot before it is a circular import)
from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.oneshot.pytorch.strategy import RandomOneShot

from ..architecture import Architecture
from ..experiment import fixes
from ..model import AutoFormer, entangle
from ..nn.subnet import Subnet
from .supernet import SamplingOf, SupernetModule


class SupernetTraining(RandomOneShot):
    """Train an entangled supernet: by default one random subnet per step (paper section 3.3), on top of NNI's
    `RandomOneShot`.

    Use it as any strategy of NNI: ``NasExperiment(AutoFormer(space), evaluator,
    SupernetTraining(seed=0)).run()``; the trained supernet is ``strategy.supernet`` afterwards.

    Args:
        seed: random seed of the initial weights, the subnets and everything that the network draws while
            training.
        subnets: what to validate, by name; None for the space's own named subnets.
        sampling_of: makes the rule that says which subnets a step trains, as in `lambda space:
            Balanced(space, seed)`; None for the paper's, one at random.
        initial: the largest subnet with the weights that the supernet starts from; None for new ones.
        kwargs: further arguments, as for `RandomOneShot`.
    """

    def __init__(
        self,
        seed: int = 0,
        subnets: Mapping[str, Architecture] | None = None,
        sampling_of: SamplingOf | None = None,
        initial: Subnet | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        fixes.apply()
        self.seed = seed
        self._subnets = subnets
        self._sampling_of = sampling_of
        self._initial = initial

    def mutate_model(self, model: AutoFormer) -> AutoFormer:
        """Turn the model space into a supernet, in place, with the weights that it starts from, or new ones
        that the seed decides.
        """
        supernet = entangle(model, super().mutate_model, self.seed)
        if self._initial is not None:
            supernet.implant(self._initial)
        return supernet

    def configure_oneshot_module(self, training_module: LightningModule) -> SupernetModule:
        """The module that chooses the subnets around the recipe."""
        return SupernetModule(training_module, self.seed, self._subnets, self._sampling_of)

    @property
    def supernet(self) -> AutoFormer:
        """The supernet, once the experiment runs."""
        return cast(AutoFormer, super().supernet)

"""The Lightning module of the supernet: which subnets a step trains, and which are validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.oneshot.pytorch.sampling import RandomSamplingLightningModule
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from ..architecture import Architecture
from ..checkpoints.metrics import AVERAGED, VALIDATED
from ..errors import ConfigError
from ..model import AutoFormer
from ..randomness import derive
from ..space import SearchSpace
from .augment import seed_streams
from .module import ImageClassification, Lesson, NamedAccuracies
from .sampling import Sampling, Uniform

SamplingOf = Callable[[SearchSpace], Sampling]
"""Makes the rule for a space."""


class SupernetModule(RandomSamplingLightningModule):
    """What the one-shot strategy puts around the recipe: which subnets a step trains, and which ones are
    validated.

    NNI's own module draws the subnet from a generator that the operating system seeds, on each rank another
    one, and validates another random subnet on every batch. Here the subnets are a function of (seed, step)
    and the validated subnets have names; their accuracies in percent are logged as `val_acc_percent/{name}`,
    and those of the supernet's moving average, where it has one, as `val_acc_ema_percent/{name}`.

    Args:
        training_module: the recipe, see `ImageClassification`.
        seed: random seed of the run.
        subnets: what to validate, by name; None for the space's own named subnets.
        sampling_of: makes the rule that says which subnets a step trains; None for the paper's.
    """

    averaged: AutoFormer | None = None
    """The supernet's moving average; kept out of the module's own weights."""

    def __init__(
        self,
        training_module: LightningModule,
        seed: int = 0,
        subnets: Mapping[str, Architecture] | None = None,
        sampling_of: SamplingOf | None = None,
    ) -> None:
        super().__init__(training_module)
        self.seed = seed
        self.trained: tuple[Architecture, ...] = ()
        self._subnets = subnets
        self._sampling_of = sampling_of or (lambda space: Uniform(space, seed))
        self._sampling: Sampling | None = None
        self._accuracies: NamedAccuracies | None = None  # while validating
        self._imitate = SoftTargetCrossEntropy()

    @property
    def supernet(self) -> AutoFormer:
        """The network that is trained."""
        assert isinstance(self.model, AutoFormer)
        return self.model

    @property
    def subnets(self) -> Mapping[str, Architecture]:
        """The validated subnets by name."""
        return self.supernet.space.named() if self._subnets is None else self._subnets

    @property
    def sampling(self) -> Sampling:
        """The rule that says which subnets a step trains."""
        if self._sampling is None:
            self._sampling = self._sampling_of(self.supernet.space)
        return self._sampling

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Choose the step's subnets, seed the streams that augmentation and layers draw from, and train."""
        step = self.trainer.global_step
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.optimizers().zero_grad()
        self.trained = self.sampling.architectures(step)
        first, *others = self.trained
        self.supernet.set_architecture(first)
        seed_streams(derive(self.seed, "step", step, batch_idx, self.global_rank))
        if not others:
            return self.training_module.training_step(batch, batch_idx)
        if not isinstance(self.training_module, ImageClassification):
            raise ConfigError("a sandwich needs ImageClassification as the training module.")
        lesson = self.training_module.learn(batch)
        for architecture in others:
            self._learn_from(lesson, architecture, len(batch[0]))
        return lesson.loss

    def _learn_from(self, lesson: Lesson, architecture: Architecture, count: int) -> None:
        """Add the gradients of a subnet that learns the first one's answers.

        Its backward pass runs at once, so that memory holds two subnets and not all. The first one's comes
        last and through Lightning: it touches every parameter, so that the ranks share complete sums. As in
        BigNAS only the first is regularised: the others run without drop path.
        """
        module = self.training_module
        self.supernet.set_architecture(architecture)
        self.supernet.eval()
        loss = self._imitate(self.supernet(lesson.inputs), lesson.logits.detach().softmax(dim=-1))
        self.supernet.train()
        loss = loss * module._share(count) / self.trainer.accumulate_grad_batches
        with torch.autocast(self.device.type, enabled=False):
            self.trainer.strategy.backward(loss, None)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Nothing: Lightning would call it after `training_step`, which may have added gradients; they are
        set to zero at the start of a step.
        """

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        names = [prefix + name for prefix, _ in self._networks() for name in self.subnets]
        classes = self.supernet.space.model.num_classes
        self._accuracies = NamedAccuracies(names, classes, self.device)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate every named subnet on the batch."""
        assert self._accuracies is not None
        for prefix, network in self._networks():
            for name, architecture in self.subnets.items():
                network.set_architecture(architecture)
                logits = self._logits(batch, batch_idx, network)
                self._accuracies.update(prefix + name, logits, batch[1])

    def _networks(self) -> list[tuple[str, AutoFormer]]:
        averaged = [] if self.averaged is None else [(AVERAGED, self.averaged)]
        return [(VALIDATED, self.supernet), *averaged]

    def _logits(self, batch: Any, batch_idx: int, network: nn.Module) -> Tensor:
        if isinstance(self.training_module, ImageClassification):
            return self.training_module(batch[0], network)
        return self.training_module.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies."""
        assert self._accuracies is not None
        self._accuracies.log(self)
        self._accuracies = None

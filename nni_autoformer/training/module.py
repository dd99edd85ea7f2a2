"""The Lightning modules: how a network learns from a batch, and how the supernet takes part in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import nni
import torch
from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.oneshot.pytorch.sampling import RandomSamplingLightningModule
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from ..architecture import Architecture
from ..data.pixels import normalise
from ..model import AutoFormer
from ..randomness import derive, generator
from .recipe import Recipe


@nni.trace
class ImageClassification(LightningModule):
    """The recipe: loss, optimizer and learning rate for 8-bit images (batch, channels, height, width) and
    labels.

    Args:
        recipe: learning rates, decay and smoothing.
        mean, std: per channel, of images scaled to 0..1; the images are normalised on the device.
    """

    def __init__(self, recipe: Recipe, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.recipe = recipe
        self.mean, self.std = tuple(mean), tuple(std)
        self.loss = (
            LabelSmoothingCrossEntropy(recipe.smoothing) if recipe.smoothing else nn.CrossEntropyLoss()
        )

    def forward(self, images: Tensor) -> Tensor:
        """8-bit images to logits (batch, classes)."""
        return self.model(normalise(images, self.mean, self.std))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The mean loss of a batch."""
        images, targets = batch
        loss = self.loss(self(images), targets)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The logits of a batch."""
        return self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with the published decay groups: no decay on biases, norms, class token and absolute
        position; the relative-position tables are decayed.

        The rate changes with every step. The published code changes it after every epoch, by that epoch's own
        number, so that its epochs 0 and 1 both run at the warm-up start: one epoch behind this schedule.

        The schedule is not handed to Lightning: the rate is a function of the step, so a resume needs no
        state of it.
        """
        recipe, trainer = self.recipe, self.trainer
        optimizer = create_optimizer_v2(
            self.model,
            opt="adamw",
            lr=recipe.peak_lr(trainer.world_size),
            weight_decay=recipe.weight_decay,
            betas=recipe.opt_betas,
            eps=recipe.opt_eps,
        )
        self._schedule, _ = create_scheduler_v2(
            optimizer,
            sched="cosine",
            num_epochs=recipe.epochs,
            warmup_epochs=recipe.warmup,
            warmup_lr=recipe.warmup_lr,
            min_lr=recipe.min_lr,
            step_on_epochs=False,
            updates_per_epoch=max(1, int(trainer.estimated_stepping_batches) // recipe.epochs),
        )
        return optimizer

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the coming step."""
        self._schedule.step_update(self.trainer.global_step)
        self.log("lr", self._schedule.optimizer.param_groups[0]["lr"])


ArchitectureAt = Callable[[int], Architecture]


class SupernetModule(RandomSamplingLightningModule):
    """What the one-shot strategy puts around the recipe: which subnet a step trains, and which ones are
    validated.

    NNI's own module draws the subnet from a generator that the operating system seeds, on each rank another
    one, and validates another random subnet on every batch. Here the subnet is a function of (seed, step) and
    the validated subnets have names; their accuracies are logged as `val_acc/{name}`.

    Args:
        training_module: the recipe, see `ImageClassification`.
        seed: of the run.
        subnets: what to validate, by name; None for the space's own named subnets.
        architecture_at: which subnet an optimizer step trains; None for a uniform draw (paper section 3.3),
            the same for all micro-batches of a step and on every rank.
    """

    def __init__(
        self,
        training_module: LightningModule,
        seed: int = 0,
        subnets: Mapping[str, Architecture] | None = None,
        architecture_at: ArchitectureAt | None = None,
    ) -> None:
        super().__init__(training_module)
        self.seed = seed
        self._subnets = subnets
        self._architecture_at = architecture_at
        self._accuracies: Any = None  # a ModuleDict of torchmetrics while validating

    @property
    def supernet(self) -> AutoFormer:
        """The network that is trained."""
        assert isinstance(self.model, AutoFormer)
        return self.model

    @property
    def subnets(self) -> Mapping[str, Architecture]:
        """The validated subnets by name."""
        return self.supernet.space.named() if self._subnets is None else self._subnets

    def architecture_at(self, step: int) -> Architecture:
        """The subnet that an optimizer step trains."""
        if self._architecture_at is not None:
            return self._architecture_at(step)
        return uniform_architecture(self.supernet, self.seed, step)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Choose the step's subnet, seed the streams that its layers draw from, and train it."""
        step = self.trainer.global_step
        self.supernet.set_architecture(self.architecture_at(step))
        torch.manual_seed(derive(self.seed, "step", step, batch_idx, self.global_rank))
        return self.training_module.training_step(batch, batch_idx)

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        classes = self.supernet.space.model.num_classes
        self._accuracies = nn.ModuleDict(
            {name: MulticlassAccuracy(classes, average="micro") for name in self.subnets}
        ).to(self.device)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate every named subnet on the batch."""
        assert self._accuracies is not None
        for name, architecture in self.subnets.items():
            self.supernet.set_architecture(architecture)
            self._accuracies[name].update(self.training_module.validation_step(batch, batch_idx), batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies."""
        assert self._accuracies is not None
        for name, accuracy in self._accuracies.items():
            self.log(f"val_acc/{name}", accuracy.compute(), prog_bar=True)
        self._accuracies = None


def uniform_architecture(supernet: AutoFormer, seed: int, step: int) -> Architecture:
    """The paper's choice: every subnet of the space is as likely as any other of its depth."""
    return supernet.space.sample(generator(seed, "subnet", step))

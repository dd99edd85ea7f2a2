"""The Lightning module of the recipe: how a network, whatever it is, learns from a batch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nni
import torch
from nni.nas.evaluator.pytorch import LightningModule
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from ..checkpoints.metrics import AVERAGED, VALIDATED
from ..data.pixels import normalise
from ..nn.compiling import compile_blocks
from ..randomness import derive
from .augment import BatchAugmentation, seed_streams
from .recipe import Recipe
from .teacher import Teacher, distillation_loss

_logger = logging.getLogger("nni_autoformer")


@dataclass(frozen=True)
class Lesson:
    """What a network made of a batch.

    Attributes:
        loss: what training makes small.
        inputs: the images as the network saw them, normalised and augmented.
        logits: (batch, classes).
    """

    loss: Tensor
    inputs: Tensor
    logits: Tensor


@nni.trace
class ImageClassification(LightningModule):
    """The recipe: augmentation of batches, loss, optimizer and learning rate for 8-bit images (batch,
    channels, height, width) and labels.

    Args:
        recipe: everything that is chosen.
        mean, std: per channel, of images scaled to 0..1; the images are normalised on the device.
        num_classes: number of classes of the labels; only a recipe with mixup or cutmix needs it.
        teacher: network whose answers are learnt besides the labels, if the recipe has one.
    """

    def __init__(
        self,
        recipe: Recipe,
        mean: Sequence[float],
        std: Sequence[float],
        num_classes: int | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.mean, self.std = tuple(mean), tuple(std)
        self.num_classes = num_classes
        self.__dict__["teacher"] = teacher  # no part of what is trained, saved or shared out over ranks
        self._augment: BatchAugmentation | None = None
        self.loss: nn.Module
        if recipe.mixes:
            self.loss = SoftTargetCrossEntropy()
        elif recipe.smoothing:
            self.loss = LabelSmoothingCrossEntropy(recipe.smoothing)
        else:
            self.loss = nn.CrossEntropyLoss()

    def forward(self, images: Tensor, network: nn.Module | None = None) -> Tensor:
        """8-bit images to logits (batch, classes), of another network than the trained one if it is given."""
        return (network or self.model)(normalise(images, self.mean, self.std))

    def learn(self, batch: tuple[Tensor, Tensor]) -> Lesson:
        """Augment a batch and compare the network's answers with its labels, and with the teacher's answers.

        Draws from the global streams; the caller seeds them.
        """
        images, targets = batch
        if self._augment is None:
            self._augment = BatchAugmentation(self.recipe, self.num_classes, images.device)
        inputs = normalise(images, self.mean, self.std)
        inputs, targets = self._augment(inputs, targets, self.trainer.current_epoch)
        logits = self.model(inputs)
        loss = self.loss(logits, targets)
        if self.teacher is not None:
            recipe = self.recipe
            answers = self.teacher(inputs)
            learnt = distillation_loss(logits, answers, recipe.distillation_type, recipe.distillation_tau)
            loss = (1 - recipe.distillation_alpha) * loss + recipe.distillation_alpha * learnt
        self.log("train_loss", loss, prog_bar=True)
        return Lesson(loss * self._share(len(images)), inputs, logits)

    def _share(self, count: int) -> float:
        # Lightning divides by the number of micro-batches; the last step of an epoch may have fewer images
        micro = self.recipe.grad_accum_steps
        sampler = getattr(self.trainer.train_dataloader, "sampler", None)
        if micro == 1 or sampler is None:
            return 1.0
        step = self.recipe.batch_size * micro
        before = self.trainer.fit_loop.epoch_loop.batch_idx // micro * step
        return micro * count / min(step, len(sampler) - before)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The mean loss of a batch."""
        return self.learn(batch).loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The logits of a batch."""
        return self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with the published decay groups: no decay on biases, norms, class token and absolute
        position; the relative-position tables are decayed.

        The schedule is not handed to Lightning: the rate is a function of the step or the epoch, so a resume
        needs no state of it.
        """
        recipe, trainer = self.recipe, self.trainer
        optimizer = create_optimizer_v2(
            self.model,
            opt="adamw",
            lr=recipe.peak_lr(trainer.world_size),
            weight_decay=recipe.weight_decay,
            betas=recipe.opt_betas,
            eps=recipe.opt_eps,
            layer_decay=recipe.layer_decay,
            # Lightning does not clip the gradients of a fused optimizer in mixed precision
            fused=recipe.precision == "fp32" or not recipe.clip_grad,
        )
        self._schedule, _ = create_scheduler_v2(
            optimizer,
            sched="cosine",
            num_epochs=recipe.epochs,
            warmup_epochs=recipe.warmup,
            warmup_lr=recipe.warmup_lr,
            min_lr=recipe.min_lr,
            step_on_epochs=not recipe.sched_on_updates,
            updates_per_epoch=max(1, int(trainer.estimated_stepping_batches) // recipe.epochs),
        )
        return optimizer

    def on_fit_start(self) -> None:
        """Take the teacher to the device, and compile the blocks if the recipe says so."""
        if self.teacher is not None:
            self.teacher.to(self.device)
        if self.recipe.compile:
            compile_blocks(self.model, _logger.warning if self.trainer.is_global_zero else _logger.debug)

    def set_rate(self, epoch: int, step: int) -> float:
        """Set the optimizer's learning rate for a step, and give it back: with layer-wise rates the head's.

        Per epoch it is the published code's, which moves its schedule after an epoch, by that epoch's own
        number: epochs 0 and 1 both run at the warm-up's start.
        """
        if self.recipe.sched_on_updates:
            self._schedule.step_update(step)
        else:
            self._schedule.step(max(epoch - 1, 0))
        first = self._schedule.optimizer.param_groups[0]
        return first["lr"] / first.get("lr_scale", 1.0)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the coming step."""
        self.log("lr", self.set_rate(self.trainer.current_epoch, self.trainer.global_step))


class NamedAccuracies:
    """Top-1 of several networks on the validation images, each image counted once over all ranks.

    Args:
        names: names of the networks, as logged.
        classes: how many there are.
        device: device of the logits.
    """

    def __init__(self, names: Sequence[str], classes: int, device: torch.device) -> None:
        self._metrics = {name: MulticlassAccuracy(classes, average="micro").to(device) for name in names}

    def update(self, name: str, logits: Tensor, targets: Tensor) -> None:
        """Count a batch (batch, classes)."""
        self._metrics[name].update(logits, targets)

    def log(self, module: LightningModule) -> None:
        """Log them in percent."""
        for name, metric in self._metrics.items():
            # torchmetrics has summed over the ranks already
            module.log(name, 100 * metric.compute(), prog_bar=True, rank_zero_only=False)


@nni.trace
class PlainClassification(ImageClassification):
    """The recipe for a single network, with its accuracy in percent logged as `val_acc_percent/network`, and
    that of its moving average as `val_acc_ema_percent/network`.
    """

    averaged: nn.Module | None = None

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Seed the streams that augmentation and layers draw from, and learn."""
        step = self.trainer.global_step
        seed_streams(derive(self.recipe.seed, "step", step, batch_idx, self.global_rank))
        return super().training_step(batch, batch_idx)

    @property
    def _validated(self) -> Mapping[str, nn.Module]:
        averaged = {} if self.averaged is None else {f"{AVERAGED}network": self.averaged}
        return {f"{VALIDATED}network": self.model, **averaged}

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        assert self.num_classes is not None
        self._accuracies = NamedAccuracies(list(self._validated), self.num_classes, self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # type: ignore[override]
        """Count a batch."""
        for name, network in self._validated.items():
            self._accuracies.update(name, self(batch[0], network), batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies."""
        self._accuracies.log(self)

"""One training from the parts: the images, Lightning's trainer, and NNI's experiment around a supernet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nni.nas.evaluator.pytorch import DataLoader, Lightning, Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import nn
from torch.utils.data import TensorDataset

from ..checkpoints import save_subnet, save_supernet
from ..data import ImageSource, decode, train_loader
from ..errors import ConfigError
from ..experiment import Trial, run_experiment
from ..experiment.fixes import tensorboard_folder
from ..experiment.run import interruptible
from ..model import AutoFormer
from ..nn.subnet import Subnet
from ..space import ModelConfig, SearchSpace
from .ema import MovingAverage
from .loggers import open_loggers
from .module import ImageClassification, PlainClassification
from .one_shot import SupernetTraining
from .progress import Progress
from .ranks import Ranks
from .recipe import ORIGINAL, PRECISIONS, Recipe
from .reporting import ReportToNni
from .sampling import sampling_rule
from .saving import STATE_FILE, ResumePoint, Saving, Writer, resume_point
from .teacher import Teacher, open_teacher
from .upkeep import Upkeep

VALIDATION_BATCH = 256


@dataclass
class Training:
    """Everything of a training but the network.

    Attributes:
        recipe: how to train.
        training, validation: the images that are trained on, and those that accuracies are reported on.
        transforms: transforms of training images and of evaluated ones.
        output: the run's folder.
        run: what the headers of the weights say of the run; must hold `mean` and `std`.
        loading: how images are loaded: `workers`, and what else `train_loader` takes.
        device: where to train; None for the CPU. With several ranks each takes the GPU of its local rank.
        resume: go on from the state in the folder, if there is one.
        upkeep: how the run is looked after.
        ranks: this process among those of the run.
        selects: the best epoch is kept; not where accuracies are reported on the test images.
        trial: the NNI trial that this training is, if it is one: the accuracies are its curve, and
            TensorBoard's files go where NNI looks for them.
        original: teaches where the recipe's teacher is 'original': the network that a supernet starts from;
            None where its answers do not fit the data.
    """

    recipe: Recipe
    training: ImageSource
    validation: ImageSource
    transforms: tuple[Any, Any]
    output: Path
    run: Mapping[str, Any]
    loading: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device | None = None
    resume: bool = False
    upkeep: Upkeep = Upkeep()
    ranks: Ranks = Ranks()
    selects: bool = True
    trial: Trial | None = None
    original: Teacher | None = None

    def __post_init__(self) -> None:
        state = self.output / STATE_FILE
        if self.resume and not state.is_file():
            self._require_unbegun(state)
        self._state = state if self.resume and state.is_file() else None
        self._point = ResumePoint() if self._state is None else resume_point(self._state)

    def _require_unbegun(self, state: Path) -> None:
        """Check that no weights are there, which are only written after a state."""
        for name in ("supernet", "subnet"):
            if (self.output / f"{name}.safetensors").is_file():
                raise ConfigError(
                    f"{state}: the training state is gone, and without it the run would begin anew and write "
                    f"over {name}.safetensors; put it back, or start anew with --overwrite."
                )

    @property
    def begins(self) -> bool:
        """Whether the training starts, and does not go on from a state."""
        return self._state is None

    @property
    def fit_kwargs(self) -> dict[str, Any]:
        """What Lightning's `fit` is told besides network and images."""
        return {"ckpt_path": self._state, "weights_only": True} if self._state else {}

    def train_loader(self) -> DataLoader:
        """This rank's training images."""
        recipe, ranks = self.recipe, self.ranks
        return train_loader(
            self.training,
            self.transforms[0],
            recipe.batch_size,
            recipe.seed,
            rank=ranks.rank,
            world_size=ranks.world_size,
            # Lightning starts a resumed run's workers before it tells the sampler which epoch it is
            epoch=self._point.epoch,
            start=self._point.batches,
            grad_accum_steps=recipe.grad_accum_steps,
            num_repeats=recipe.aug_repeats,
            loader_class=DataLoader,
            **self.loading,
        )

    def validation_loader(self) -> DataLoader:
        """This rank's share of the validation images, decoded; together the ranks have each image once.

        Raises:
            ConfigError: a rank would have no image.
        """
        count, ranks = len(self.validation), self.ranks
        if count < ranks.world_size:
            raise ConfigError(f"{count} validation images cannot be shared by {ranks.world_size} processes.")
        share = self.validation.subset(range(ranks.rank, count, ranks.world_size))
        progress = "decode validation images" if ranks.main else None
        decoded = decode(share, self.transforms[1], progress, self.loading.get("workers", 0))
        return DataLoader(TensorDataset(decoded.images, decoded.targets), batch_size=VALIDATION_BATCH)

    def teacher(self, model: ModelConfig) -> Teacher | None:
        """The recipe's teacher, if it has one, see `open_teacher`."""
        if self.recipe.teacher == ORIGINAL:
            return self.original
        return open_teacher(self.recipe, model, self.run["mean"], self.run["std"])

    def trainer(self, name: str, write: Writer, plain: bool = False) -> Trainer:
        """Lightning's trainer with everything that is saved, shown and watched.

        Args:
            name: name of the files of weights.
            write: writes the network.
            plain: every step trains the whole network.
        """
        recipe, ranks = self.recipe, self.ranks
        device = self.device or torch.device("cpu")
        average = MovingAverage(recipe) if recipe.model_ema else None
        saving = Saving(self.output, name, write, self.run, self.upkeep, average, self.selects)
        progress = Progress(recipe.global_batch(ranks.world_size))
        callbacks = [*([average] if average else []), saving.guard, progress, saving]
        logs = self.output / "tensorboard"
        if self.trial is not None:
            self.trial.go_on()
            callbacks.append(ReportToNni(self.trial))
            logs = tensorboard_folder(self.trial.output, self.trial.id)
        alone = 1 if device.index is None else [device.index]
        return Trainer(
            max_epochs=recipe.epochs,
            accelerator="cpu" if device.type == "cpu" else "gpu",
            devices=alone if ranks.world_size == 1 else ranks.local_world_size,
            num_nodes=ranks.nodes,
            strategy="auto" if ranks.world_size == 1 else self._strategy(plain),
            # what SLURM says of its tasks is not about the processes of a run, which torchrun starts
            plugins=[LightningEnvironment() if ranks.world_size == 1 else TorchElasticEnvironment()],
            precision=PRECISIONS[recipe.precision],
            accumulate_grad_batches=recipe.grad_accum_steps,
            gradient_clip_val=recipe.clip_grad,
            check_val_every_n_epoch=recipe.val_interval,
            num_sanity_val_steps=0,
            logger=open_loggers(
                self.upkeep.logger, self.output, recipe, logs, self._point.step if self._state else None
            ),
            log_every_n_steps=10,
            callbacks=callbacks,
            default_root_dir=self.output,
            enable_model_summary=False,
            use_distributed_sampler=False,  # the loader's own sampler knows the ranks
        )

    def _strategy(self, plain: bool) -> str:
        # a sandwich's last pass uses every parameter; else blocks past the depth have no gradient
        whole = plain or self.recipe.sampling == "sandwich"
        return "ddp" if whole else "ddp_find_unused_parameters_true"

    @property
    def nni_folder(self) -> Path:
        """Where NNI's files go: every rank is an experiment of its own."""
        ranks = self.ranks
        return self.output if ranks.main else self.output / "ranks" / str(ranks.rank)


def train_supernet(space: SearchSpace, training: Training, initial: Subnet | None = None) -> AutoFormer:
    """Train a supernet with NNI's one-shot experiment; it is saved after every epoch.

    Args:
        space: the search space; its number of classes is the data's.
        training: everything else; the weights go to `supernet.safetensors` in its folder.
        initial: the largest subnet with the weights that the supernet starts from; None for new ones.
    """
    recipe, run = training.recipe, training.run
    module = ImageClassification(
        recipe, run["mean"], run["std"], space.model.num_classes, training.teacher(space.model)
    )
    images = training.train_loader()
    widen_steps = recipe.widen_epochs * math.ceil(len(images) / recipe.grad_accum_steps)
    evaluator = Lightning(
        module,
        training.trainer("supernet", save_supernet),
        train_dataloaders=images,
        val_dataloaders=training.validation_loader(),
        fit_kwargs=training.fit_kwargs,
    )
    strategy = SupernetTraining(
        seed=recipe.seed,
        sampling_of=lambda space: sampling_rule(
            recipe.sampling, space, recipe.seed, recipe.sandwich_random, widen_steps
        ),
        initial=initial,
    )
    run_experiment(AutoFormer(space, recipe.drop_path), evaluator, strategy, training.nni_folder)
    return strategy.supernet


def train_network(network: Subnet, training: Training, name: str = "subnet") -> nn.Module:
    """Train a single network with Lightning, in place; it is saved after every epoch.

    Args:
        network: the network, with the weights that it starts from.
        training: everything else.
        name: name of the files of weights in its folder.
    """
    recipe, run = training.recipe, training.run
    module = PlainClassification(
        recipe, run["mean"], run["std"], network.model.num_classes, training.teacher(network.model)
    )
    module.set_model(network)
    with interruptible():
        training.trainer(name, save_subnet, plain=True).fit(
            module, training.train_loader(), training.validation_loader(), **training.fit_kwargs
        )
    return network

"""One supernet training from the parts: NNI's experiment, evaluator and strategy, put together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from nni.nas.evaluator.pytorch import DataLoader, Lightning, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import TensorDataset

from ..data import ImageSource, decode, train_loader
from ..errors import ConfigError
from ..experiment import run_experiment
from ..model import AutoFormer
from ..nni_fixes import tensorboard_folder
from ..space import SearchSpace
from ..trial import Trial
from .module import ImageClassification
from .recipe import PRECISIONS, Recipe
from .reporting import ReportToNni
from .saving import SaveSupernet
from .strategy import SupernetTraining


def train_supernet(
    space: SearchSpace,
    recipe: Recipe,
    training: ImageSource,
    validation: ImageSource,
    transforms: tuple[Any, Any],
    output: Path,
    run: Mapping[str, Any],
    *,
    workers: int = 0,
    device: torch.device | None = None,
    resume_from: Path | None = None,
    trial: Trial | None = None,
) -> AutoFormer:
    """Train a supernet with NNI's one-shot experiment; it is saved after every epoch.

    Args:
        space: the search space; its number of classes is the data's.
        recipe: how to train.
        training, validation: the images that are trained on, and those that the named subnets' accuracy is
            reported on.
        transforms: of training images and of evaluated ones.
        output: the run's folder, for `supernet.safetensors`, `training.ckpt`, TensorBoard's and NNI's files.
        run: what the checkpoint's header says of the run; must hold `mean` and `std`.
        workers: processes that load images.
        device: where to train; None for the CPU.
        resume_from: the state of an unfinished run.
        trial: the NNI trial that this training is, if it is one: the accuracy of the named subnets is its
            curve, and TensorBoard's files go where NNI looks for them.
    """
    train_transform, eval_transform = transforms
    loader = train_loader(
        training,
        train_transform,
        recipe.batch_size,
        recipe.seed,
        workers,
        # Lightning starts a resumed run's workers before it tells the sampler which epoch it is
        epoch=0 if resume_from is None else epochs_done(resume_from),
        loader_class=DataLoader,
    )
    decoded = decode(validation, eval_transform, progress="decode validation images", workers=workers)
    evaluator = Lightning(
        ImageClassification(recipe, run["mean"], run["std"]),
        build_trainer(recipe, output, run, device, trial),
        train_dataloaders=loader,
        val_dataloaders=DataLoader(TensorDataset(decoded.images, decoded.targets), batch_size=256),
        fit_kwargs={"ckpt_path": resume_from, "weights_only": True} if resume_from else {},
    )
    strategy = SupernetTraining(seed=recipe.seed)
    run_experiment(AutoFormer(space, recipe.drop_path), evaluator, strategy, output)
    return strategy.supernet


def epochs_done(state: Path) -> int:
    """How many epochs a training state has behind it.

    Raises:
        ConfigError: the file is damaged, or holds code.
    """
    try:
        return 1 + torch.load(state, map_location="cpu", mmap=True, weights_only=True)["epoch"]
    except Exception as error:  # whatever a damaged archive makes torch say
        raise ConfigError(
            f"{state}: the training state cannot be read ({type(error).__name__}); without it the run has "
            "to start "
            "anew, with --overwrite."
        ) from None


def build_trainer(
    recipe: Recipe,
    output: Path,
    run: Mapping[str, Any],
    device: torch.device | None = None,
    trial: Trial | None = None,
) -> Trainer:
    """Lightning's trainer for a supernet: one device, named subnets reported, a checkpoint per epoch."""
    device = device or torch.device("cpu")
    callbacks: list[Any] = [SaveSupernet(output / "supernet.safetensors", output / "training.ckpt", run)]
    logs = output / "tensorboard"
    if trial is not None:
        callbacks.append(ReportToNni(trial))
        logs = tensorboard_folder(trial.output, trial.id)
    return Trainer(
        max_epochs=recipe.epochs,
        accelerator="cpu" if device.type == "cpu" else "gpu",
        devices=1 if device.index is None else [device.index],
        precision=PRECISIONS[recipe.precision],
        gradient_clip_val=recipe.clip_grad,
        check_val_every_n_epoch=recipe.val_interval,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(logs.parent, name=logs.name, version=""),
        log_every_n_steps=10,
        callbacks=callbacks,
        default_root_dir=output,
        enable_model_summary=False,
        use_distributed_sampler=False,  # the loader's own sampler knows the ranks
    )

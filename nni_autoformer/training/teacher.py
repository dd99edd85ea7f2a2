"""A teacher: any timm model whose answers the network learns besides the labels (DeiT, Touvron et al. 2021).

The paper's table of distillation has a RegNetY-32GF teacher with hard labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.models import load_state_dict
from torch import Tensor, nn

from ..errors import ConfigError
from ..space import ModelConfig
from .recipe import ORIGINAL, Recipe

TIMED_EVERY = 20
"""Steps between two measurements of the teacher's time; on a GPU each of them waits for the device."""


class Teacher:
    """A frozen network in evaluation mode that answers for images normalised for another network.

    Args:
        network: module from images (batch, channels, height, width) to logits (batch, classes).
        mean, std: normalisation of the images that it gets, per channel.
        own_mean, own_std: what it was trained with.
        size: height and width that it needs; None for any.

    Attributes:
        seconds: duration of one pass, the mean of the measured ones; 0 before the first.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        own_mean: Sequence[float],
        own_std: Sequence[float],
        size: tuple[int, int] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        view = (1, -1, 1, 1)
        own = torch.tensor(own_std)
        self._factor = (torch.tensor(std) / own).view(view)
        self._shift = ((torch.tensor(mean) - torch.tensor(own_mean)) / own).view(view)
        self._size = size
        self._passes, self._measured, self._total = 0, 0, 0.0

    def to(self, device: torch.device) -> Teacher:
        """Move to a device."""
        self.network.to(device)
        self._factor, self._shift = self._factor.to(device), self._shift.to(device)
        return self

    @property
    def seconds(self) -> float:
        return self._total / self._measured if self._measured else 0.0

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The logits (batch, classes)."""
        timed = self._passes % TIMED_EVERY == 1  # not the first, which warms up
        self._passes += 1
        start = _now(images.device) if timed else 0.0
        own = images * self._factor + self._shift
        if self._size is not None and tuple(own.shape[-2:]) != self._size:
            own = F.interpolate(own, self._size, mode="bicubic", antialias=True)
        logits = self.network(own)
        if timed:
            self._total += _now(images.device) - start
            self._measured += 1
        return logits


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def require_teacher(recipe: Recipe, original: bool = False) -> None:
    """Check what can be known of the recipe's teacher without making it.

    Args:
        recipe: names the teacher.
        original: whether the training starts from a network, which can then be the teacher.

    Raises:
        ConfigError: timm has no such model, there is no such file, or there is no original.
    """
    name, path = recipe.teacher, recipe.teacher_checkpoint
    if name is None or (original and name == ORIGINAL):
        return
    if name == ORIGINAL:
        raise ConfigError(
            f"--teacher {ORIGINAL}: that is the network which a supernet starts from, so it needs train with "
            "--from; else name a timm model, or give --teacher none."
        )
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        more = f"; near are {', '.join(near)}" if near else ""
        raise ConfigError(f"--teacher {name}: timm has no model of this name{more}.")
    if path is not None and not Path(path).is_file():
        raise ConfigError(f"--teacher-checkpoint {path}: there is no such file.")


def open_teacher(
    recipe: Recipe, model: ModelConfig, mean: Sequence[float], std: Sequence[float]
) -> Teacher | None:
    """The recipe's teacher, or None where it has none.

    Args:
        recipe: recipe with the name of a timm model, and a file of its weights or None for timm's pretrained
            ones.
        model: gives channels, classes and image size.
        mean, std: normalisation of the images that it gets, per channel.

    Raises:
        ConfigError: timm has no such model, or the weights are not there or do not fit.
    """
    require_teacher(recipe)
    name = recipe.teacher
    if name is None:
        return None
    path = recipe.teacher_checkpoint
    try:
        network = timm.create_model(
            name, pretrained=path is None, num_classes=model.num_classes, in_chans=model.in_chans
        )
    except Exception as error:  # timm's hub says it in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"--teacher {name}: timm cannot make it with its pretrained weights ({reason}); give a file with "
            "--teacher-checkpoint."
        ) from None
    config = network.pretrained_cfg
    if path is None and config.get("num_classes") != model.num_classes:
        raise ConfigError(
            f"--teacher {name}: its pretrained weights are for {config.get('num_classes')} classes and the "
            f"data has {model.num_classes}; give weights for these with --teacher-checkpoint."
        )
    if path is not None:
        _load(network, name, path)
    own_mean, own_std = config.get("mean", mean), config.get("std", std)
    if len(own_mean) != len(mean):  # a colour model on grey images
        own_mean, own_std = ([sum(values) / len(values)] * len(mean) for values in (own_mean, own_std))
    size = config["input_size"][-2:] if config.get("fixed_input_size") else None
    return Teacher(network, mean, std, own_mean, own_std, size and (int(size[0]), int(size[1])))


def _load(network: nn.Module, name: str, path: str) -> None:
    try:
        network.load_state_dict(load_state_dict(path, weights_only=True))
    except Exception as error:  # a damaged file, code in a pickle, or other tensors
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"--teacher-checkpoint {path}: no weights of {name} ({reason}).") from None


def distillation_loss(logits: Tensor, answers: Tensor, kind: str, tau: float) -> Tensor:
    """How far a network is from its teacher.

    'hard': cross entropy with the teacher's first answer. 'soft': the divergence from its probabilities at a
    temperature, times the temperature squared, per image (DeiT's code divides by the number of logits
    instead, which makes the term so many times smaller).

    Args:
        logits, answers: (batch, classes), the network's and the teacher's.
        kind: 'hard' or 'soft'.
        tau: the temperature.
    """
    if kind == "hard":
        return F.cross_entropy(logits, answers.argmax(dim=-1))
    return tau**2 * F.kl_div(
        F.log_softmax(logits.float() / tau, dim=-1),
        F.log_softmax(answers.float() / tau, dim=-1),
        reduction="batchmean",
        log_target=True,
    )

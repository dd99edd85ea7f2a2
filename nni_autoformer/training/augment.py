"""What is drawn for whole batches on the device: random erasing, mixup and cutmix, by timm."""

from __future__ import annotations

import random

import numpy as np
import torch
from timm.data import Mixup
from timm.data.mixup import mixup_target
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from .recipe import Recipe


def seed_streams(seed: int) -> None:
    """Seed the global streams that layers, timm's erasing (Python's, torch's) and its mixup (NumPy's) draw
    from.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class BatchAugmentation:
    """Erase parts of normalised images, then mix them and their labels, as timm orders it.

    Args:
        recipe: how often and how much.
        num_classes: number of classes of the labels; mixing needs it.
        device: device of the images.

    Raises:
        ValueError: the recipe mixes, and the number of classes is not known.
    """

    def __init__(self, recipe: Recipe, num_classes: int | None, device: torch.device) -> None:
        self._erase = (
            RandomErasing(recipe.reprob, mode=recipe.remode, max_count=recipe.recount, device=str(device))
            if recipe.reprob
            else None
        )
        self._mix = None
        if recipe.mixes:
            if num_classes is None:
                raise ValueError("A recipe with mixup or cutmix needs the number of classes.")
            self._mix = Mixup(
                mixup_alpha=recipe.mixup,
                cutmix_alpha=recipe.cutmix,
                cutmix_minmax=recipe.cutmix_minmax,
                prob=recipe.mixup_prob,
                switch_prob=recipe.mixup_switch_prob,
                mode=recipe.mixup_mode,
                label_smoothing=recipe.smoothing,
                num_classes=num_classes,
            )
        self._off_epoch = recipe.mixup_off_epoch

    def __call__(self, images: Tensor, targets: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Change a batch; the images may be changed in place.

        Args:
            images: (batch, channels, height, width), normalised.
            targets: (batch,) classes.
            epoch: number of the epoch; from the recipe's last mixing epoch on, labels are smoothed and images
                left unmixed.

        Returns:
            The images, and the targets: classes, or with a recipe that mixes probabilities (batch, classes).
        """
        if self._erase is not None:
            images = self._erase(images)
        if self._mix is None:
            return images, targets
        self._mix.mixup_enabled = not self._off_epoch or epoch < self._off_epoch
        paired = len(images) - len(images) % 2  # timm mixes pairs; the last of an odd batch stays as it is
        mixed, probabilities = self._mix(images[:paired], targets[:paired])
        if paired == len(images):
            return mixed, probabilities
        plain = mixup_target(targets[paired:], self._mix.num_classes, 1.0, self._mix.label_smoothing)
        return torch.cat([mixed, images[paired:]]), torch.cat([probabilities, plain])

"""Transforms from a decoded image to 8-bit pixels, from torchvision's and timm's parts, and the
normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.data.transforms import ToNumpy
from torch import Tensor
from torchvision import transforms

from ..errors import ConfigError
from ..space import ModelConfig

TINY_IMAGE = 32
"""Up to this side in pixels images are cropped with padding instead of resized, as DeiT's code does for
CIFAR.
"""

INTERPOLATIONS = {
    "bicubic": transforms.InterpolationMode.BICUBIC,
    "bilinear": transforms.InterpolationMode.BILINEAR,
    "nearest": transforms.InterpolationMode.NEAREST,
}


def train_transform(
    model: ModelConfig,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    crop_padding: int | None = None,
    hflip: float = 0.5,
    interpolation: str = "bicubic",
) -> transforms.Compose:
    """The random transform of training images: a Pillow image to 8-bit pixels (channels, height, width).

    Images above 32 pixels: a random crop of random size and shape, resized (the published recipe's). Up to
    32 pixels: the image at its size, padded and cropped at random. Both: a horizontal flip.

    Args:
        model: gives the image's size.
        scale: smallest and largest area of the crop, as shares of the image.
        ratio: smallest and largest aspect ratio of the crop.
        crop_padding: pixels around images up to 32 pixels; None means an eighth of the side.
        hflip: probability of the flip.
        interpolation: 'bicubic', 'bilinear' or 'nearest'.

    Raises:
        ConfigError: a value is out of its range; the sentence names the flag.
    """
    if not 0 <= hflip <= 1:
        raise ConfigError(f"--hflip is {hflip}; it should be from 0 to 1.")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ConfigError(
            f"--scale is {scale[0]} {scale[1]}; it should be two ascending shares above 0, up to 1."
        )
    if not 0 < ratio[0] <= ratio[1]:
        raise ConfigError(f"--ratio is {ratio[0]} {ratio[1]}; it should be two ascending numbers above 0.")
    if crop_padding is not None and crop_padding < 0:
        raise ConfigError(f"--crop-padding is {crop_padding}; it should be 0 or more.")
    size, mode = model.img_size, _interpolation(interpolation)
    if max(size) > TINY_IMAGE:
        steps = [transforms.RandomResizedCrop(size, scale, ratio, interpolation=mode)]
    else:
        padding = [size[1] // 8, size[0] // 8] if crop_padding is None else crop_padding
        steps = [
            transforms.Resize(size, interpolation=mode),
            transforms.RandomCrop(size, padding=padding),
        ]
    return transforms.Compose([*steps, transforms.RandomHorizontalFlip(hflip), ToNumpy()])


def eval_transform(
    model: ModelConfig, *, crop_pct: float | None = None, interpolation: str = "bicubic"
) -> transforms.Compose:
    """The transform of evaluated images: a Pillow image to 8-bit pixels (channels, height, width).

    The image is resized so that its centre crop keeps a share of each side: 224 pixels from a short side of
    256 (paper).

    Args:
        model: gives the image's size.
        crop_pct: the share; None means 0.875, or 1 for images up to 32 pixels.
        interpolation: 'bicubic', 'bilinear' or 'nearest'.

    Raises:
        ConfigError: a value is out of its range; the sentence names the flag.
    """
    size, mode = model.img_size, _interpolation(interpolation)
    if crop_pct is None:
        crop_pct = 0.875 if max(size) > TINY_IMAGE else 1.0
    if not 0 < crop_pct <= 1:
        raise ConfigError(f"--crop-pct is {crop_pct}; it should be above 0, up to 1.")
    scaled = [round(side / crop_pct) for side in size]
    # a square target keeps the picture's shape: only its short side is scaled
    resize = transforms.Resize(scaled[0] if size[0] == size[1] else scaled, interpolation=mode)
    return transforms.Compose([resize, transforms.CenterCrop(size), ToNumpy()])


def _interpolation(name: str) -> transforms.InterpolationMode:
    if name not in INTERPOLATIONS:
        raise ConfigError(f"--interpolation {name}: known are {', '.join(INTERPOLATIONS)}.")
    return INTERPOLATIONS[name]


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """8-bit images (batch, channels, height, width) to (images / 255 - mean) / std, on the images' device."""
    shape = (1, -1, 1, 1)
    factor = torch.tensor([1 / (255 * s) for s in std], dtype=dtype, device=images.device).view(shape)
    offset = torch.tensor([m / s for m, s in zip(mean, std)], dtype=dtype, device=images.device).view(shape)
    return images.to(dtype) * factor - offset

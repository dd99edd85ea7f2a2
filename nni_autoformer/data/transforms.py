"""Transforms from a decoded image to 8-bit pixels, by timm and torchvision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torchvision import transforms

from ..errors import ConfigError
from ..space import ModelConfig
from . import timm_fixes
from .source import MODES, statistics

TINY_IMAGE = 32
"""Up to this side in pixels images are cropped with padding instead of resized, as DeiT's code does for
CIFAR.
"""

INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "box", "hamming", "lanczos")
"""timm's names."""

BLUR_KERNEL = 23
"""Side in pixels of timm's blur."""

_NUMBER = r"\d+(\.\d+)?"
_SECTIONS = {
    "rand": rf"(m|n|mmax)\d+|(mstd|p){_NUMBER}|inc[01]|t(weights|3aw?)",
    "augmix": rf"(m|w|d)\d+|(mstd|a){_NUMBER}|b[01]",
    **dict.fromkeys(("original", "originalr", "v0", "v0r", "3a"), f"mstd{_NUMBER}"),
}
"""The sections of each policy; timm passes over some that it cannot read."""


def train_transform(
    model: ModelConfig,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    crop_padding: int | None = None,
    hflip: float = 0.5,
    vflip: float = 0.0,
    auto_augment: str | None = None,
    color_jitter: float | Sequence[float] | None = None,
    color_jitter_prob: float | None = None,
    grayscale_prob: float = 0.0,
    gaussian_blur_prob: float = 0.0,
    interpolation: str = "bicubic",
    train_interpolation: str | None = None,
    mean: Sequence[float] | None = None,
) -> transforms.Compose:
    """The random transform of training images: a Pillow image to 8-bit pixels, a tensor (channels, height,
    width).

    Images above 32 pixels: a random crop of random size and shape, resized (the published recipe's). Up to 32
    pixels: the image at its size, padded with zeros and cropped at random (DeiT's). Then for both the flips,
    the policy, and the changes of colour, as timm orders them.

    It draws from the global streams of Python, NumPy and torch; `TrainImages` seeds them.

    Args:
        model: gives the image's size.
        scale: smallest and largest area of the crop, as shares of the image.
        ratio: smallest and largest aspect ratio of the crop.
        crop_padding: pixels around images up to 32 pixels; None means an eighth of the side.
        hflip, vflip: probabilities of the flips.
        auto_augment: a policy in timm's notation; the paper's is 'rand-m9-mstd0.5-inc1'.
        color_jitter: strength for brightness, contrast and saturation, or one each and a fourth for hue. As
            in timm a policy other than '3a' takes its place.
        color_jitter_prob: share of the images that it changes; None means all.
        grayscale_prob, gaussian_blur_prob: shares of the images that lose their colours, or are blurred.
        interpolation: one of `INTERPOLATIONS`.
        train_interpolation: the same for training alone, or 'random' for bilinear and bicubic by
            turns.
        mean: per channel, of images scaled to 0..1: the colour that moved images leave behind; None means
            ImageNet's.

    Raises:
        ConfigError: a value is out of its range; the sentence names the flag.
    """
    from timm.data import create_transform

    if not 0 < scale[0] <= scale[1] <= 1:
        raise ConfigError(
            f"--scale is {scale[0]} {scale[1]}; it should be two ascending shares above 0, up to 1."
        )
    if not 0 < ratio[0] <= ratio[1]:
        raise ConfigError(f"--ratio is {ratio[0]} {ratio[1]}; it should be two ascending numbers above 0.")
    if crop_padding is not None and crop_padding < 0:
        raise ConfigError(f"--crop-padding is {crop_padding}; it should be 0 or more.")
    _require_probabilities(
        {
            "hflip": hflip,
            "vflip": vflip,
            "color-jitter-prob": color_jitter_prob,
            "grayscale-prob": grayscale_prob,
            "gaussian-blur-prob": gaussian_blur_prob,
        }
    )
    size = model.img_size
    if gaussian_blur_prob and min(size) <= BLUR_KERNEL // 2:
        raise ConfigError(
            f"--gaussian-blur-prob is {gaussian_blur_prob}; the blur needs images of more than "
            f"{BLUR_KERNEL // 2} pixels a side, and the space's are {size[0]} x {size[1]}."
        )
    _require_policy(auto_augment)
    _require_interpolation(interpolation)
    resizing = interpolation if train_interpolation is None else train_interpolation
    if resizing != "random":
        _require_interpolation(resizing, "train-interpolation")
    timm_fixes.apply()
    transform = create_transform(
        (model.in_chans, *size),
        is_training=True,
        use_prefetcher=True,
        scale=scale,
        ratio=ratio,
        hflip=hflip,
        vflip=vflip,
        auto_augment=auto_augment,
        color_jitter=_jitter(color_jitter),
        color_jitter_prob=color_jitter_prob,
        grayscale_prob=grayscale_prob,
        gaussian_blur_prob=gaussian_blur_prob,
        interpolation=resizing,
        mean=statistics(MODES.get(model.in_chans, "RGB"))[0] if mean is None else tuple(mean),
    )
    if max(size) <= TINY_IMAGE:
        padding = [size[1] // 8, size[0] // 8] if crop_padding is None else crop_padding
        transform.transforms[:1] = [_exact(size, resizing), transforms.RandomCrop(size, padding=padding)]
    return _ending_in_a_tensor(transform)


def eval_transform(
    model: ModelConfig, *, crop_pct: float | None = None, interpolation: str = "bicubic"
) -> transforms.Compose:
    """The transform of evaluated images: a Pillow image to 8-bit pixels, a tensor (channels, height, width).

    The image is resized, keeping its shape, so that its centre crop covers a share of the short side: 224
    pixels from a short side of 256 (paper section 4.1).

    Args:
        model: gives the image's size.
        crop_pct: the share; None means 0.875, or 1 for images up to 32 pixels.
        interpolation: one of `INTERPOLATIONS`.

    Raises:
        ConfigError: a value is out of its range; the sentence names the flag.
    """
    from timm.data import create_transform

    crop_pct = crop_of(model, crop_pct)
    if not 0 < crop_pct <= 1:
        raise ConfigError(f"--crop-pct is {crop_pct}; it should be above 0, up to 1.")
    _require_interpolation(interpolation)
    return _ending_in_a_tensor(
        create_transform(
            (model.in_chans, *model.img_size),
            use_prefetcher=True,
            crop_pct=crop_pct,
            interpolation=interpolation,
        )
    )


def crop_of(model: ModelConfig, crop_pct: float | None) -> float:
    """The share of the resized image's short side that the centre crop covers; None is the default."""
    if crop_pct is not None:
        return crop_pct
    return 0.875 if max(model.img_size) > TINY_IMAGE else 1.0


def _require_probabilities(flags: dict[str, float | None]) -> None:
    for flag, value in flags.items():
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"--{flag} is {value}; it should be from 0 to 1.")


def _require_policy(text: str | None) -> None:
    if text is None:
        return
    policy, *sections = text.split("-")
    if policy not in _SECTIONS:
        raise ConfigError(
            f"--aa {text}: '{policy}' is no policy; known are {', '.join(_SECTIONS)}, as in "
            "rand-m9-mstd0.5-inc1."
        )
    for section in sections:
        if not re.fullmatch(_SECTIONS[policy], section):
            raise ConfigError(f"--aa {text}: '{section}' is no section of the policy '{policy}' in timm.")


def _jitter(strength: float | Sequence[float] | None) -> Any:
    if strength is None or strength == 0:
        return None
    values = (strength,) * 3 if isinstance(strength, (int, float)) else tuple(strength)
    if len(values) == 1:
        values *= 3
    hue = values[3:]
    if len(values) not in (3, 4) or min(values) < 0 or (hue and hue[0] > 0.5):
        raise ConfigError(
            f"--color-jitter is {' '.join(map(str, values))}; it should be one number from 0, or three for "
            "brightness, contrast and saturation and perhaps a fourth up to 0.5 for hue."
        )
    return values


def _require_interpolation(name: str, flag: str = "interpolation") -> None:
    if name not in INTERPOLATIONS:
        more = ", random" if flag.startswith("train") else ""
        raise ConfigError(f"--{flag} {name}: known are {', '.join(INTERPOLATIONS)}{more}.")


def _exact(size: tuple[int, int], interpolation: str) -> Any:
    names = ("bilinear", "bicubic") if interpolation == "random" else (interpolation,)
    modes = [transforms.InterpolationMode(name) for name in names]
    resizes = [transforms.Resize(size, interpolation=mode) for mode in modes]
    return resizes[0] if len(resizes) == 1 else transforms.RandomChoice(resizes)


def _ending_in_a_tensor(transform: transforms.Compose) -> transforms.Compose:
    # timm's own last step makes a NumPy array in some versions, a tensor in others
    transform.transforms[-1] = transforms.PILToTensor()
    return transform

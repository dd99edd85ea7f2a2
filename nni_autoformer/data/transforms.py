"""Transforms from a decoded image to 8-bit pixels, by timm and torchvision."""

from __future__ import annotations

from torchvision import transforms

from ..errors import ConfigError
from ..space import ModelConfig

TINY_IMAGE = 32
"""Up to this side in pixels images are cropped with padding instead of resized, as DeiT's code does for
CIFAR.
"""

INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "box", "hamming", "lanczos")
"""timm's names."""


def train_transform(
    model: ModelConfig,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    crop_padding: int | None = None,
    hflip: float = 0.5,
    interpolation: str = "bicubic",
) -> transforms.Compose:
    """The random transform of training images: a Pillow image to 8-bit pixels, a tensor (channels, height,
    width).

    Images above 32 pixels: a random crop of random size and shape, resized (the published recipe's). Up to 32
    pixels: the image at its size, padded with zeros and cropped at random (DeiT's). Both: a horizontal flip.

    It draws from the global streams of Python and torch; `TrainImages` seeds them.

    Args:
        model: gives the image's size.
        scale: smallest and largest area of the crop, as shares of the image.
        ratio: smallest and largest aspect ratio of the crop.
        crop_padding: pixels around images up to 32 pixels; None means an eighth of the side.
        hflip: probability of the flip.
        interpolation: one of `INTERPOLATIONS`.

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
    if not 0 <= hflip <= 1:
        raise ConfigError(f"--hflip is {hflip}; it should be from 0 to 1.")
    _require_interpolation(interpolation)
    size = model.img_size
    transform = create_transform(
        (model.in_chans, *size),
        is_training=True,
        use_prefetcher=True,
        scale=scale,
        ratio=ratio,
        hflip=hflip,
        color_jitter=None,
        interpolation=interpolation,
    )
    if max(size) <= TINY_IMAGE:
        padding = [size[1] // 8, size[0] // 8] if crop_padding is None else crop_padding
        exact = transforms.Resize(size, interpolation=_mode(interpolation))
        transform.transforms[:1] = [exact, transforms.RandomCrop(size, padding=padding)]
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

    if crop_pct is None:
        crop_pct = 0.875 if max(model.img_size) > TINY_IMAGE else 1.0
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


def _require_interpolation(name: str) -> None:
    if name not in INTERPOLATIONS:
        raise ConfigError(f"--interpolation {name}: known are {', '.join(INTERPOLATIONS)}.")


def _mode(interpolation: str) -> transforms.InterpolationMode:
    return transforms.InterpolationMode(interpolation)


def _ending_in_a_tensor(transform: transforms.Compose) -> transforms.Compose:
    # timm's own last step makes a NumPy array in some versions, a tensor in others
    transform.transforms[-1] = transforms.PILToTensor()
    return transform

"""The one correction to timm that this package needs, with the place that it corrects and what happens
without it; `tests/data/test_augmentation.py` fails when it is no longer needed.
"""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageOps


def apply() -> None:
    """`timm/data/auto_augment.py`, `posterize` in `NAME_TO_OP`: put `posterize` in its place; doing it twice
    does nothing.

    Without it: the strongest posterizing keeps 0 bits (`PosterizeIncreasing` at magnitude 10, which
    'rand-m9-mstd0.5-inc1' draws for about 1 image in 700), today's Pillow (13) raises, and the epoch dies.
    """
    from timm.data import auto_augment

    for name, operation in auto_augment.NAME_TO_OP.items():
        if operation is auto_augment.posterize:
            auto_augment.NAME_TO_OP[name] = posterize


def posterize(image: Image.Image, bits_to_keep: int, **_: Any) -> Image.Image:
    """Keep the highest bits of each channel; none leaves a black image, as with the Pillow of the published
    recipe.
    """
    if bits_to_keep >= 8:
        return image
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    return ImageOps.posterize(image, bits_to_keep)

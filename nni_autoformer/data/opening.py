"""From an image file to 8-bit pixels: every mode that Pillow opens is converted as a viewer would show it, or
refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from .formats import readable_formats

_ALPHA = {"LA": "RGBA", "RGBA": "RGBA", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
"""Modes with transparency, and what makes RGBA of them, the premultiplied ones by a detour."""

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_SIXTEEN_BITS_AS_I = ("PPM", "PNG")
"""Formats of which Pillow gives 16 bits, a PGM scaled to them, as mode I; for PNG older versions do."""

_PLAIN = ("RGB", "L", "P", "1", "CMYK", "YCbCr", "RGBX")
"""Modes that Pillow converts as they are meant."""

_REFUSED = {
    "F": "floating-point numbers have no agreed brightness; save it with 8 or 16 bits per channel",
    "I": "whole numbers of 32 bits or with a sign have no agreed brightness; save it with 8 or 16 bits",
    "LAB": "L*a*b* colours are not converted; save it as RGB",
}

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""For each value of EXIF's tag what turns the pixels upright."""

_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


@contextmanager
def open_image(file: BinaryIO) -> Iterator[Image.Image]:
    """Open an image of a format that is read; its pixels are not decoded yet.

    Args:
        file: whatever its name is, its content decides.

    Raises:
        ValueError: it is of no such format.
    """
    formats = readable_formats()
    try:
        image = Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise ValueError(f"its content is none of {', '.join(formats)}") from None
    with image:
        yield image


def orientation_of(image: Image.Image) -> int:
    """How a camera was held, as EXIF numbers it, 1 to 8; 1, which is upright, also for a damaged tag."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever damaged tags make Pillow say; viewers show such an image as it is
        return 1
    return value if value in _TURNS else 1


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """An image as a viewer would show it, upright, in 8 bits per channel.

    16 bits are cut to the upper 8, transparent pixels are shown on white, of several frames or pages the
    first counts, and a photograph is turned as its orientation tag says.

    Args:
        image: image as Pillow opens it.
        mode: 'RGB' or 'L'.

    Raises:
        ValueError: the image's mode has no agreed meaning in 8 bits.
    """
    image.load()
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format in _SIXTEEN_BITS_AS_I):
        converted = _upper_bits(image).convert(mode)
    elif image.mode in _ALPHA or (image.mode in _PLAIN and "transparency" in image.info):
        converted = _on_white(image, mode)
    elif image.mode in _PLAIN:
        converted = image.convert(mode)
    else:
        why = _REFUSED.get(image.mode, "it has no agreed meaning in 8 bits; save it as RGB")
        raise ValueError(f"its mode is {image.mode}: {why}")
    turn = orientation_of(image)
    return converted if turn == 1 else converted.transpose(_TURNS[turn])


def _upper_bits(image: Image.Image) -> Image.Image:
    """8 bits of 16; Pillow's own conversion would make white of everything above 255."""
    pixels, tags = np.asarray(image), getattr(image, "tag_v2", {})
    upper = (pixels >> (4 if tags.get(_TIFF_BITS) == (12,) else 8)).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        upper = 255 - upper
    if "transparency" in image.info:
        upper[pixels == image.info["transparency"]] = 255
    return Image.fromarray(upper)


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    detour = _ALPHA.get(image.mode, "RGBA")
    picture = (image if detour == "RGBA" else image.convert(detour)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert(mode)

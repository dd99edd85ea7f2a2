"""Which files are images: the formats that are read, and the suffixes by which a folder's images are known.

Pillow is held to these formats. It knows others that start programs (PostScript starts Ghostscript) or that
no photograph is in.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module

FORMATS = {
    "JPEG": ("Jpeg", ".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": ("Png", ".png", ".apng"),
    "GIF": ("Gif", ".gif"),
    "BMP": ("Bmp", ".bmp"),
    "WEBP": ("WebP", ".webp"),
    "TIFF": ("Tiff", ".tif", ".tiff"),
    "PPM": ("Ppm", ".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": ("Avif", ".avif"),
    "JPEG2000": ("Jpeg2K", ".jp2", ".j2k"),
}
"""For each of Pillow's formats the module that reads it, and its suffixes."""

_SAME = {"MPO": "JPEG"}
"""A JPEG file with a second picture, as telephones write it."""


@lru_cache(maxsize=1)
def readable_formats() -> tuple[str, ...]:
    """The formats of `FORMATS` that the installed Pillow can read."""
    found = []
    for name, (plugin, *_) in FORMATS.items():
        try:
            module = import_module(f"PIL.{plugin}ImagePlugin")
        except ImportError:
            continue
        if getattr(module, "SUPPORTED", True):
            found.append(name)
    return tuple(found)


@lru_cache(maxsize=1)
def image_suffixes() -> tuple[str, ...]:
    """The suffixes of the readable formats, in lower case with the dot."""
    return tuple(suffix for name in readable_formats() for suffix in FORMATS[name][1:])


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case with the dot; empty if it has none."""
    return os.path.splitext(name)[1].lower()


def suffix_fits(suffix: str, content: str) -> bool:
    """Whether a suffix is one of the format that Pillow has found in the file."""
    return suffix in FORMATS.get(_SAME.get(content, content), (content,))[1:]

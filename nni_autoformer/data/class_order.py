"""The order of classes that are numbers, for networks that do not know the names of theirs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .source import ImageSource

_logger = logging.getLogger("nni_autoformer")


def in_order_of(source: ImageSource, trained: Sequence[str] | None) -> ImageSource:
    """Images with their classes in the order that a network has them in.

    A network that was trained here knows the names of its classes, in the order of the text as folders are
    sorted. Of one that does not (a published file), folders named 0 to n-1 are its output's numbers, as in
    ImageNet-V2: '10' comes after '2'.

    Args:
        source: the images.
        trained: names of the network's classes; None if it does not know them.
    """
    if trained is not None or not all(name.isdecimal() for name in source.classes):
        return source
    numbers = [int(name) for name in source.classes]
    if sorted(numbers) != list(range(len(numbers))):
        _logger.warning(
            f"The classes are numbers, though not 0 to {len(numbers) - 1}, and the checkpoint does not know "
            "the names of its classes: they are taken in the order of the text, as '10' before '2'."
        )
        return source
    names = [name for _, name in sorted(zip(numbers, source.classes))]
    return replace(source, classes=names, targets=np.array(numbers, dtype=np.int64)[source.targets])

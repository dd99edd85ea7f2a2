"""The order of classes: that of a network's logits, where a data set has the same classes in another one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .source import ImageSource

_logger = logging.getLogger("nni_autoformer")


def in_order_of(source: ImageSource, trained: Sequence[str] | None) -> ImageSource:
    """Images with their classes in the order that a network has them in.

    A network that was trained here knows the names of its classes, which are then matched by name. Of one
    that does not (a published file), folders named 0 to n-1 are the numbers of its logits, as in ImageNet-V2:
    '10' comes after '2', while folders are sorted as text.

    Args:
        source: the images.
        trained: names of the network's classes; None if it does not know them.

    Returns:
        The same images; as they were where the network's order is theirs, or cannot be known.
    """
    if trained is not None:
        same = sorted(trained) == sorted(source.classes) and list(trained) != source.classes
        return _reordered(source, list(trained)) if same else source
    if not all(name.isdecimal() for name in source.classes):
        return source
    last = len(source.classes) - 1
    if sorted(map(int, source.classes)) != list(range(last + 1)):
        _logger.warning(
            f"The classes are numbers, though not 0 to {last}, and the checkpoint does not know the names of "
            "its classes: they are taken in the order of the text, as '10' before '2'."
        )
        return source
    return _reordered(source, sorted(source.classes, key=int))


def _reordered(source: ImageSource, classes: list[str]) -> ImageSource:
    places = {name: number for number, name in enumerate(classes)}
    numbers = np.array([places[name] for name in source.classes], dtype=np.int64)
    return replace(source, classes=classes, targets=numbers[source.targets])

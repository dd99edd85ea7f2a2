"""Images: where they come from, how they are transformed, which are held out, and the decode-once cache.

The public names are resolved when they are first used: a trial that finds its images decoded needs neither
torchvision nor timm.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .bad_images import BadImages, readable
    from .cache import DecodedImages, decode
    from .class_order import in_order_of
    from .contents import Contents
    from .loading import EpochSampler, TrainImages, default_workers, train_loader
    from .pixels import normalise
    from .selection import (
        Selection,
        default_per_class,
        draw_selection,
        parse_selection,
        read_selection,
        split_selection,
        write_selection,
    )
    from .source import DataSplits, ImageSource
    from .sources import open_data
    from .store import ImageStore, image_key
    from .survey import Survey, describe, survey_of
    from .transforms import eval_transform, train_transform

_HOMES = {
    "BadImages": "bad_images",
    "Contents": "contents",
    "DataSplits": "source",
    "DecodedImages": "cache",
    "EpochSampler": "loading",
    "ImageSource": "source",
    "ImageStore": "store",
    "Selection": "selection",
    "Survey": "survey",
    "TrainImages": "loading",
    "decode": "cache",
    "default_per_class": "selection",
    "default_workers": "loading",
    "describe": "survey",
    "draw_selection": "selection",
    "eval_transform": "transforms",
    "image_key": "store",
    "in_order_of": "class_order",
    "normalise": "pixels",
    "open_data": "sources",
    "parse_selection": "selection",
    "read_selection": "selection",
    "readable": "bad_images",
    "split_selection": "selection",
    "survey_of": "survey",
    "train_loader": "loading",
    "train_transform": "transforms",
    "write_selection": "selection",
}

__all__ = [
    "BadImages",
    "Contents",
    "DataSplits",
    "DecodedImages",
    "EpochSampler",
    "ImageSource",
    "ImageStore",
    "Selection",
    "Survey",
    "TrainImages",
    "decode",
    "default_per_class",
    "default_workers",
    "describe",
    "draw_selection",
    "eval_transform",
    "image_key",
    "in_order_of",
    "normalise",
    "open_data",
    "parse_selection",
    "read_selection",
    "readable",
    "split_selection",
    "survey_of",
    "train_loader",
    "train_transform",
    "write_selection",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)

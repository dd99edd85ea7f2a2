"""Images: where they come from, how they are transformed, which are held out, and the decode-once cache."""

from .cache import DecodedImages, decode
from .loading import EpochSampler, TrainImages, train_loader
from .selection import (
    Selection,
    default_per_class,
    draw_selection,
    parse_selection,
    read_selection,
    split_selection,
    write_selection,
)
from .sources import DataSplits, ImageSource, open_data
from .transforms import eval_transform, normalise, train_transform

__all__ = [
    "DataSplits",
    "DecodedImages",
    "EpochSampler",
    "ImageSource",
    "Selection",
    "TrainImages",
    "decode",
    "default_per_class",
    "draw_selection",
    "eval_transform",
    "normalise",
    "open_data",
    "parse_selection",
    "read_selection",
    "split_selection",
    "train_loader",
    "train_transform",
    "write_selection",
]

"""The data sets by name, and what opens each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ConfigError
from .catalogue import NAMES, PREFIXES, STREAMS, TORCHVISION, needs_root
from .folders import open_folder
from .huggingface import open_huggingface
from .source import MODES, DataSplits, array_source
from .torchvision_sets import open_torchvision
from .webdataset import open_webdataset

DIGITS_MEAN, DIGITS_STD = (0.305,), (0.376,)
"""Mean and standard deviation of the digits' training images, scaled to 0..1."""


def open_data(
    dataset: str,
    root: str | Path | None,
    in_chans: int = 3,
    download: bool = False,
    test_only: bool = False,
) -> DataSplits:
    """Open a data set by name; no image is decoded yet.

    Args:
        dataset: 'folder' (`root/train/CLASS/…` and `root/val/CLASS/…` or `root/test/CLASS/…`), 'digits', a
            name in `catalogue.TORCHVISION`, or 'hfds/NAME' or 'wds/NAME' for timm's dataset factory.
        root: folder of the images; 'digits' needs none, and for 'hfds/…' it is the cache.
        in_chans: channels that the network wants: 1 or 3; images of other channels are converted.
        download: let torchvision or Hugging Face download what is missing.
        test_only: look at the test images alone, where that saves time: `train` is then the same as `test`. A
            listing of ImageNet's training folder takes minutes.

    Raises:
        ConfigError: the data is not there or not as it should be.
    """
    try:
        return _opened(dataset, root, in_chans, download, test_only)
    except OSError as error:  # a name that is too long, a folder that may not be listed, a disk that fails
        raise ConfigError(
            f"--data {root}: {error.filename or root} cannot be read ({error.strerror})."
        ) from None


def _opened(
    dataset: str, root: str | Path | None, in_chans: int, download: bool, test_only: bool
) -> DataSplits:
    if in_chans not in MODES:
        raise ConfigError(f"the space's in_chans is {in_chans}; images can be read with 1 or 3 channels.")
    mode, prefix = MODES[in_chans], dataset.split("/")[0].lower() + "/"
    if dataset == "digits":
        return _digits(mode)
    if "/" in dataset and prefix in STREAMS:
        raise ConfigError(
            f"--dataset {dataset}: {prefix} can only be streamed, and the selection set and a resumed epoch "
            f"need images by number; known are {', '.join(PREFIXES)} and image folders."
        )
    if dataset not in NAMES and prefix not in PREFIXES:
        raise ConfigError(
            f"--dataset {dataset}: there is no such data set; known are {', '.join(NAMES)}, hfds/NAME and "
            "wds/NAME."
        )
    if root is None and needs_root(dataset):
        raise ConfigError(f"--data is missing: --dataset {dataset} needs the folder of the images.")
    if prefix == "hfds/":
        return open_huggingface(dataset, None if root is None else Path(root), mode, download, test_only)
    assert root is not None
    if prefix == "wds/":
        return open_webdataset(dataset, Path(root), mode, test_only)
    if dataset == "folder":
        return open_folder(Path(root), mode, test_only)
    return open_torchvision(TORCHVISION[dataset], Path(root), mode, download)


def _digits(mode: str) -> DataSplits:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)
    parts = train_test_split(images, data.target, test_size=1 / 3, stratify=data.target, random_state=0)
    classes = [str(name) for name in data.target_names]
    train = array_source("train", parts[0], parts[2], classes, mode)
    test = array_source("test", parts[1], parts[3], classes, mode)
    channels = 1 if mode == "L" else 3
    return DataSplits(train, test, DIGITS_MEAN * channels, DIGITS_STD * channels)

"""Which images a job is about and how they are loaded, as data; loads no library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import at_least, require_ranges, setting
from ..files import real_path
from .catalogue import NAMES

if TYPE_CHECKING:
    from .source import DataSplits


@dataclass(frozen=True)
class DataSet:
    """A data set by its name and the folder of its images; ``DataSet(data="DIR")`` is a folder of images,
    ``DataSet("digits")`` needs none.

    Raises:
        ConfigError: a value is out of its range.
    """

    dataset: str = setting(
        "folder",
        "'folder': DIR/train/CLASS/… and DIR/val/CLASS/… or DIR/test/CLASS/… (the default); "
        f"{', '.join(NAMES[1:-1])} through torchvision; hfds/NAME of the Hugging Face Hub; wds/NAME for "
        "WebDataset shards; 'digits': scikit-learn's scanned digits, which need no --data",
        group="data",
        metavar="NAME",
    )
    data: str | None = setting(
        None, "folder of the images; for hfds/NAME of Hugging Face's cache", group="data", metavar="DIR"
    )
    download: bool = setting(False, "let torchvision or Hugging Face fetch what is missing", group="data")
    workers: int | None = setting(
        None,
        "processes that load images; 0 loads in this one (default: one per core for each process that "
        "trains, at most 8, and 0 for fewer than 2,000 images); results do not depend on it",
        at_least(0),
        "data",
        "N",
    )

    def __post_init__(self) -> None:
        if isinstance(self.data, Path):
            object.__setattr__(self, "data", str(self.data))
        require_ranges(self)

    @classmethod
    def of(cls, value: DataSet | str | Path) -> DataSet:
        """A data set from what a user has: the object, the name of one that needs no folder, or a folder of
        images.
        """
        if isinstance(value, DataSet):
            return value
        return cls("digits") if value == "digits" else cls(data=str(value))

    @property
    def folder(self) -> str | None:
        """The folder with its whole path."""
        return None if self.data is None else str(real_path(self.data))

    def open(self, in_chans: int = 3, test_only: bool = False) -> DataSplits:
        """The images, see `open_data`.

        Args:
            in_chans: channels that the network wants.
            test_only: leave a folder's training images unread; the test images stand in their place.

        Raises:
            ConfigError: they are not there, or not as they should be.
        """
        from .sources import open_data

        return open_data(self.dataset, self.data, in_chans, self.download, test_only)


@dataclass(frozen=True)
class Loading:
    """How training images are loaded; results depend on the last value alone."""

    pin_memory: bool | None = setting(
        None,
        "load into memory that a GPU copies from faster (default: if there is a GPU)",
        group="loading",
    )
    persistent_workers: bool = setting(
        True, "keep the loading processes from one epoch to the next (the default)", group="loading"
    )
    skip_bad_images: bool = setting(
        False,
        "leave out images that cannot be read, name and count them; without it the first one ends the run. "
        "In training a drawn image takes a bad one's place; validation and selection images are all read "
        "once more to find the bad ones",
        group="loading",
    )

    def __post_init__(self) -> None:
        require_ranges(self)

    def arguments(self, workers: int | None, images: int) -> dict[str, Any]:
        """What `train_loader` is told.

        Args:
            workers: processes that load; None for the default.
            images: number of images, for the default number of workers.
        """
        from .bad_images import BadImages
        from .loading import default_workers

        return {
            "workers": default_workers(images) if workers is None else workers,
            "pin_memory": self.pin_memory,
            "persistent_workers": self.persistent_workers,
            "bad_images": BadImages() if self.skip_bad_images else None,
        }

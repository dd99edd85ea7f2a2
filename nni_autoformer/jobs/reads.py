"""What a run reads, recorded by its contents, so that a resume notices what has changed meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..config import shown
from ..data.data_set import DataSet
from ..errors import ConfigError
from ..files import file_digest
from ..training.ranks import Ranks

if TYPE_CHECKING:
    from ..checkpoints.run_facts import RunFacts
    from ..data import DataSplits, ImageSource

_logger = logging.getLogger("nni_autoformer")


class Reads(Protocol):
    """Something that a run reads."""

    def record(self) -> Any:
        """What the run's record keeps of it, as JSON values."""

    def changes(self, before: Any, where: str) -> list[str]:
        """What is different now, in words; empty where nothing is.

        Args:
            before: what the record has kept.
            where: file and key of the record, for error messages.

        Raises:
            ConfigError: the record is damaged.
        """


@dataclass(frozen=True)
class ImagesRead:
    """A set of images: their names, classes and pixels.

    Attributes:
        source: the images.
    """

    source: ImageSource

    def record(self) -> dict[str, Any]:
        from ..data.contents import Contents, FileStates

        states = FileStates()
        content = Contents.of(self.source, states=states).to_dict()
        return content | ({"states": states.parts} if states.parts else {})

    def changes(self, before: Any, where: str) -> list[str]:
        from ..data.contents import Contents, FileStates

        content, states = dict(before) if isinstance(before, Mapping) else before, FileStates()
        kept = content.pop("states", []) if isinstance(content, dict) else []
        if not isinstance(kept, list):
            raise ConfigError(f"{where}: states is {shown(repr(kept))}; it should be a list.")
        changes = Contents.from_dict(content, where).changes(self.source, states=states)
        files = self.source.used_files()
        if not changes and (touched := states.touched(kept, files)):
            _logger.warning(
                "Images were written or replaced since the run began, with the size and the time that they "
                f"had before: {touched}. The run goes on as if they were the same."
            )
        return changes


@dataclass(frozen=True)
class FileRead:
    """A file: its bytes.

    Attributes:
        path: the file.
    """

    path: Path

    def record(self) -> str:
        return file_digest(self.path)

    def changes(self, before: Any, where: str) -> list[str]:
        if not isinstance(before, str):
            raise ConfigError(f"{where}: this is no digest of a file.")
        return [] if file_digest(self.path) == before else [f"the content of {self.path}"]


def files_read(**paths: str | Path | None) -> dict[str, Reads]:
    """The files among some values, by what they are to the run; names and Nones are left out."""
    return {
        name.replace("_", " "): FileRead(Path(path))
        for name, path in paths.items()
        if path is not None and Path(path).is_file()
    }


def files_among(values: Iterable[object]) -> list[str | Path]:
    """The values that may be names of files."""
    return [value for value in values if isinstance(value, (str, Path))]


def open_splits(data: DataSet, in_chans: int, ranks: Ranks = Ranks(), test_only: bool = False) -> DataSplits:
    """The images of a data set, and a sentence for the user about what they are.

    Args:
        data: data set.
        in_chans: channels that the network wants.
        ranks: this process among those of the run.
        test_only: leave a folder's training images unread.

    Raises:
        ConfigError: they are not there, or not as they should be.
    """
    from ..data.survey import describe

    splits = data.open(in_chans, test_only)
    if ranks.main:
        _logger.info(describe(splits))
    return splits


def normalised_as(run: RunFacts, outputs: int, splits: DataSplits) -> DataSplits:
    """The data, with its images normalised as a checkpoint's weights are used to, and classes that are
    numbers in the order of its logits if it does not know their names.

    Args:
        run: what the checkpoint says of its training.
        outputs: number of its logits.
        splits: images of the data set.
    """
    from ..data import in_order_of

    if run.classes is None and len(splits.train.classes) == outputs:
        splits = replace(splits, train=in_order_of(splits.train, None), test=in_order_of(splits.test, None))
    return splits if run.mean is None or run.std is None else replace(splits, mean=run.mean, std=run.std)

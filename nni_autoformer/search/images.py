"""The images that subnets are compared or tested on, prepared as the supernet was validated."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..checkpoints.header import Header
from ..data.cache import DecodedImages
from ..data.store import ImageStore, image_key
from ..errors import ConfigError
from ..files import digest, real_path
from ..training.ranks import Ranks

if TYPE_CHECKING:
    from ..data import DataSplits, ImageSource

_logger = logging.getLogger("nni_autoformer")


@dataclass(frozen=True)
class EvaluationImages:
    """Which images, and where they are.

    Attributes:
        checkpoint: the supernet; its list of held-out images lies beside it.
        dataset: name of the data set, see `data.open_data`.
        data: folder of the images.
        split: 'selection', or 'test'.
        selection: 'N-per-class' or a file in place of the checkpoint's own list.
        store: folder of decoded images, see `ImageStore`; None for the user's cache, 'none' for memory.
        workers: processes that decode; None for the default, see `data.default_workers`.
        download: let torchvision or Hugging Face fetch what is missing.
    """

    checkpoint: str
    dataset: str = "folder"
    data: str | None = None
    split: str = "selection"
    selection: str | None = None
    store: str | None = None
    workers: int | None = 0
    download: bool = False

    def source(self, header: Header) -> ImageSource:
        """The images, not decoded yet.

        Raises:
            ConfigError: they are not there, are of other classes than the checkpoint's, or are not those that
                its training held out.
        """
        from ..data import describe, open_data

        test = self.split == "test"
        data = None if self.data is None else Path(self.data)
        splits = open_data(self.dataset, data, header.space.model.in_chans, self.download, test_only=test)
        _logger.info(describe(splits))
        return self.of(header, splits)

    def of(self, header: Header, splits: DataSplits) -> ImageSource:
        """The images among those of a data set that is open already; raises as `source`."""
        from ..data.class_order import in_order_of

        path = Path(self.checkpoint)
        source = in_order_of(splits.test if self.split == "test" else splits.train, header.run.classes)
        require_classes(source.classes, header, path)
        return source if self.split == "test" else selection_of(path, header, source, self.selection)

    def decoded(
        self, header: Header, progress: str | None = None, source: ImageSource | None = None
    ) -> DecodedImages:
        """The images, decoded: from the store if it holds them.

        Args:
            header: header of the checkpoint.
            progress: the description of a progress bar.
            source: the images, when the caller has looked at the data set already: what the store holds is
                compared with them. A trial gives None, and does without the libraries that read the data set
                if the file system shows that nothing has changed since the images were decoded, or if the
                data set is not on its machine.

        Raises:
            ConfigError: as `source`; an image cannot be read; the header does not say how images are
                normalised.
        """
        self._require_normalised(header)
        if self.store == "none":
            return self._decode(header, source or self.source(header), progress)
        held_out = header.run.selection
        names = None if held_out is None else held_out.digest
        if source is None and (self.split == "test" or self.selection is not None or names is None):
            source = self.source(header)
        if source is not None:
            names = digest(source.identifiers)
        key = self._key(header, str(names))
        try:
            store = ImageStore(self.store)
            with store.lock(key):
                elsewhere = self.data is not None and not Path(self.data).exists()
                found = store.get(key, source, trust=source is None and elsewhere)
                if found is None and source is None:
                    source = self.source(header)
                    found = store.get(key, source)
                if found is not None:
                    return found
                assert source is not None
                return store.put(key, source, self._transform(header), progress, self._workers(source))
        except OSError as error:
            _logger.warning(f"Decoded images are kept in memory, not on disk: {error}.")
            return self._decode(header, source or self.source(header), progress)

    def share(
        self,
        header: Header,
        ranks: Ranks,
        batch_size: int,
        progress: str | None = None,
        source: ImageSource | None = None,
    ) -> DecodedImages:
        """What one of several processes evaluates of the images: every so many-th batch, whole, so that each
        image is among those that it is among when one process has all.

        Args:
            header: header of the checkpoint.
            ranks: this process among the others.
            batch_size: images per forward pass.
            progress, source: as for `decoded`; several processes need the source.

        Raises:
            ConfigError: as `decoded`.
        """
        if ranks.world_size == 1:
            return self.decoded(header, progress, source)
        assert source is not None
        self._require_normalised(header)
        mine = _batches_of(len(source), ranks, batch_size)
        if not mine:
            return DecodedImages(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
        if self.store == "none":
            return self._decode(header, source.subset(mine), progress)
        whole = self.decoded(header, progress, source)
        names = [whole.identifiers[i] for i in mine]
        return DecodedImages(whole.images[mine], whole.targets[mine], names)

    def _decode(self, header: Header, source: ImageSource, progress: str | None) -> DecodedImages:
        from ..data import decode

        return decode(source, self._transform(header), progress, self._workers(source))

    def _require_normalised(self, header: Header) -> None:
        if header.run.mean is None or header.run.std is None:
            raise ConfigError(
                f"{self.checkpoint}: the checkpoint's header does not say how images are normalised (mean, "
                "std)."
            )

    def _workers(self, source: ImageSource) -> int:
        from ..data import default_workers

        return default_workers(len(source)) if self.workers is None else self.workers

    def _preparation(self, header: Header) -> dict[str, Any]:
        run = header.run
        return {
            "crop_pct": run.crop_pct,
            "interpolation": run.interpolation or "bicubic",
        }

    def _transform(self, header: Header) -> Any:
        from ..data import eval_transform

        return eval_transform(header.space.model, **self._preparation(header))

    def _key(self, header: Header, names: str) -> str:
        model = header.space.model
        return image_key(
            dataset=self.dataset,
            data=None if self.data is None else str(real_path(self.data)),
            images=names,
            size=[model.in_chans, *model.img_size],
            **self._preparation(header),
        )


def _batches_of(images: int, ranks: Ranks, batch_size: int) -> list[int]:
    starts = range(ranks.rank * batch_size, images, ranks.world_size * batch_size)
    return [i for start in starts for i in range(start, min(start + batch_size, images))]


def selection_of(checkpoint: Path, header: Header, source: ImageSource, flag: str | None) -> ImageSource:
    """The images that candidates are compared on.

    Args:
        checkpoint: the supernet; its list of held-out images lies beside it.
        header: what the checkpoint says of itself.
        source: the training images.
        flag: 'N-per-class', a file, or None for the checkpoint's own list.

    Raises:
        ConfigError: the list is missing or is not the one that the supernet was trained without.
    """
    from ..data import draw_selection, parse_selection, read_selection, split_selection

    held_out = header.run.selection
    if flag is None:
        if held_out is None:
            raise ConfigError(
                f"{checkpoint}: the supernet was trained without a selection set; give --selection "
                "N-per-class or a file. It may have been trained on these images, which flatters large "
                "subnets."
            )
        path = checkpoint.parent / held_out.file
        # bad images of a class may have left its list without any
        indices = read_selection(path, source, every_class=False)
        if digest([source.identifiers[i] for i in indices]) != held_out.digest:
            raise ConfigError(f"{path}: this is not the list that {checkpoint} was trained without.")
        return source.subset(indices)
    wanted = parse_selection(flag)
    if wanted.none:
        raise ConfigError("--selection none: a search needs images to compare candidates on.")
    indices = (
        read_selection(wanted.file, source)
        if wanted.file
        else draw_selection(source, wanted.per_class, header.run.seed)
    )
    chosen = split_selection(source, indices)[1]
    if held_out is None or digest(chosen.identifiers) != held_out.digest:
        _logger.info(
            "The supernet may have been trained on the selection images, which flatters large subnets."
        )
    return chosen


def require_classes(found: list[str], header: Header, source: Path) -> None:
    """Check that the data has the classes that a checkpoint was trained on, in the same order.

    Raises:
        ConfigError: it has not; the sentence names the first difference.
    """
    count = header.space.model.num_classes
    if len(found) != count:
        raise ConfigError(
            f"{source}: the checkpoint was trained on {count} classes; the data has {len(found)}."
        )
    trained = header.run.classes
    if trained is None or list(trained) == found:
        return
    here, there = next(pair for pair in zip(found, trained) if pair[0] != pair[1])
    raise ConfigError(
        f"{source}: the checkpoint was trained on other classes: '{there}' where the data has '{here}'."
    )

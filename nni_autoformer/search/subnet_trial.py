"""What one trial of a search does: a single subnet with inherited weights, from files alone.

Needs torch, and not NNI's NAS part, timm, torchvision or Lightning: NNI starts a process per trial, and what
that imports is most of its cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..architecture import Architecture
from ..bars import Bar
from ..checkpoints import Checkpoint
from ..costs import COSTS, Costs, measured_costs
from ..devices import pick_device
from ..space import ModelConfig, SearchSpace
from ..training.ranks import Ranks
from .accuracy import Accuracy, Counts, count
from .batch_size import Batches, BatchSize
from .folder import IMAGES_CHECKSUM
from .images import EvaluationImages

if TYPE_CHECKING:
    from ..checkpoints import Header
    from ..data.cache import DecodedImages

REPORTS = 10
"""About how many points the curve of a trial has."""


def evaluate_subnet(
    images: EvaluationImages,
    architecture: Architecture,
    *,
    space: SearchSpace | None = None,
    batch_size: BatchSize = "auto",
    device: str = "auto",
    precision: str = "fp32",
    on_progress: Callable[[float], Any] | None = None,
    progress: bool = False,
    checkpoint: Checkpoint | None = None,
    ranks: Ranks = Ranks(),
    costs: Costs = COSTS,
) -> dict[str, Any]:
    """Evaluate one subnet of a checkpoint.

    Args:
        images: path of the checkpoint, and which images.
        architecture: subnet that is evaluated.
        space: search space that the caller expects.
        batch_size: images per forward pass, or 'auto'.
        device: 'auto', 'cpu', 'cuda', …
        precision: 'fp32', 'bf16' or 'fp16'.
        on_progress: called about ten times with the accuracy so far, in percent.
        progress: show progress bars.
        checkpoint: the checkpoint, where the caller has opened it already.
        ranks: this process among those that share the images.
        costs: which costs are reported.

    Returns:
        On every rank, what a trial reports: 'default', which is top-1 in percent, 'top5', 'images', 'loss',
        which is the mean cross-entropy, the costs, such as 'params (M)', and of one process
        'images_checksum', by which a search knows that its trials see the same images.

    Raises:
        ConfigError: the checkpoint or the images cannot be used.
    """
    checkpoint = checkpoint or Checkpoint(images.checkpoint, space)
    subnet, header = ranks.agree(lambda: checkpoint.subnet(architecture)), checkpoint.header
    target, several = pick_device(device), ranks.world_size > 1
    batches = Batches.of(batch_size, architecture, header.space.model, target)
    decoded = _share(images, header, ranks, batches, f"decode {images.split} images" if progress else None)
    seen, step = 0, max(1, -(-len(decoded) // REPORTS))

    def on_batch(images_of_batch: int, right: Callable[[], float]) -> None:
        nonlocal seen
        bar.update(images_of_batch)
        before, seen = seen, seen + images_of_batch
        # reading the count makes a GPU wait, so only now and then
        if on_progress is not None and (before // step < seen // step or seen == len(decoded)):
            on_progress(100 * right() / seen)

    if on_progress is not None and not several:
        batches.size = min(batches.size, step)

    def evaluated() -> Counts:
        return count(
            subnet.to(target).eval(),
            decoded,
            header.run.mean or (),
            header.run.std or (),
            batch_size=batches,
            device=target,
            precision=precision,
            on_batch=on_batch,
        )

    name = f"test, process 1 of {ranks.world_size}" if several else "test"
    with Bar(len(decoded), name, shown=progress) as bar:
        counts = sum(ranks.gathered(ranks.agree(evaluated)), Counts())
    accuracy = ranks.agree(lambda: counts.accuracy(precision))
    checksum = None if several else decoded.checksum()
    return trial_metric(accuracy, architecture, header.space.model, checksum, costs)


def _share(
    images: EvaluationImages, header: Header, ranks: Ranks, batches: Batches, progress: str | None
) -> DecodedImages:
    """What this rank evaluates of the images, in batches that are the same for all."""
    source = None
    if ranks.world_size > 1:
        source = ranks.agree(lambda: images.source(header), one_first=True)
        batches.size = ranks.gathered(batches.size)[0]  # the free memory of another GPU may be less
    return ranks.agree(lambda: images.share(header, ranks, batches.size, progress, source))


def trial_metric(
    accuracy: Accuracy,
    architecture: Architecture,
    model: ModelConfig,
    checksum: int | None,
    costs: Costs = COSTS,
) -> dict[str, Any]:
    """What a trial reports of a subnet; NNI charts the value under 'default'."""
    values = asdict(accuracy)
    metric = {"default": values.pop("top1"), **values}
    images = {} if checksum is None else {IMAGES_CHECKSUM: checksum}
    return metric | measured_costs(architecture, model, costs) | images

"""What one trial of a search does: a single subnet with inherited weights, from files alone.

Needs torch, and not NNI's NAS part, timm, torchvision or Lightning: NNI starts a process per trial, and what
that imports is most of its cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tqdm.auto import tqdm

from ..architecture import Architecture
from ..checkpoints import Checkpoint
from ..complexity import costs_of
from ..devices import pick_device
from ..space import SearchSpace
from .accuracy import Accuracy, measure
from .batch_size import Batches, BatchSize
from .folder import IMAGES_CHECKSUM
from .images import EvaluationImages

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

    Returns:
        What a trial reports: 'default', which is top-1 in percent, 'top1', 'top5', 'images', 'params', 'macs'
        and 'images_checksum', by which a search knows that its trials see the same images.

    Raises:
        ConfigError: the checkpoint or the images cannot be used.
    """
    checkpoint = checkpoint or Checkpoint(images.checkpoint, space)
    subnet, header = checkpoint.subnet(architecture), checkpoint.header
    decoded = images.decoded(header, f"decode {images.split} images" if progress else None)
    target = pick_device(device)
    seen, step = 0, -(-len(decoded) // REPORTS)

    def on_batch(count: int, right: Callable[[], float]) -> None:
        nonlocal seen
        bar.update(count)
        before, seen = seen, seen + count
        # reading the count makes a GPU wait, so only now and then
        if on_progress is not None and (before // step < seen // step or seen == len(decoded)):
            on_progress(100 * right() / seen)

    batches = Batches.of(batch_size, architecture, header.space.model, target)
    if on_progress is not None:
        batches.size = min(batches.size, step)
    with tqdm(total=len(decoded), desc="test", unit="image", disable=not progress) as bar:
        accuracy: Accuracy = measure(
            subnet.to(target).eval(),
            decoded,
            header.run.mean or (),
            header.run.std or (),
            batch_size=batches,
            device=target,
            precision=precision,
            on_batch=on_batch,
        )
    costs = costs_of(architecture, header.space.model)
    return {"default": accuracy.top1, **asdict(accuracy), **costs, IMAGES_CHECKSUM: decoded.checksum()}

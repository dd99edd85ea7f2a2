"""What a job is going to do, as a sentence for the log before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..architecture import Architecture
from ..costs import KNOWN, told_costs
from ..search.limits import Limits
from ..space import SearchSpace

if TYPE_CHECKING:
    from ..search.evaluation import Evaluation
    from ..search.searcher import Searcher
    from .preparation import TrainJob


def training_plan(job: TrainJob) -> str:
    """Of a training: images, classes, what is held out, where, how exactly and how fast it learns."""
    recipe, space, ranks = job.recipe, job.space, job.ranks
    held_out = "none held out" if job.held_out is None else f"{len(job.held_out):,} more held out"
    where = job.device.type if ranks.world_size == 1 else f"{ranks.world_size} processes ({job.device.type})"
    return (
        f"Training for {_counted(recipe.epochs, 'epoch')} on {len(job.training):,} images of "
        f"{space.model.num_classes:,} classes, {held_out}; on {where} in {recipe.precision}, "
        f"{recipe.global_batch(ranks.world_size):,} images per step, learning rate up to "
        f"{recipe.peak_lr(ranks.world_size):.3g}."
    )


def search_plan(searcher: Searcher, images: int, evaluation: Evaluation) -> str:
    """Of a search: how many candidates within which limits, on how many images, where and how exactly."""
    space, generations = searcher.space, _counted(searcher.generations, "generation")
    return (
        f"Searching the {told_size(space)} of '{space.name}'{told_limits(searcher.limits)}: "
        f"{searcher.planned:,} candidates in {generations}, each on {images:,} selection images of "
        f"{space.model.num_classes:,} classes; {_where(evaluation)}."
    )


def sample_plan(
    subnets: int, space: SearchSpace, limits: Limits, images: int, split: str, evaluation: Evaluation
) -> str:
    """Of a sample: how many subnets of how many, on which images, where and how exactly."""
    return (
        f"Evaluating {subnets:,} of the {told_size(space)} of '{space.name}'{told_limits(limits)}, each on "
        f"{images:,} {split} images of {space.model.num_classes:,} classes; {_where(evaluation)}."
    )


def test_plan(architecture: Architecture, space: SearchSpace, split: str, evaluation: Evaluation) -> str:
    """Of a test: which subnet, on which images, where and how exactly."""
    return (
        f"Testing {architecture} ({told_costs(architecture, space.model)}) on the {split} images of "
        f"{space.model.num_classes:,} classes; {_where(evaluation)}."
    )


test_plan.__test__ = False  # type: ignore[attr-defined]  # pytest takes an imported function of this name for a test


def told_size(space: SearchSpace) -> str:
    """How many subnets a space has."""
    return f"{space.size:,} subnets" if space.size < 10**9 else f"{space.size:.1e} subnets"


def told_limits(limits: Limits) -> str:
    """The limits, behind a space's name; nothing without any."""
    parts = []
    for name, (low, high) in limits.items():
        cost = KNOWN[name]
        words = [
            f"{word} {value:g} {cost.unit}"
            for word, value in (("at least", low), ("at most", high))
            if value is not None
        ]
        if words:
            parts.append(f"{' and '.join(words)} {cost.title}")
    return f" with {', '.join(parts)}" if parts else ""


def _where(evaluation: Evaluation) -> str:
    from ..devices import pick_device

    return f"on {pick_device(evaluation.device).type} in {evaluation.precision}"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"

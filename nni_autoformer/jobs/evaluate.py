"""Testing one subnet with the weights of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..architecture import Architecture
from ..costs import COSTS, Costs, costs_of
from ..data.data_set import DataSet
from ..deployment import Deployment, Target
from ..errors import ConfigError
from ..experiment import current_trial
from ..files import real_path
from ..search.evaluation import Evaluation
from ..search.folder import IMAGES_CHECKSUM
from ..space import SearchSpace
from ..training.ranks import Ranks
from .plans import test_plan
from .remembered import data_for

if TYPE_CHECKING:
    from ..checkpoints import Checkpoint
    from ..search.images import EvaluationImages

SPLITS = ("test", "selection")

Which = Architecture | str | Path | None
"""A subnet as a user names it: the architecture, a name in the space, a YAML file; None where there is one.
"""


@dataclass(frozen=True)
class Tested:
    """What a test has found.

    Attributes:
        architecture: the subnet.
        space: search space of the checkpoint.
        split: images that were evaluated, 'test' or 'selection'.
        top1, top5: percent of the images that are named right by the first, or by the first five, answers.
        images: how many images were evaluated.
        loss: mean cross-entropy of the images, in nats; None if it is beyond all floating-point numbers.
        checksum: checksum of the images, by which a search knows that its trials see the same ones; None
            where several processes have shared them.
        known: what is known of a subnet's costs.
    """

    architecture: Architecture
    space: SearchSpace
    split: str
    top1: float
    top5: float
    images: int
    loss: float | None = None
    checksum: int | None = None
    known: Costs = field(default_factory=lambda: COSTS, compare=False, repr=False)

    @property
    def costs(self) -> dict[str, float]:
        """Counts of all costs of the subnet, by name."""
        return costs_of(self.architecture, self.space.model, self.known)

    @property
    def metric(self) -> dict[str, Any]:
        """What an NNI trial reports."""
        from ..search.accuracy import Accuracy
        from ..search.subnet_trial import trial_metric

        accuracy = Accuracy(self.top1, self.top5, self.images, self.loss)
        return trial_metric(accuracy, self.architecture, self.space.model, self.checksum, self.known)


def test(
    checkpoint: str | Path,
    data: DataSet | str | Path | None = None,
    *,
    architecture: Which = None,
    split: str = SPLITS[0],
    selection: str | None = None,
    evaluation: Evaluation = Evaluation(),
    deployment: Deployment = Deployment(),
    latency_table: str | Path | None = None,
    space: SearchSpace | str | Path | None = None,
    use_ema: bool = False,
) -> Tested:
    """Evaluate one subnet of a checkpoint, as the plain network that a user would deploy, with the other
    processes that torchrun has started; as an NNI trial, report the accuracy while it grows and at the end.

    Args:
        checkpoint: file of a supernet or a subnet.
        data: images; a path means a folder of images, None the data that the checkpoint was trained on.
        architecture: subnet of a supernet: an architecture, a name in the space, or a YAML file.
        split: 'test', or 'selection' for the images that a search compares subnets on.
        selection: training images to select by, 'N-per-class' or a file; None for the checkpoint's own list.
        evaluation: where and how to evaluate.
        deployment: how the subnet will run, which decides some of its costs.
        latency_table: file of measured latencies; None for no latency among the costs.
        space: search space of a file that does not name its own.
        use_ema: take the moving average of the weights from a foreign file that holds plain ones, too.

    Raises:
        ConfigError: the checkpoint, the images or a value cannot be used.
    """
    from ..checkpoints import Checkpoint

    require_split(split, selection)
    ranks = Ranks.current()
    trial, path = current_trial(), Path(checkpoint)
    memory = split == "test" and trial is None  # looked at once, so not worth the room on the disk
    data, target = data_for(path, data), Target.of(deployment, latency_table)
    images = images_of(path, data, evaluation, split, selection, store="none" if memory else None)

    def opened() -> tuple[Checkpoint, Architecture, Costs]:
        evaluation.require_device()
        expected = None if space is None else SearchSpace.load(space)
        found = Checkpoint(path, expected, use_ema=use_ema)
        found.require_expected()
        return found, found.architecture(architecture), target.costs(found.header.space)

    with ranks.connected(cuda=False):
        evaluation = evaluation.of_rank(ranks)
        weights, chosen, costs = ranks.agree(opened)
        tested = evaluated(weights, images, chosen, evaluation, ranks, costs)
    if trial is not None and ranks.main:
        trial.report_final(tested.metric)
    return tested


test.__test__ = False  # type: ignore[attr-defined]  # pytest takes an imported function of this name for a test


def evaluated(
    checkpoint: Checkpoint,
    images: EvaluationImages,
    architecture: Architecture,
    evaluation: Evaluation,
    ranks: Ranks = Ranks(),
    costs: Costs = COSTS,
) -> Tested:
    """The accuracy of one subnet, see `evaluate_subnet`.

    Args:
        checkpoint: weights of the subnet.
        images: which images.
        architecture: subnet of the checkpoint.
        evaluation: where and how to evaluate.
        ranks: this process among those that share the images.
        costs: what is known of a subnet's costs.
    """
    from ..search.subnet_trial import evaluate_subnet

    trial = current_trial() if ranks.main else None
    ranks.tell(test_plan(architecture, checkpoint.header.space, images.split, evaluation))
    metric = evaluate_subnet(
        images,
        architecture,
        batch_size=evaluation.batch_size,  # type: ignore[arg-type]
        device=evaluation.device,
        precision=evaluation.precision,
        on_progress=None if trial is None else trial.report_intermediate,
        progress=trial is None and ranks.main,
        checkpoint=checkpoint,
        ranks=ranks,
    )
    top1, top5, count, loss = (metric[name] for name in ("default", "top5", "images", "loss"))
    checksum = metric.get(IMAGES_CHECKSUM)
    return Tested(
        architecture, checkpoint.header.space, images.split, top1, top5, count, loss, checksum, costs
    )


def require_split(split: str, selection: str | None) -> None:
    """Check which images a job is about.

    Raises:
        ConfigError: there is no such split, or a selection was given for the test images.
    """
    if split not in SPLITS:
        raise ConfigError(f"--split is {split}; it should be {' or '.join(SPLITS)}.")
    if selection is not None and split == "test":
        raise ConfigError("--selection needs --split selection; a test is on all of the test images.")


def images_of(
    checkpoint: Path,
    data: DataSet,
    evaluation: Evaluation,
    split: str,
    selection: str | None,
    store: str | None = None,
) -> EvaluationImages:
    """The images that subnets of a checkpoint are evaluated on.

    Args:
        checkpoint: file of the supernet or subnet.
        data: data set.
        evaluation: gives the place of decoded images.
        split: 'selection' or 'test'.
        selection: 'N-per-class', a file, or None for the checkpoint's own list.
        store: place of decoded images when the user has named none, see `EvaluationImages`.
    """
    from ..search.images import EvaluationImages

    return EvaluationImages(
        checkpoint=str(real_path(checkpoint)),
        dataset=data.dataset,
        data=data.folder,
        split=split,
        selection=selection,
        store=store if evaluation.cache is None else evaluation.cache,
        workers=data.workers,
        download=data.download,
    )

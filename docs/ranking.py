"""What the order among equally accurate candidates changes: ten searches on different images, replayed.

    python docs/ranking.py --output runs/ranking                         # the digits, a few minutes
    python docs/ranking.py --output runs/ranking --data CIFAR10          # and CIFAR-10, a few more

CIFAR10 is a folder train/CLASS/… and test/CLASS/…. A supernet is trained for each, and some random subnets
within the limit are evaluated once, image by image, on the held-out images and on the test images. A search
is then a random subset of the held-out images: the winner of each order is read from the table, and so is its
accuracy on the test images.

A command line that was stopped is given again: a trained supernet is not trained twice. The tables go to
OUTPUT/NAME.md.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cifar10 import linked

from nni_autoformer import Limits
from nni_autoformer.architecture import Architecture
from nni_autoformer.checkpoints import Checkpoint
from nni_autoformer.costs import COSTS
from nni_autoformer.data.data_set import DataSet
from nni_autoformer.jobs.evaluate import images_of
from nni_autoformer.randomness import generator
from nni_autoformer.search.evaluation import Evaluation
from nni_autoformer.search.ledger import Candidate, Ledger
from nni_autoformer.search.parts import Marks, PartEvaluator
from nni_autoformer.search.random_subnets import draw_subnets
from nni_autoformer.search.ranking import Ranking
from nni_autoformer.space import ModelConfig

SEARCHES = 10
RULES = {"accuracy, then as asked": None, "accuracy, loss, cost": "top1", "loss, accuracy, cost": "loss"}
"""The order before there was one among equal candidates, the default, and `--rank-by loss`."""


@dataclass(frozen=True)
class Study:
    """What is trained and compared.

    Attributes:
        name: of the data.
        train: flags of the training.
        limit: parameters of a subnet, in millions.
        sizes: selection images of a search.
    """

    name: str
    train: str
    limit: float
    sizes: tuple[int, ...]


DIGITS = Study(
    "digits",
    "--space digits --dataset digits --selection 24-per-class --epochs 40 --batch-size 32 --lr 3e-3 "
    "--warmup-epochs 3 --drop-path 0.1 --opt-betas 0.9 0.98 --clip-grad 1.0 --val-interval 10",
    0.25,
    (60, 120),
)
CIFAR = Study(
    "cifar10",
    f"--space {Path(__file__).with_name('cifar10.yaml')} --sampling balanced --selection 100-per-class "
    "--epochs 8 --val-interval 8",
    0.35,
    (250, 500),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where everything goes")
    parser.add_argument("--data", type=Path, metavar="DIR", help="CIFAR-10, to study that too")
    parser.add_argument("--n", type=int, default=200, help="random subnets (default 200)")
    arguments = parser.parse_args()
    studies = [(DIGITS, DataSet("digits"))]
    if arguments.data is not None:
        images = linked(arguments.data, arguments.output / "images", 8_000, 2_000)
        studies.append((CIFAR, DataSet(data=str(images))))
    for study, data in studies:
        text = "\n".join(table(study, Pool.measured(study, data, arguments.output, arguments.n)))
        (arguments.output / f"{study.name}.md").write_text(text + "\n", encoding="utf-8")
        print(f"\n{text}")


@dataclass(frozen=True)
class Pool:
    """Subnets, and what they make of every image.

    Attributes:
        architectures: the subnets, in the order of asking.
        held_out, test: their answers on the two sets of images.
        model: the network around them.
    """

    architectures: list[Architecture]
    held_out: Marks
    test: Marks
    model: ModelConfig

    @classmethod
    def measured(cls, study: Study, data: DataSet, output: Path, n: int) -> Pool:
        """Train, or find it done, and evaluate."""
        folder = output / study.name
        flags = study.train if data.data is None else f"{study.train} --data {data.data}"
        words = f"train {flags} --device cpu --seed 0 --output {folder} --resume".split()
        subprocess.run([sys.executable, "-m", "nni_autoformer", *words], check=True)
        checkpoint = Checkpoint(folder / "supernet.safetensors")
        header, supernet, evaluation = checkpoint.header, checkpoint.supernet(), Evaluation(device="cpu")
        drawn = draw_subnets(header.space, n, Limits(max_params=study.limit))
        found = {}
        for split in ("selection", "test"):
            images = images_of(checkpoint.path, data, evaluation, split, None, store="none")
            evaluator = evaluation.evaluator(header, images.decoded(header, f"decode {split} images"))
            count = len(evaluator.images)
            found[split] = PartEvaluator(supernet, evaluator).marks(drawn, 0, count, lambda _: None)
        return cls(drawn, found["selection"], found["test"], header.space.model)

    def winner(self, chosen: list[int], rank_by: str | None) -> int:
        """Who wins a search.

        Args:
            chosen: the images of the search.
            rank_by: what ranks first; None for accuracy, and equal ones as they were asked for.
        """
        right, losses = self.held_out.named[0][:, chosen], self.held_out.losses[:, chosen]
        ranking = Ranking(rank_by or "top1", [COSTS["params"]], self.model)
        ledger = Ledger(ranking if rank_by else lambda entry: (-entry.accuracy, entry.candidate.number))
        for number, architecture in enumerate(self.architectures):
            ledger.add(0, architecture, "random")
            loss = round(float(losses[number].mean(dtype=np.float64)), 6)
            ledger.tell(number, 100 * right[number].mean(), {"loss": loss})
        best: Candidate = ledger.best()[0]
        return best.number

    def tied(self, chosen: list[int]) -> int:
        """How many candidates have the highest accuracy of a search."""
        right = self.held_out.named[0][:, chosen].sum(axis=1)
        return int((right == right.max()).sum())


def table(study: Study, pool: Pool) -> Iterator[str]:
    """The searches' winners as lines of Markdown."""
    images, tested = pool.held_out.losses.shape[1], pool.test.losses.shape[1]
    accuracies = 100 * pool.test.named[0].mean(axis=1)
    sizes = [COSTS["params"].value(entry, pool.model) / 1e6 for entry in pool.architectures]
    biggest = int(np.argmax(sizes))
    error = math.sqrt(accuracies.max() * (100 - accuracies.max()) / tested)
    yield (
        f"{study.name}: {len(sizes)} random subnets of at most {study.limit:g} M parameters, {SEARCHES} "
        f"searches on random parts of {images:,} held-out images; top-1 on {tested:,} test images in "
        f"percent. In the pool: mean {accuracies.mean():.2f}, best {accuracies.max():.2f}, the biggest "
        f"({sizes[biggest]:.3f} M) {accuracies[biggest]:.2f}; the standard error of one accuracy is "
        f"{error:.2f}.\n"
    )
    yield (
        "| images of a search | equally accurate at the top | order | winner's top-1: mean | spread | "
        "above the first order | parameters (M): mean | different winners | pairs that agree |"
    )
    yield f"|{' --- |' * 9}"
    for size in study.sizes:
        rngs = [generator(seed, "ranking study", size) for seed in range(SEARCHES)]
        parts = [rng.sample(range(images), size) for rng in rngs]
        tied = statistics.mean(pool.tied(part) for part in parts)
        first: list[float] = []
        for rule, rank_by in RULES.items():
            winners = [pool.winner(part, rank_by) for part in parts]
            top1 = [float(accuracies[winner]) for winner in winners]
            first = first or top1
            gains = [one - other for one, other in zip(top1, first)]
            error = statistics.stdev(gains) / math.sqrt(SEARCHES)
            gain = f"{statistics.mean(gains):+.2f} ± {error:.2f}" if rank_by else ""
            pairs = [one == other for one, other in itertools.combinations(winners, 2)]
            cells = (
                str(size),
                f"{tied:.1f}",
                rule,
                f"{statistics.mean(top1):.2f}",
                f"{statistics.stdev(top1):.2f}",
                gain,
                f"{statistics.mean(sizes[winner] for winner in winners):.3f}",
                str(len(set(winners))),
                f"{100 * statistics.mean(pairs):.0f} %",
            )
            yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

"""The accuracy of random subnets of a supernet with inherited weights, by one process or several."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..architecture import Architecture
from ..bars import Bar
from ..costs import Costs, measured_costs
from ..data.data_set import DataSet
from ..deployment import Deployment, Target
from ..errors import ConfigError
from ..experiment import current_trial
from ..files import digest, told_when_full, write_text
from ..search.driver import HOPELESS
from ..search.evaluation import Evaluation
from ..search.limits import Limits
from ..space import SearchSpace
from ..training.ranks import Ranks
from .evaluate import images_of, require_split
from .plans import sample_plan
from .reads import ImagesRead, files_among, files_read, open_splits
from .remembered import data_for
from .run_folder import RunFolder, place_of, run_once

if TYPE_CHECKING:
    from ..checkpoints import Checkpoint, Header
    from ..data import ImageSource
    from ..search.images import EvaluationImages
    from ..search.random_subnets import SampledSubnet

_logger = logging.getLogger("nni_autoformer")

FIGURE_FILE = "samples.png"

_logger = logging.getLogger("nni_autoformer")


@dataclass(frozen=True)
class Sampled:
    """What a sample has found.

    Attributes:
        output: folder of the run.
        rows: a row per subnet, with its architecture, costs and accuracies; 'failed' marks one whose logits
            are not finite, which is not ranked.
        best: the best subnet of each size, see `best_of_sizes`.
        front: rows of the Pareto front over parameters.
        summary: what the sample tells, as a text.
        fresh: False where the folder held the finished sample already.
    """

    output: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: list[dict[str, Any]] = field(default_factory=list)
    front: list[dict[str, Any]] = field(default_factory=list)
    summary: str = ""
    fresh: bool = True


def sample(
    checkpoint: str | Path,
    data: DataSet | str | Path | None,
    output: str | Path,
    *,
    n: int = 1000,
    seed: int = 0,
    architectures: Sequence[str | Path] = (),
    sizes: int = 10,
    split: str = "selection",
    selection: str | None = None,
    limits: Limits = Limits(),
    deployment: Deployment = Deployment(),
    latency_table: str | Path | None = None,
    evaluation: Evaluation = Evaluation(),
    space: SearchSpace | str | Path | None = None,
    use_ema: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> Sampled:
    """Evaluate random subnets of a supernet, with the other processes that torchrun has started.

    Args:
        checkpoint: file of the supernet.
        data: images; a path means a folder of images, None the data that the checkpoint was trained on.
        output: folder of the run.
        n: how many different random subnets.
        seed: random seed of the draws.
        architectures: subnets to evaluate too and to mark: names in the space, or YAML files.
        sizes: about how many sizes the best subnet is named of.
        split: 'selection' for the images that a search compares subnets on, or 'test'.
        selection: training images to select by, 'N-per-class' or a file; None for the checkpoint's own list.
        limits: what a subnet may cost.
        deployment: how a subnet will run, which decides some of its costs.
        latency_table: file of measured latencies; None for no latency among the costs.
        evaluation: where and how to evaluate.
        space: search space of a file that does not name its own.
        use_ema: take the moving average of the weights from a foreign file that holds plain ones, too.
        resume: go on with an unfinished sample in the folder.
        overwrite: delete the run in the folder and start anew.

    Raises:
        ConfigError: something that the user can put right, most of it before any evaluation.
    """
    for flag, value in (("n", n), ("sizes", sizes)):
        if value < 1:
            raise ConfigError(f"--{flag} is {value}; it should be at least 1.")
    require_split(split, selection)
    ranks, place, path = Ranks.current(), place_of(output), Path(checkpoint)
    data, target = data_for(path, data), Target.of(deployment, latency_table)
    with ranks.connected(cuda=False):
        evaluation = evaluation.of_rank(ranks)
        images = images_of(path, data, evaluation, split, selection)
        expected = None if space is None else SearchSpace.load(space)

        def prepared() -> SampleJob:
            return SampleJob.prepare(
                images,
                data,
                expected,
                evaluation,
                limits=limits,
                target=target,
                n=n,
                seed=seed,
                architectures=architectures,
                use_ema=use_ema,
            )

        job = ranks.agree(prepared, one_first=True)
        reads = {"images": ImagesRead(job.source), **files_read(checkpoint=path)}
        inputs = [path, data.folder, selection, *architectures, latency_table, *files_among([space])]
        folder = RunFolder(place, "sample", job.config, reads, inputs)

        def work() -> None:
            job.evaluate(place, ranks)
            ranks.gathered(None)  # until the slowest is done

        fresh = run_once(
            folder, ranks, work, last=lambda: job.report(place, sizes), resume=resume, overwrite=overwrite
        )
        return ranks.on_main(lambda: job.found(place, sizes, fresh))


@dataclass(frozen=True)
class SampleJob:
    """A sample that has been checked and can start.

    Attributes:
        checkpoint: the supernet.
        images, source: what the subnets are evaluated on.
        subnets: what is evaluated: the random ones, then those that the user named.
        evaluation: where and how to evaluate.
        limits: what a random subnet may cost.
        costs: what is known of a subnet's costs.
        n: how many random subnets were asked for.
        config: what decides the result, see `RunFolder`.
    """

    checkpoint: Checkpoint
    images: EvaluationImages
    source: ImageSource
    subnets: Sequence[SampledSubnet]
    evaluation: Evaluation
    limits: Limits
    costs: Costs
    n: int
    config: dict[str, Any]

    @property
    def header(self) -> Header:
        """What the checkpoint says of itself."""
        return self.checkpoint.header

    @classmethod
    def prepare(
        cls,
        images: EvaluationImages,
        data: DataSet,
        expected: SearchSpace | None,
        evaluation: Evaluation,
        *,
        limits: Limits,
        target: Target,
        n: int,
        seed: int,
        architectures: Sequence[str | Path],
        use_ema: bool = False,
    ) -> SampleJob:
        """What is asked for, checked; nothing is written or decoded yet.

        Args:
            images: checkpoint, and which images.
            data: data set.
            expected: space that the user gave, if any.
            evaluation: where and how to evaluate.
            limits, n, seed, architectures, use_ema: as for `sample`.
            target: how a subnet will run.

        Raises:
            ConfigError: the checkpoint or the images are not as they should be.
        """
        from ..checkpoints import Checkpoint
        from ..search.random_subnets import SampledSubnet, draw_subnets

        evaluation.require_device()
        if expected is not None:
            limits.require_feasible(expected, target.costs(expected))
        path = Path(images.checkpoint)
        checkpoint = Checkpoint(path, expected, use_ema=use_ema)
        checkpoint.require_supernet()
        header = checkpoint.header
        costs = target.costs(header.space)
        named = _named(architectures, checkpoint)
        for sentence in limits.idle(header.space, costs):
            _logger.warning(sentence)
        drawn = [("", architecture) for architecture in draw_subnets(header.space, n, limits, seed, costs)]
        subnets = [
            SampledSubnet(number, architecture, name)
            for number, (name, architecture) in enumerate([*drawn, *named.items()])
        ]
        test_only = images.split == "test"
        splits = open_splits(data, header.space.model.in_chans, Ranks.current(), test_only)
        source = images.of(header, splits)
        config = {
            "checkpoint": images.checkpoint,
            "split": images.split,
            "images": digest(source.identifiers),
            "n": n,
            "seed": seed,
            "limits": limits.to_dict(),
            "deployment": target.record,
            "architecture": {name: architecture.to_dict() for name, architecture in named.items()},
            "precision": evaluation.precision,
            **checkpoint.choice,
        }
        return cls(checkpoint, images, source, subnets, evaluation, limits, costs, n, config)

    def evaluate(self, output: Path, ranks: Ranks) -> None:
        """Evaluate what the folder has no answer for, each process its share.

        Raises:
            ConfigError: the checkpoint or an image cannot be read, or the folder's answers are damaged.
        """
        from ..search.accuracy import NoAccuracy
        from .sample_folder import SampleFolder

        ranks.tell(self._plan())
        folder = SampleFolder(output, self.subnets, self.header.space, self.costs)
        answered = ranks.on_main(lambda: {row["number"] for row in folder.collect()})
        left = [subnet for subnet in self.subnets if subnet.number not in answered]
        mine = left[ranks.rank :: ranks.world_size]
        decoded = self.images.decoded(self.header, "decode images" if ranks.main else None, self.source)
        supernet = self.checkpoint.supernet()
        evaluator = self.evaluation.evaluator(self.header, decoded)
        name = "sample" if ranks.world_size == 1 else f"sample, process 1 of {ranks.world_size}"
        ranked = failed = 0
        done = len(self.subnets) - len(mine) if ranks.world_size == 1 else 0
        with Bar(done + len(mine), name, "subnets", initial=done, shown=ranks.main) as bar:
            for subnet in mine:
                supernet.set_architecture(subnet.architecture)
                try:
                    found = asdict(evaluator.evaluate(supernet))
                except NoAccuracy as error:
                    _logger.warning(
                        "Subnet %s (%s) is not ranked: %s", subnet.told, subnet.architecture, error
                    )
                    found = {"top1": None, "top5": None, "images": len(decoded), "loss": None, "failed": True}
                folder.record(ranks.rank, subnet, {**found, "split": self.images.split})
                bar.update()
                ranked, failed = ranked + (found["top1"] is not None), failed + (found["top1"] is None)
                if failed >= HOPELESS and not ranked:
                    raise ConfigError(
                        f"{self.checkpoint.path}: none of the {failed} subnets so far has an accuracy, "
                        "because their logits are NaN or infinite; has the supernet's training diverged?"
                    )

    def _plan(self) -> str:
        number, split = len(self.subnets), self.images.split
        return sample_plan(number, self.header.space, self.limits, len(self.source), split, self.evaluation)

    def report(self, output: Path, sizes: int) -> None:
        """Put the answers together, and write what they tell."""
        from ..report.figures import draw_samples
        from ..report.summary import SUMMARY_FILE
        from ..search.random_subnets import rank, with_accuracy
        from .sample_folder import SampleFolder

        found = self.found(output, sizes)
        files = SampleFolder(output, self.subnets, self.header.space, self.costs)
        files.write(found.rows, found.best, found.front)
        with told_when_full(output / FIGURE_FILE):
            rows = with_accuracy(found.rows)
            draw_samples(rows, found.best, found.front, self.header.space.name, output / FIGURE_FILE)
        with told_when_full(output / SUMMARY_FILE):
            write_text(output / SUMMARY_FILE, found.summary)
        if (trial := current_trial()) is not None:
            top = min(with_accuracy(found.rows), key=rank)
            architecture = Architecture.from_dict(top["architecture"])
            costs = measured_costs(architecture, self.header.space.model, self.costs)
            metric: dict[str, Any] = {"default": top["top1"], "loss": top.get("loss")}
            trial.report_final(metric | costs)

    def found(self, output: Path, sizes: int, fresh: bool = True) -> Sampled:
        """What the folder holds, and its tables."""
        from ..report.summary import sample_text
        from .sample_folder import SampleFolder

        space = self.header.space
        files = SampleFolder(output, self.subnets, space, self.costs)
        rows = files.collect()
        best, front = files.tables(rows, sizes)
        text = sample_text(rows, best, front, space, self.n, self.costs)
        return Sampled(output, rows, best, front, text, fresh)


def _named(words: Sequence[str | Path], checkpoint: Checkpoint) -> dict[str, Architecture]:
    """The subnets that the user named: a file by its stem, where that is one file's alone."""
    stems = [Path(word).stem for word in words]
    names = [stem if stems.count(stem) == 1 else str(word) for word, stem in zip(words, stems)]
    return {name: checkpoint.architecture(word) for name, word in zip(names, words)}

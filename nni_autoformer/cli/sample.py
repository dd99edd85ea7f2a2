"""``nni-autoformer sample``: accuracy of random subnets of a supernet with inherited weights, and the figure
of them; on several devices with ``torchrun --nproc_per_node 8 -m nni_autoformer sample …``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..experiment import current_trial
from ..files import digest, write_text
from ..jobs.run_folder import RunFolder, jsonable
from ..report.summary import SUMMARY_FILE, sample_text
from ..search.limits import Limits
from ..space import Architecture, SearchSpace
from ..training.ranks import Ranks
from . import options
from .evaluation import Evaluation, images_of
from .test import SPLITS, architecture_of

if TYPE_CHECKING:
    from ..checkpoints.header import Header
    from ..data import ImageSource
    from ..search.images import EvaluationImages
    from ..search.random_subnets import SampledSubnet

FIGURE_FILE = "samples.png"


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("sample", help="evaluate random subnets of a supernet", description=__doc__)
    parser.set_defaults(run=run)
    options.add_checkpoint(parser, "a trained supernet")
    parser.add_argument(
        "-n",
        "--n",
        type=int,
        default=1000,
        metavar="N",
        help="how many different random subnets (default 1000); under torchrun write -n, it takes --n for a "
        "flag of its own",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument(
        "--architecture",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE|NAME",
        help="subnets to evaluate too and to mark in the figure: YAML files (a search writes best.yaml), or "
        "smallest, middle, largest, or names in the space's file, as published",
    )
    parser.add_argument(
        "--sizes",
        type=int,
        default=10,
        metavar="N",
        help="about how many sizes to name the best subnet of (default 10)",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="selection",
        help="'selection' (the default): the images that a search compares subnets on; or 'test'",
    )
    options.add_data(parser)
    options.add_images(parser)
    options.add_limits(parser)
    options.add_evaluation(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command, or as one of several processes its share of it."""
    ranks = Ranks.current()
    with ranks.connected(cuda=False):
        ranks.on_main(lambda: _require(arguments))
        job = _prepared(arguments, ranks)
        folder = RunFolder(options.output_of(arguments), "sample", job.config)
        again = ranks.restarts > 0  # torchrun gives the same flags as the first time
        resume, overwrite = arguments.resume or again, arguments.overwrite and not again
        if ranks.on_main(lambda: folder.open(resume=resume, overwrite=overwrite)):
            if ranks.main:
                print(f"{folder.path} holds the finished sample already.")
            return
        job.evaluate(folder.path, ranks)
        wait_for_all(ranks)
        ranks.on_main(lambda: job.report(folder, arguments.sizes))


def _prepared(arguments: argparse.Namespace, ranks: Ranks) -> SampleJob:
    """The job of this process. The main one prepares first, and only it prints; so a mistake of the user's is
    told once.
    """
    jobs: list[SampleJob] = []
    ranks.on_main(lambda: jobs.append(SampleJob.prepare(arguments, ranks)))
    if not ranks.main:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            jobs.append(SampleJob.prepare(arguments, ranks))
    return jobs[0]


def wait_for_all(ranks: Ranks) -> None:
    """Wait for the slowest process, however long that takes; torchrun ends all when one has died."""
    if ranks.world_size > 1:
        from torch import distributed

        patient: Any = distributed.new_group(backend="gloo", timeout=timedelta(days=30))
        distributed.barrier(patient)


def device_of(name: str, ranks: Ranks) -> str:
    """The device of this process: of 'auto' and 'cuda' the machine's GPU with the process's number."""
    import torch

    if ranks.world_size == 1 or name not in ("auto", "cuda") or not torch.cuda.is_available():
        return name
    return f"cuda:{ranks.local_rank % torch.cuda.device_count()}"


def _require(arguments: argparse.Namespace) -> None:
    """Check what needs no file."""
    for flag in ("n", "sizes"):
        if getattr(arguments, flag) < 1:
            raise ConfigError(f"--{flag} is {getattr(arguments, flag)}; it should be at least 1.")
    if arguments.selection is not None and arguments.split == "test":
        raise ConfigError("--selection needs --split selection; --split test is all of the test images.")


@dataclass(frozen=True)
class SampleJob:
    """A sample that has been checked and can start.

    Attributes:
        images, source: what the subnets are evaluated on.
        header: of the supernet's checkpoint.
        expected: the space that the user gave, if any.
        subnets: what is evaluated: the random ones, then those that the user named.
        evaluation: how.
        config: what decides the result, see `RunFolder`.
    """

    images: EvaluationImages
    source: ImageSource
    header: Header
    expected: SearchSpace | None
    subnets: Sequence[SampledSubnet]
    evaluation: Evaluation
    config: dict[str, Any]

    @classmethod
    def prepare(cls, arguments: argparse.Namespace, ranks: Ranks = Ranks()) -> SampleJob:
        """What the flags describe, checked; nothing is written or decoded yet.

        Raises:
            ConfigError: a flag is wrong, or the checkpoint or the images are not as they should be.
        """
        from ..search.random_subnets import SampledSubnet, draw_subnets

        evaluation = Evaluation.of(arguments)
        evaluation = replace(evaluation, device=device_of(evaluation.device, ranks))
        images = images_of(arguments, arguments.split)
        expected = None if arguments.space is None else SearchSpace.load(arguments.space)
        limits = options.limits_of(arguments)
        if expected is not None:
            limits.require_feasible(expected)
        header = _supernet_header(arguments.checkpoint, expected)
        given = _given(arguments.architecture, arguments.checkpoint, header, expected)
        drawn = draw_subnets(header.space, arguments.n, limits, arguments.seed)
        named = [("", architecture) for architecture in drawn] + list(given.items())
        subnets = [
            SampledSubnet(number, architecture, name) for number, (name, architecture) in enumerate(named)
        ]
        splits = options.open_splits(arguments, header.space, test_only=arguments.split == "test")
        source = images.of(header, splits)
        config = _config(arguments, limits, given, source, evaluation.precision)
        return cls(images, source, header, expected, subnets, evaluation, config)

    def evaluate(self, output: Path, ranks: Ranks) -> None:
        """Evaluate what the folder has no answer for, each process its share.

        Raises:
            ConfigError: the checkpoint or an image cannot be read, or the folder's answers are damaged.
        """
        from tqdm.auto import tqdm

        from ..checkpoints import load_supernet
        from ..jobs.sample_folder import SampleFolder

        folder = SampleFolder(output, self.subnets, self.header.space)
        answered = ranks.on_main(lambda: {row["number"] for row in folder.collect()})
        left = [subnet for subnet in self.subnets if subnet.number not in answered]
        mine = left[ranks.rank :: ranks.world_size]
        decoded = self.images.decoded(self.header, "decode images" if ranks.main else None, self.source)
        supernet, _ = load_supernet(Path(self.images.checkpoint), self.expected)
        evaluator = self.evaluation.evaluator(self.header, decoded)
        name = "sample" if ranks.world_size == 1 else f"sample, process 1 of {ranks.world_size}"
        done = len(self.subnets) - len(mine) if ranks.world_size == 1 else 0
        for subnet in tqdm(mine, name, total=done + len(mine), initial=done, disable=not ranks.main):
            supernet.set_architecture(subnet.architecture)
            accuracy = asdict(evaluator.evaluate(supernet))
            folder.record(ranks.rank, subnet, {**accuracy, "split": self.images.split})

    def report(self, folder: RunFolder, sizes: int) -> None:
        """Put the answers together, and write and print what they tell."""
        from ..jobs.sample_folder import SampleFolder
        from ..report.figures import draw_samples

        space = self.header.space
        files = SampleFolder(folder.path, self.subnets, space)
        rows = files.collect()
        best, front = files.report(rows, sizes)
        draw_samples(rows, best, front, space.name, folder.path / FIGURE_FILE)
        text = sample_text(rows, best, front, space, self.config["n"])
        write_text(folder.path / SUMMARY_FILE, text)
        folder.finish()
        print(f"\n{text}\nResults are in {folder.path}")
        if (trial := current_trial()) is not None:
            top = max(rows, key=lambda row: row["top1"])
            trial.report_final({"default": top["top1"], "params": top["params"], "macs": top["macs"]})


def _supernet_header(checkpoint: Path, expected: SearchSpace | None) -> Header:
    from ..checkpoints import read_header, require_space

    header = read_header(checkpoint, expected)
    require_space(checkpoint, header, expected)
    if not header.kind.endswith("supernet"):
        raise ConfigError(f"{checkpoint}: the file holds a {header.kind}; a supernet is needed here.")
    return header


def _given(
    words: Sequence[str], checkpoint: Path, header: Header, expected: SearchSpace | None
) -> dict[str, Architecture]:
    """The subnets that the user named: a file by its stem, where that is one file's alone."""
    found: dict[str, Architecture] = {}
    stems = [Path(word).stem for word in words]
    for word, stem in zip(words, stems):
        architecture = architecture_of(word, checkpoint, header, expected)
        found[stem if stems.count(stem) == 1 else word] = architecture
    return found


def _config(
    arguments: argparse.Namespace,
    limits: Limits,
    given: dict[str, Architecture],
    source: ImageSource,
    precision: str,
) -> dict[str, Any]:
    return jsonable(
        {
            "checkpoint": str(arguments.checkpoint.resolve()),
            "split": arguments.split,
            "images": digest(source.identifiers),
            "n": arguments.n,
            "seed": arguments.seed,
            "limits": limits.to_dict(),
            "architecture": {name: architecture.to_dict() for name, architecture in given.items()},
            "precision": precision,
        }
    )

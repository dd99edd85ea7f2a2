"""A search in process against one candidate at a time with a plain DataLoader, which decodes each image anew.

'ours' is the whole of `nni-autoformer search`: NNI's experiment, a generation evaluated together, the state
written after every answer. 'plain' sets each of the same subnets on the supernet and runs it over a loader of
the selection images. 'decoded' does so over decoded images.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .common import Report, interleaved, parser, use_threads

BATCH = 256
"""Of the plain way."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    flags = parser("search", __doc__, rounds=3)
    flags.add_argument("--space", default="digits", help="digits (default), or one of 3 channels with --data")
    flags.add_argument("--data", type=Path, help="an image folder, for any space but digits")
    flags.add_argument("--checkpoint", type=Path, help="a trained supernet, in place of random weights")
    flags.add_argument("--population-size", type=int, default=50)
    flags.add_argument("--generations", type=int, default=4)
    flags.add_argument("--images", type=int, default=240, help="selection images (%(default)s)")
    flags.add_argument("--skip", nargs="*", default=[], help="parts to leave out: plain, growth")
    options = flags.parse_args(arguments)
    use_threads(options.threads)
    if options.tiny:
        options.population_size, options.generations, options.images = 4, 2, 20
    report = Report("search", options)
    work = Workload(options)
    if "plain" not in options.skip:
        _throughput(work, options, report)
    if "growth" not in options.skip:
        _growth(work, options, report)
    return report.finish()


class Workload:
    """A supernet and selection images.

    Args:
        options: the flags.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        import torch

        from nni_autoformer import SearchSpace, load_supernet
        from nni_autoformer.data import decode, draw_selection, eval_transform, open_data
        from nni_autoformer.model import build_supernet

        if options.checkpoint:
            self.supernet, header = load_supernet(options.checkpoint)
            self.space = header.space
        else:
            self.space = SearchSpace.load(options.space)
            model = self.space.model
            self.supernet = build_supernet(self.space)
            with torch.no_grad():
                for weight in self.supernet.parameters():  # no bias is zero after training
                    weight += 0.02 * torch.randn_like(weight)
        model = self.space.model
        dataset = "digits" if options.data is None else "folder"
        splits = open_data(dataset, options.data, model.in_chans)
        self.mean, self.std = splits.mean, splits.std
        per_class = -(-options.images // len(splits.train.classes))
        self.source = splits.train.subset(draw_selection(splits.train, per_class))
        self.transform = eval_transform(model)
        self.decoded = decode(self.source, self.transform)
        self.supernet.eval()

    def ours(self, population_size: int, generations: int, images: int) -> Any:
        """Search; the evolution."""
        from nni_autoformer import Evolution, EvolutionConfig, EvolutionStrategy, SubnetEvaluator
        from nni_autoformer.experiment import run_experiment
        from nni_autoformer.experiment.quiet import quieten_libraries

        quieten_libraries()
        half = population_size // 2
        config = EvolutionConfig(population_size, min(10, half), half, population_size - half, generations)
        evolution = Evolution(self.space, config=config)
        parts = (self.decoded.images[:images], self.decoded.targets[:images])
        chosen = replace(self.decoded, images=parts[0], targets=parts[1], identifiers=[])
        evaluator = SubnetEvaluator(chosen, self.mean, self.std, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            strategy = EvolutionStrategy(evolution, folder, progress=False)
            run_experiment(self.supernet, evaluator, strategy, folder)
            return evolution

    def plain(self, architectures: list[Any]) -> list[float]:
        """One candidate at a time, each image decoded each time; their accuracies."""
        import torch
        from torch.utils.data import DataLoader, Dataset

        from nni_autoformer.data import normalise

        source, transform = self.source, self.transform

        class Images(Dataset):
            def __len__(self) -> int:
                return len(source)

            def __getitem__(self, index: int) -> tuple[Any, int]:
                return transform(source.load(index)), int(source.targets[index])

        accuracies = []
        for architecture in architectures:
            self.supernet.set_architecture(architecture)
            right = 0
            with torch.no_grad():
                for images, targets in DataLoader(Images(), batch_size=BATCH):
                    logits = self.supernet(normalise(images, self.mean, self.std))
                    right += int((logits.argmax(dim=1) == targets).sum())
            accuracies.append(100 * right / len(source))
        return accuracies

    def one_by_one(self, architectures: list[Any]) -> None:
        """One candidate at a time on decoded images."""
        from nni_autoformer.search.accuracy import measure

        for architecture in architectures:
            self.supernet.set_architecture(architecture)
            measure(self.supernet, self.decoded, self.mean, self.std, batch_size=BATCH)


def _throughput(work: Workload, options: argparse.Namespace, report: Report) -> None:
    size = options.population_size, options.generations, len(work.decoded)
    evolution = work.ours(*size)
    ranking = sorted(evolution.ranking(), key=lambda entry: entry[0].number)
    architectures = [candidate.architecture for candidate, _ in ranking]
    same = [accuracy for _, accuracy in ranking] == work.plain(architectures)
    cases: dict[str, Callable[[], Any]] = {
        "plain": lambda: work.plain(architectures),
        "decoded": lambda: work.one_by_one(architectures),
        "ours": lambda: work.ours(*size),
    }
    seconds = interleaved(cases, options, warm_up=0)
    title = f"{work.space.name}, {len(architectures)} candidates on {len(work.decoded)} images"
    report.times(title, seconds, over="ours", unit="s")
    for name, values in seconds.items():
        rate = 60 * len(architectures) / statistics.median(values)
        report.row(f"  {name}: {rate:.4g} candidates per minute", case=name, candidates_per_minute=rate)
    report.row(f"  the accuracies are {'the same' if same else 'NOT the same'}", same=same)


def _growth(work: Workload, options: argparse.Namespace, report: Report) -> None:
    """Seconds against candidates x images: a start and a time per image evaluation, from the smallest and the
    largest search, predict the others.
    """
    population, generations = max(2, options.population_size // 2), max(1, options.generations // 2)
    images = len(work.decoded) // 2
    base = population, generations, images
    sizes = {
        "base": base,
        "population x 2": (2 * population, generations, images),
        "generations x 2": (population, 2 * generations, images),
        "images x 2": (population, generations, 2 * images),
        "all x 2": (2 * population, 2 * generations, 2 * images),
    }
    cases = {name: (lambda size=size: work.ours(*size)) for name, size in sizes.items()}
    seconds = {name: statistics.median(v) for name, v in interleaved(cases, options, warm_up=1).items()}
    evaluations = {name: people * times * count for name, (people, times, count) in sizes.items()}
    unit = (seconds["all x 2"] - seconds["base"]) / (evaluations["all x 2"] - evaluations["base"])
    start = seconds["base"] - unit * evaluations["base"]
    report.row(
        f"{start:.3g} s, and {1e6 * unit:.4g} microseconds per image evaluation", start=start, unit=unit
    )
    for name, (people, times, count) in sizes.items():
        predicted = start + unit * evaluations[name]
        report.row(
            f"{name}: {people} x {times} x {count}: {seconds[name]:.3g} s, predicted {predicted:.3g} s",
            size=[people, times, count],
            seconds=seconds[name],
            predicted=predicted,
        )


if __name__ == "__main__":
    # before NNI is imported: it reads a list of all experiments ever made in the user's home
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        sys.exit(main())

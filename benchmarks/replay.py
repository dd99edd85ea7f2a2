"""Searchers played on a complete table of a small space: what each has found after how many evaluations.

    python -m benchmarks.replay
    python -m benchmarks.replay --rounds 3 --max-params 0.05 --figure replay.png

The table (`replay.csv.gz`, made by `benchmarks.replay_table`) holds every subnet, so nothing is trained or
evaluated, and a round, which is a seed of every searcher, takes seconds. Searchers:

    evolution       ours with the published setting
    surrogate       ours with --surrogate
    random          subnets under the limit in a random order
    NNI evolution   nni.nas.strategy.RegularizedEvolution, its defaults, behind NNI's Filter for the limit
    NNI TPE         nni.algorithms.hpo.tpe_tuner, its defaults; a subnet above the limit is told to have 0 %,
                    and counts as no evaluation
    biggest         no search: the subnet of the most parameters under the limit
"""

from __future__ import annotations

import argparse
import csv
import gzip
import logging
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from nni_autoformer import Architecture, SearchSpace
from nni_autoformer.search.algorithms import searcher_with
from nni_autoformer.search.evolution import Candidate, EvolutionConfig
from nni_autoformer.search.limits import Limits

from .common import Report, parser
from .replay_table import IMAGES, table_space

HERE = Path(__file__).parent
SPACE, TABLE = HERE / "replay.yaml", HERE / "replay.csv.gz"
LIMITS = (0.07,)

LONG, SHORT = 1_000, 250
"""Evaluations of the published evolution and of random search, and of the others."""

CHECKED = (50, 100, 150, 200, 250, 500, 1_000)


@dataclass(frozen=True)
class Task:
    """A table under a limit.

    Attributes:
        space: its space.
        top1: accuracy of every subnet, in percent.
        params: parameters of every subnet.
        max_params: limit in millions.
        images: how many images the accuracies are of.
    """

    space: SearchSpace
    top1: Mapping[Architecture, float]
    params: Mapping[Architecture, int]
    max_params: float
    images: int

    @classmethod
    def load(cls, max_params: float, table: Path = TABLE, space: Path = SPACE) -> Task:
        """Read the table."""
        top1, params = {}, {}
        with gzip.open(table, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                embed_dim, heads, ratios = row["architecture"].split()
                key = Architecture(
                    int(embed_dim), tuple(map(int, heads.split("-"))), tuple(map(float, ratios.split("-")))
                )
                top1[key], params[key] = float(row["top1"]), int(row["params"])
        return cls(table_space(space), top1, params, max_params, IMAGES)

    def allows(self, architecture: Architecture) -> bool:
        """Whether a subnet is under the limit."""
        return self.params[architecture] <= 1e6 * self.max_params

    @property
    def feasible(self) -> dict[Architecture, float]:
        """The accuracies of what is under the limit."""
        return {architecture: value for architecture, value in self.top1.items() if self.allows(architecture)}

    @property
    def biggest(self) -> float:
        """Accuracy of the subnet of the most parameters under the limit."""
        return self.top1[max(self.feasible, key=lambda architecture: self.params[architecture])]

    @property
    def standard_error(self) -> float:
        """Of the best accuracy, in percentage points."""
        share = max(self.feasible.values()) / 100
        return 100 * float(numpy.sqrt(share * (1 - share) / self.images))


Run = Callable[[Task, int, int], list[float]]
"""Task, seed and number of evaluations to the accuracies in the order of evaluation."""


def ours(config: Callable[[int, int], Any]) -> Run:
    """One of this package's searchers; `config` is of seed and generations of 50."""

    def run(task: Task, seed: int, evaluations: int) -> list[float]:
        searcher = searcher_with(
            task.space, Limits(max_params=task.max_params), config(seed, evaluations // 50)
        )
        found = []
        while isinstance(candidate := searcher.ask(), Candidate):
            found.append(task.top1[candidate.architecture])
            searcher.tell(candidate.number, found[-1])
        return found

    return run


def at_random(task: Task, seed: int, evaluations: int) -> list[float]:
    """What is under the limit, in a random order."""
    values = list(task.feasible.values())
    return random.Random(seed).sample(values, min(evaluations, len(values)))


def regularized_evolution(task: Task, seed: int, evaluations: int) -> list[float]:
    """NNI's, on a model space that is nothing but its choices."""
    import nni
    from nni.mutable import Categorical, MutableDict
    from nni.nas.evaluator import Evaluator
    from nni.nas.execution import SequentialExecutionEngine
    from nni.nas.space import RawFormatModelSpace
    from nni.nas.strategy import RegularizedEvolution
    from nni.nas.strategy.middleware import Chain, Filter
    from nni.runtime.log import silence_stdout

    silence_stdout()
    logging.getLogger("nni").setLevel(logging.ERROR)  # a warning for each subnet above the limit
    found: list[float] = []

    class Lookup(Evaluator):
        def _execute(self, model: Any) -> None:
            found.append(task.top1[Architecture.from_sample(model.sample)])
            nni.report_final_result(found[-1])

    choices = {
        label: Categorical(entry["_value"], label=label) for label, entry in task.space.to_nni().items()
    }
    allowed = Filter(lambda model: task.allows(Architecture.from_sample(model.sample)), retain_history=False)
    strategy = Chain(RegularizedEvolution(seed=seed), allowed)
    engine = SequentialExecutionEngine(max_model_count=evaluations)
    strategy.initialize(RawFormatModelSpace(MutableDict(choices), Lookup()), engine)
    strategy.run()
    return found


def tpe(task: Task, seed: int, evaluations: int) -> list[float]:
    """NNI's tuner, one trial after the other."""
    from nni.algorithms.hpo.tpe_tuner import TpeTuner

    logging.getLogger("nni.algorithms.hpo.tpe_tuner").setLevel(logging.ERROR)
    tuner = TpeTuner(optimize_mode="maximize", seed=seed)
    tuner.update_search_space(task.space.to_nni())
    found: list[float] = []
    for number in range(10 * evaluations):
        sample = tuner.generate_parameters(number)
        architecture = Architecture.from_sample(sample)
        value = task.top1[architecture] if task.allows(architecture) else 0.0
        if value:
            found.append(value)
        tuner.receive_trial_result(number, sample, value)
        tuner.trial_end(number, True)
        if len(found) == evaluations:
            break
    return found


SEARCHERS: dict[str, tuple[Run, int]] = {
    "evolution": (ours(lambda seed, n: EvolutionConfig(generations=n, seed=seed)), LONG),
    "surrogate": (ours(lambda seed, n: EvolutionConfig(generations=n, seed=seed, surrogate=True)), SHORT),
    "random": (at_random, LONG),
    "NNI evolution": (regularized_evolution, SHORT),
    "NNI TPE": (tpe, SHORT),
}


def main(arguments: list[str] | None = None) -> int:
    """Play, report and draw; the exit code."""
    flags = parser("replay", __doc__, rounds=10)
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("--table", type=Path, default=TABLE, help="(%(default)s)")
    flags.add_argument("--space", type=Path, default=SPACE, help="of the table (%(default)s)")
    flags.add_argument(
        "--max-params", type=float, nargs="+", default=LIMITS, help="in millions (%(default)s)"
    )
    flags.add_argument("--searchers", nargs="+", choices=tuple(SEARCHERS), default=tuple(SEARCHERS))
    flags.add_argument("--figure", type=Path, metavar="FILE", help="draw the curves")
    options = flags.parse_args(arguments)
    report = Report("replay", options)
    panels = [
        played(Task.load(limit, options.table, options.space), options, report)
        for limit in options.max_params
    ]
    if options.figure is not None:
        draw(panels, options.figure)
    return report.finish()


Panel = tuple[Task, dict[str, Any]]
"""A task, and by searcher the best that was found so far: (seeds, evaluations)."""


def played(task: Task, options: argparse.Namespace, report: Report) -> Panel:
    """All searchers with all seeds, reported."""
    values = task.feasible.values()
    report.row(
        f"up to {task.max_params:g} M parameters: {len(values):,} of {len(task.top1):,} subnets, best "
        f"{max(values):.2f} %, mean {statistics.fmean(values):.2f} %, biggest {task.biggest:.2f} %; standard "
        f"error {task.standard_error:.2f} points",
        max_params=task.max_params,
        best=max(values),
        biggest=task.biggest,
        standard_error=task.standard_error,
    )
    curves = {}
    for name in options.searchers:
        run, evaluations = SEARCHERS[name]
        evaluations = 100 if options.tiny else evaluations
        runs = [run(task, seed, evaluations) for seed in range(options.rounds)]
        length = min(map(len, runs))
        curves[name] = numpy.maximum.accumulate([values[:length] for values in runs], axis=1)
        medians = numpy.median(curves[name], axis=0)
        checked = {n: float(medians[n - 1]) for n in CHECKED if n <= length}
        cells = ", ".join(f"{value:.2f} after {n:,}" for n, value in checked.items())
        report.row(f"  {name}: {cells}", searcher=name, medians=checked, found=curves[name][:, -1].tolist())
    if {"evolution", "surrogate"} <= set(curves):
        compare(curves, report)
    return task, curves


def compare(curves: Mapping[str, Any], report: Report) -> None:
    """How many evaluations the surrogate needs for what the evolution has at its end, by the medians."""
    goal = float(numpy.median(curves["evolution"], axis=0)[-1])
    needed = {}
    for name in ("evolution", "surrogate"):
        reached = numpy.flatnonzero(numpy.median(curves[name], axis=0) >= goal)
        needed[name] = int(reached[0]) + 1 if len(reached) else None
    words = ", ".join(f"{name} {count or 'never'}" for name, count in needed.items())
    spared = (
        f"; {100 * (1 - needed['surrogate'] / needed['evolution']):.0f} % spared"
        if needed["surrogate"]
        else ""
    )
    report.row(f"  evaluations until the median is {goal:.2f} %: {words}{spared}", goal=goal, needed=needed)


def draw(panels: list[Panel], path: Path) -> None:
    """The best found against evaluations: the median of the seeds, and a band from quartile to quartile."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(panels) + 0.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (task, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for number, (name, values) in enumerate(curves.items()):
            low, median, high = numpy.quantile(values, (0.25, 0.5, 0.75), axis=0)
            steps = numpy.arange(1, len(median) + 1)
            axes.fill_between(steps, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
            axes.plot(steps, median, color=f"C{number}", label=name, linewidth=1.6)
        best = max(task.feasible.values())
        axes.axhline(best, color="0.3", linestyle="--", linewidth=1, label="best of the table")
        axes.axhline(task.biggest, color="0.6", linestyle=":", linewidth=1.4, label="biggest under the limit")
        axes.set_xscale("log")
        axes.set_xlim(10, LONG)
        axes.set_xticks([10, 50, 100, 250, 500, 1000], ["10", "50", "100", "250", "500", "1,000"])
        axes.minorticks_off()
        floor = min(
            float(numpy.quantile(values[:, min(9, values.shape[1] - 1)], 0.25)) for values in curves.values()
        )
        axes.set_ylim(min(floor, task.biggest) - 0.1, best + 0.15)
        axes.set_xlabel("subnets evaluated")
        axes.set_title(f"up to {task.max_params:g} M parameters", fontsize=10)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("best top-1 found, %")
    figure.axes[-1].legend(fontsize=8, loc="lower right", framealpha=0.9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    # before NNI is imported: it reads a list of all experiments ever made in the user's home
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        sys.exit(main())

"""What the benchmarks share: their flags, rounds that alternate between the cases, and the report."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nni_autoformer.files import write_json

PACKAGES = ("nni-autoformer", "torch", "nni", "timm")


def parser(name: str, description: str | None, rounds: int = 7) -> argparse.ArgumentParser:
    """The flags of every benchmark.

    Args:
        name: of the module.
        description: its docstring.
        rounds: how often each case is measured unless told otherwise.
    """
    result = argparse.ArgumentParser(f"python -m benchmarks.{name}", description=description)
    result.add_argument("--rounds", type=int, default=rounds, help="measurements of each case (%(default)s)")
    result.add_argument("--threads", type=int, default=2, help="threads of torch on the CPU (%(default)s)")
    result.add_argument("--json", type=Path, metavar="FILE", help="write all measurements here, too")
    result.add_argument(
        "--cpu-time",
        action="store_true",
        help="count the processor time of this process, on a machine that others use too; with --threads 1",
    )
    result.add_argument("--tiny", action="store_true", help="sizes that only show that it runs")
    return result


def step_parser(name: str, description: str | None, rounds: int = 7) -> argparse.ArgumentParser:
    """The flags of a benchmark of steps on subnets of search spaces; for the rest see `parser`."""
    result = parser(name, description, rounds)
    result.add_argument("--spaces", nargs="+", default=["tiny", "small"], help="search spaces (%(default)s)")
    result.add_argument("--subnets", nargs="+", default=["largest", "published"], help="(%(default)s)")
    result.add_argument("--batch-size", type=int, default=8)
    return result


def use_threads(count: int) -> None:
    """Set how many threads torch computes with, and keep third-party warnings out of the report."""
    import warnings

    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(count)


def interleaved(
    cases: Mapping[str, Callable[[], Any]],
    options: argparse.Namespace,
    warm_up: int = 1,
    wait: Callable[[], Any] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each case in each round. Every round runs all cases, each second one in reverse, so that
    what else happens on the machine meets them alike.

    Args:
        cases: what to run, by name.
        options: the flags of `parser`.
        warm_up: runs of each before, not measured.
        wait: returns when the device has finished; None on the CPU.
    """
    clock = time.process_time if options.cpu_time else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(-warm_up, options.rounds):
        for name in list(cases) if number % 2 == 0 else reversed(cases):
            if wait:
                wait()
            start = clock()
            cases[name]()
            if wait:
                wait()
            if number >= 0:
                seconds[name].append(clock() - start)
    return seconds


def ratio(first: Iterable[float], second: Iterable[float]) -> float:
    """The median over the rounds of first / second: both halves of a quotient are neighbours in time."""
    return statistics.median(a / b for a, b in zip(first, second))


class Report:
    """The measurements of one benchmark: printed as they come, and written as JSON at the end.

    Args:
        name: of the benchmark.
        options: its parsed flags.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self._json: Path | None = options.json
        self.content: dict[str, Any] = {
            "benchmark": name,
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "versions": {package: _version(package) for package in PACKAGES},
            "threads": options.threads,
            "rounds": options.rounds,
            "clock": "processor" if options.cpu_time else "wall",
            "tiny": options.tiny,
            "rows": [],
        }
        versions = ", ".join(f"{package} {version}" for package, version in self.content["versions"].items())
        print(f"{name}, {self.content['date']}, {self.content['machine']}, {options.threads} threads")
        print(f"{versions}, {options.rounds} rounds{', processor time' if options.cpu_time else ''}")

    def row(self, text: str, **values: Any) -> None:
        """Print a sentence; keep its values for the JSON."""
        print(text, flush=True)
        self.content["rows"].append({"text": text, **values})

    def times(self, title: str, seconds: Mapping[str, list[float]], over: str, unit: str = "ms") -> None:
        """A row of medians and of each case's ratio to one of them.

        Args:
            title: of what was measured.
            seconds: by case.
            over: the case whose time is divided: others' ratios say how many times longer they take.
            unit: 'ms' or 's'.
        """
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        ratios = {name: ratio(values, seconds[over]) for name, values in seconds.items() if name != over}
        scale = 1000 if unit == "ms" else 1
        parts = [
            f"{name} {median * scale:.4g} {unit}" + (f" ({ratios[name]:.3f}x)" if name in ratios else "")
            for name, median in medians.items()
        ]
        self.row(
            f"{title}: {', '.join(parts)}",
            title=title,
            over=over,
            median_s=medians,
            ratios=ratios,
            s=dict(seconds),
        )

    def finish(self) -> int:
        """Write the JSON file, if one is wanted; the exit code."""
        if self._json is not None:
            write_json(self._json, self.content)
        return 0


def machine() -> str:
    """Processor and number of cores."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = f"{names[0]}, {len(names)} cores, {platform.machine()}" if names else model
    return model


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        import nni_autoformer

        return nni_autoformer.__version__

"""How the training step grows: time and memory against image size, batch, depth and embedding size.

A plain subnet of tiny's published kind is taken and one size changed at a time. `--figure` draws the result.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from .common import Report, interleaved, parser, use_threads

SIZES: dict[str, list[int]] = {
    "image side": [224, 288, 384],
    "batch": [4, 8, 16],
    "depth": [6, 12, 14],
    "embed_dim": [192, 384, 624],
}
TINY: dict[str, list[int]] = {
    "image side": [16, 32],
    "batch": [1, 2],
    "depth": [1, 2],
    "embed_dim": [64, 128],
}
BASE = {"image side": 224, "batch": 8, "depth": 12, "embed_dim": 192}
TINY_BASE = {"image side": 16, "batch": 2, "depth": 1, "embed_dim": 64}


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    flags = parser("growth", __doc__, rounds=3)
    flags.add_argument("--figure", type=Path, metavar="FILE", help="draw the figure here, a .png or .svg")
    options = flags.parse_args(arguments)
    use_threads(options.threads)
    from nni_autoformer.complexity import macs

    from . import memory, networks

    report = Report("growth", options)
    base, sizes = (TINY_BASE, TINY) if options.tiny else (BASE, SIZES)
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for what, values in sizes.items():
        for value in values:
            setting = base | {what: value}
            model = networks.SearchSpace.load("tiny").model
            model = replace(
                model, img_size=(setting["image side"],) * 2, patch_size=8 if options.tiny else 16
            )
            heads = setting["embed_dim"] // 64
            depth = setting["depth"]
            architecture = networks.Architecture(setting["embed_dim"], (heads,) * depth, (4.0,) * depth)
            network = networks.Subnet(architecture, model, networks.DROP_PATH)
            images, labels = networks.batch_of(model, setting["batch"])
            step = networks.training_step(network, images, labels, fused=True)
            seconds = statistics.median(interleaved({"step": step}, options)["step"])
            peak = memory.peak_of_allocations(step)
            giga = setting["batch"] * macs(architecture, model) / 1e9
            curves.setdefault(what, []).append((value, seconds, peak, giga))
            report.row(
                f"{what} {value}: {seconds:.3f} s, {peak / 1e6:.0f} MB, {giga:.1f} GMACs forward",
                what=what,
                value=value,
                seconds=seconds,
                bytes=peak,
                forward_macs=giga * 1e9,
            )
    if options.figure:
        draw(curves, options.figure)
    return report.finish()


def draw(curves: dict[str, list[tuple[int, float, float, float]]], path: Path) -> None:
    """Time above memory, a column for each size; dashed: the time that the operations alone predict."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(curves), figsize=(11, 5), sharey="row", squeeze=False)
    for column, (what, points) in enumerate(curves.items()):
        values, seconds, peaks, giga = zip(*points)
        upper: Any = axes[0, column]
        upper.plot(values, seconds, "o-", color="C0", label="measured")
        upper.plot(values, [seconds[0] * g / giga[0] for g in giga], "--", color="0.5", label="by operations")
        axes[1, column].plot(values, [peak / 1e6 for peak in peaks], "o-", color="C1")
        axes[1, column].set_xlabel(what)
        for axis in (upper, axes[1, column]):
            axis.set_xticks(values)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("training step (s)")
    axes[1, 0].set_ylabel("memory of the step (MB)")
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())

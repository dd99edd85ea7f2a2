"""Make the table that `benchmarks.replay` plays searches on: every subnet of a small space, with the weights
of a supernet that was trained on scanned digits, evaluated on digits that its training held out.

    python -m benchmarks.replay_table --work runs/replay      # some minutes of one core

Given again, it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy

from nni_autoformer import Architecture, SearchSpace
from nni_autoformer.files import replacing
from nni_autoformer.jobs import DataSet, train

SPACE = Path(__file__).with_name("replay.yaml")
TABLE = Path(__file__).with_name("replay.csv.gz")
COLUMNS = "architecture,top1,loss,params,macs"

SELECTION = "70-per-class"
RECIPE: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 64,
    "lr": 2e-3,
    "warmup_epochs": 2,
    "drop_path": 0.0,
    "seed": 0,
}

LAYERS = (4, 5)
"""Depths of the table's subnets: those of six layers would be four times as many."""

IMAGES = 400
"""Held-out images that subnets are evaluated on."""

PART = 50
"""Images that are evaluated between two saves."""


def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate and write; the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.replay_table", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where the run goes")
    parser.add_argument("--space", type=Path, default=SPACE, help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=TABLE, help="(%(default)s)")
    options = parser.parse_args(arguments)
    data, folder = DataSet(dataset="digits"), options.work / "train"
    found = train(
        options.space, data, folder, selection=SELECTION, device="cpu", resume=folder.exists(), **RECIPE
    )
    right, loss = evaluated(found.checkpoint, list(table_space(options.space)), options.work)
    write(options.output, table_space(options.space), right, loss)
    return 0


def table_space(path: Path) -> SearchSpace:
    """The space of the table's subnets, a part of the supernet's."""
    space = SearchSpace.load(path)
    return replace(space, depth=tuple(depth for depth in space.depth if depth in LAYERS))


def evaluated(checkpoint: Path, architectures: list[Architecture], work: Path) -> tuple[Any, Any]:
    """Percent of the held-out images that each subnet names right, and its mean cross-entropy on them.

    The subnets are a tree, whose every edge is computed once: a subnet costs less than two half layers.
    """
    import torch

    from nni_autoformer.checkpoints import Checkpoint
    from nni_autoformer.search.shared_forward import SharedForward, Slices

    opened = Checkpoint(checkpoint)
    images, targets = held_out(checkpoint, opened.header)
    slices = Slices(opened.supernet().eval())
    state = work / "evaluated.npz"
    seen, right, loss = 0, numpy.zeros(len(architectures), int), numpy.zeros(len(architectures))
    if state.exists():
        with numpy.load(state) as file:
            seen, right, loss = int(file["seen"]), file["right"], file["loss"]
    while seen < IMAGES:
        batch, classes = images[seen : seen + PART], targets[seen : seen + PART]
        with torch.inference_mode():
            for number, logits in SharedForward(slices, architectures).logits(batch):
                right[number] += int((logits.argmax(dim=1) == classes).sum())
                loss[number] += float(torch.nn.functional.cross_entropy(logits, classes, reduction="sum"))
        seen += len(batch)
        with replacing(state) as temporary, open(temporary, "wb") as file:
            numpy.savez(file, seen=seen, right=right, loss=loss)
        print(f"{seen} of {IMAGES} images", flush=True)
    return 100 * right / seen, loss / seen


def held_out(checkpoint: Path, header: Any) -> tuple[Any, Any]:
    """The selection images and the test images, normalised, and their classes."""
    import torch

    from nni_autoformer.data import normalise, open_data
    from nni_autoformer.search.images import EvaluationImages

    splits = open_data("digits", None, header.space.model.in_chans)
    parts = [
        EvaluationImages(str(checkpoint), "digits", split=split, store="none").decoded(header)
        for split in ("selection", "test")
    ]
    images = torch.cat([normalise(part.images, splits.mean, splits.std) for part in parts])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], torch.cat([part.targets for part in parts])[order]


def word(architecture: Architecture) -> str:
    """An architecture in the table: 72 1-2-2-1 1-3-3-3."""
    heads = "-".join(map(str, architecture.num_heads))
    return f"{architecture.embed_dim} {heads} {'-'.join(f'{ratio:g}' for ratio in architecture.mlp_ratio)}"


def write(path: Path, space: SearchSpace, right: Any, loss: Any) -> None:
    """Write the table, the same bytes for the same numbers."""
    from nni_autoformer.complexity import macs, params

    text = io.StringIO()
    text.write(f"{COLUMNS}\n")
    for architecture, top1, entropy in zip(space, right, loss):
        costs = f"{params(architecture, space.model)},{macs(architecture, space.model)}"
        text.write(f"{word(architecture)},{top1:g},{entropy:.4f},{costs}\n")
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))


if __name__ == "__main__":
    sys.exit(main())

"""Make the table that `benchmarks.replay` plays searches on: every subnet of a small space, with the weights
of a supernet that was trained on photos, evaluated on images that its training held out.

    tar xzf cifar10.tar.gz -C CIFAR10
    python -m benchmarks.replay_table --data CIFAR10 --work runs/replay      # about an hour of one core

CIFAR10 is a folder train/CLASS/… and test/CLASS/…. The first --train-images of its training images train the
supernet, the next --images of them are named by every subnet. Given again, it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
from pathlib import Path
from typing import Any

import numpy

from nni_autoformer import Architecture, SearchSpace
from nni_autoformer.files import replacing
from nni_autoformer.jobs import train

SPACE = Path(__file__).with_name("replay.yaml")
TABLE = Path(__file__).with_name("replay.csv.gz")
COLUMNS = "architecture,top1,loss,params,macs"

RECIPE: dict[str, Any] = {"batch_size": 128, "lr": 1.5e-3, "warmup_epochs": 1, "drop_path": 0.0}

PART = 50
"""Images that are evaluated between two saves."""


def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate and write; the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.replay_table", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the images")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where the run goes")
    parser.add_argument("--space", type=Path, default=SPACE, help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=TABLE, help="(%(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="of the training (%(default)s)")
    parser.add_argument("--train-images", type=int, default=25_000, help="(%(default)s)")
    parser.add_argument("--images", type=int, default=1_000, help="that subnets name (%(default)s)")
    options = parser.parse_args(arguments)
    space = SearchSpace.load(options.space)
    checkpoint = trained(space, options)
    right, loss = evaluated(checkpoint, options)
    write(options.output, space, right, loss)
    return 0


def linked(options: argparse.Namespace) -> Path:
    """Folders of links: the training images, and as test images those that come after them."""
    target: Path = options.work / "images"
    classes = sorted(folder for folder in (options.data / "train").iterdir() if folder.is_dir())
    first, more = options.train_images // len(classes), options.images // len(classes)
    for folder in classes:
        files = sorted(folder.iterdir())
        for split, chosen in (("train", files[:first]), ("test", files[first : first + more])):
            place = target / split / folder.name
            place.mkdir(parents=True, exist_ok=True)
            for file in chosen:
                if not (place / file.name).exists():
                    (place / file.name).symlink_to(file.resolve())
    return target


def trained(space: SearchSpace, options: argparse.Namespace) -> Path:
    """The supernet's file; trains it, or finds it trained."""
    output = options.work / "train"
    run = {**RECIPE, "epochs": options.epochs, "seed": 0, "val_interval": options.epochs}
    found = train(space, linked(options), output, device="cpu", resume=output.exists(), **run)
    return found.checkpoint


def evaluated(checkpoint: Path, options: argparse.Namespace) -> tuple[Any, Any]:
    """How many of the images each subnet names right, and its mean cross-entropy on them.

    The subnets are a tree, whose every edge is computed once: a subnet costs less than two half layers.
    """
    import torch

    from nni_autoformer.checkpoints import Checkpoint
    from nni_autoformer.data import normalise, open_data
    from nni_autoformer.search.images import EvaluationImages
    from nni_autoformer.search.shared_forward import SharedForward, Slices

    opened, folder = Checkpoint(checkpoint), linked(options)
    header = opened.header
    images = EvaluationImages(str(checkpoint), data=str(folder), split="test", store="none").decoded(header)
    splits = open_data("folder", folder, header.space.model.in_chans)
    slices, architectures = Slices(opened.supernet().eval()), list(header.space)
    order = torch.arange(len(images)).reshape(len(splits.train.classes), -1).T.flatten()  # class by class
    state = options.work / "evaluated.npz"
    seen, right, loss = 0, numpy.zeros(len(architectures), int), numpy.zeros(len(architectures))
    if state.exists():
        with numpy.load(state) as file:
            seen, right, loss = int(file["seen"]), file["right"], file["loss"]
    while seen < len(images):
        chosen = order[seen : seen + PART]
        targets = images.targets[chosen]
        with torch.inference_mode():
            batch = normalise(images.images[chosen], splits.mean, splits.std)
            for number, logits in SharedForward(slices, architectures).logits(batch):
                right[number] += int((logits.argmax(dim=1) == targets).sum())
                loss[number] += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        seen += len(chosen)
        with replacing(state) as temporary, open(temporary, "wb") as file:
            numpy.savez(file, seen=seen, right=right, loss=loss)
        print(f"{seen} of {len(images)} images", flush=True)
    return 100 * right / seen, loss / seen


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

"""What a supernet gains by beginning as a pretrained ViT, at a size that two CPU cores can do.

    python docs/from_pretrained_vit.py --data CIFAR10/train --output runs/vit.safetensors
    python docs/from_pretrained.py --data CIFAR10 --vit runs/vit.safetensors --output runs/from_pretrained

CIFAR10 is a folder train/CLASS/… and test/CLASS/…. The images here are the last of each class, which the
pretrained network has not seen. For each seed a supernet is trained from scratch, from the pretrained network
with everything in its place, and from it with what matters most in front, all for the same passes over the
same images; each is searched and sampled. Beside them stand the winner's size trained from scratch, and the
winner of the third distilled from the pretrained network, for as many passes again.

A command line that was stopped is given again: what is finished is not done twice. What the commands say is
in OUTPUT/SEED/log.txt, the tables are in OUTPUT/table.md, the figure in OUTPUT/from_pretrained.png.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import from_pretrained_vit as pretrained
import torch
from cifar10 import cell, linked, rows
from safetensors.torch import load_file
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

from nni_autoformer.checkpoints.pretrained import open_source
from nni_autoformer.complexity import params
from nni_autoformer.data.pixels import normalise
from nni_autoformer.jobs.started_from import IMPORTANCE_IMAGES, METHODS
from nni_autoformer.model import build_supernet
from nni_autoformer.nn.growing import with_own_biases
from nni_autoformer.nn.reorder import reordered
from nni_autoformer.nn.subnet import Subnet
from nni_autoformer.report.figures import COLORS, MARKERS, figure_file
from nni_autoformer.search.random_subnets import draw_subnets
from nni_autoformer.space import SearchSpace
from nni_autoformer.training.importance import measure

SPACE = Path(__file__).with_suffix(".yaml")
UNSEEN = 10_000
"""Images that the pretrained network has not seen, of all classes together."""

FROM = "--from {vit} --recipe elastic {rate} --importance"
VARIANTS = {
    "scratch": ("from scratch", ""),
    "in-place": ("pretrained, in its order", f"{FROM} none"),
    "reordered": ("pretrained, reordered", f"{FROM} taylor"),
}
"""By folder: what it is called, and the flags of its training."""

COMMAND = "import sys, from_pretrained; from nni_autoformer.cli import main; sys.exit(main())"
"""The command line, in a process that knows the teacher's name."""

SEARCH = "--population-size 16 --num-parents 6 --num-mutations 8 --num-crossovers 8 --generations 5"
NETWORKS = {"distilled": "distilled", "alone": "from scratch"}
"""The single networks of the winner's size, by folder: what they are called."""

CUT = 31
"""Random subnets that the untrained network is cut to."""

KINDS = ("smallest", "middle", "largest", "random", "within", "searched", "ahead_of")


@register_model
def cifar10_vit(pretrained_cfg: Any = None, num_classes: int = 10, **_: Any) -> VisionTransformer:
    """The pretrained network under a name of timm's, so that it can be a teacher."""
    network = VisionTransformer(**pretrained.SIZES, num_classes=num_classes)
    network.pretrained_cfg = {"mean": pretrained.MEAN, "std": pretrained.STD}
    return network


def main() -> None:
    arguments = parse()
    data = linked(
        arguments.data, arguments.output / "images", arguments.images, arguments.test_images, last=True
    )
    with ThreadPoolExecutor(arguments.jobs) as pool:  # the work is the commands', in processes of their own
        runs = [pool.submit(Programme(arguments, data, seed).run) for seed in arguments.seeds]
        results = [run.result() for run in runs]
    original = tested(arguments.vit, data)
    text = "\n".join([*tables(results, arguments, original), *untrained(arguments.vit, data), ""])
    (arguments.output / "table.md").write_text(text, encoding="utf-8")
    draw(results, original, arguments)
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the images")
    parser.add_argument("--vit", type=Path, required=True, metavar="FILE", help="the pretrained network")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where everything goes")
    parser.add_argument("--images", type=int, default=UNSEEN, help="training images (default 10,000)")
    parser.add_argument("--test-images", type=int, default=1_000, help="test images (default 1,000)")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the images (default 8)")
    parser.add_argument("--n", type=int, default=100, help="random subnets (default 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of everything (default 0 1)")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at the same time (default 2)")
    parser.add_argument(
        "--lr-base", type=float, help="of the supernets from the pretrained network (default: the recipe's)"
    )
    parser.add_argument(
        "--max-params", type=float, default=third(), help="limit in millions (default a third of the largest)"
    )
    arguments = parser.parse_args()
    if arguments.images > UNSEEN:
        parser.error(f"--images {arguments.images}: the pretrained network has seen all but {UNSEEN:,}.")
    return arguments


def third() -> float:
    """A third of the parameters of the largest subnet, in millions."""
    space = SearchSpace.load(SPACE)
    return round(params(space.largest, space.model) / 3e6, 2)


class Programme:
    """All commands of one seed."""

    def __init__(self, arguments: argparse.Namespace, data: Path, seed: int) -> None:
        self.folder = arguments.output / str(seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.arguments, self.seed = arguments, seed
        self.images = f"--data {data} --device cpu"
        self.length = f"--epochs {arguments.epochs} --val-interval {arguments.epochs}"

    def run(self) -> dict[str, Any]:
        """What came out: accuracies in percent, by variant, and those of single networks."""
        found = {name: self.supernet(name) for name in VARIANTS}
        winner = self.folder / "reordered" / "search" / "best.yaml"
        single = f"--architecture {winner} {self.images} --selection {self.held_out} {self.length}"
        supernet = self.folder / "reordered" / "train" / "supernet.safetensors"
        teacher = f"--teacher cifar10_vit --teacher-checkpoint {self.arguments.vit} --distillation-type soft"
        networks = {
            "alone": self.network("alone", f"retrain --space {SPACE} {single}"),
            "distilled": self.network("distilled", f"finetune --checkpoint {supernet} {single} {teacher}"),
        }
        return {"variants": found, "networks": networks}

    @property
    def held_out(self) -> Path:
        """The images that a search compares subnets on: of every training here the same."""
        return self.folder / "scratch" / "train" / "selection.txt"

    def supernet(self, name: str) -> dict[str, Any]:
        """Train, search and sample one supernet."""
        folder, arguments = self.folder / name, self.arguments
        rate = "" if arguments.lr_base is None else f"--lr-base {arguments.lr_base}"
        flags = VARIANTS[name][1].format(vit=arguments.vit, rate=rate)
        held_out = "" if name == "scratch" else f"--selection {self.held_out}"
        self.call(
            f"train --space {SPACE} {self.images} {flags} {held_out} --sampling balanced {self.length} "
            f"--seed {self.seed} --output {folder / 'train'}"
        )
        checkpoint = f"--checkpoint {folder / 'train' / 'supernet.safetensors'} {self.images}"
        self.call(
            f"search {checkpoint} {SEARCH} --max-params {arguments.max_params} --seed {self.seed} "
            f"--output {folder / 'search'}"
        )
        # the same random subnets for every variant and seed
        self.call(
            f"sample {checkpoint} -n {arguments.n} --split test --architecture "
            f"{folder / 'search' / 'best.yaml'} smallest middle largest --output {folder / 'sample'}"
        )
        return summary(list(rows(folder / "sample" / "samples.jsonl")), 1e6 * arguments.max_params)

    def network(self, name: str, command: str) -> dict[str, float]:
        """Train a single network, and test it."""
        folder, result = self.folder / name, self.folder / f"{name}.json"
        self.call(f"{command} --seed {self.seed} --output {folder}")
        if not result.exists():
            self.call(f"test --checkpoint {folder / 'subnet.safetensors'} {self.images} --json", result)
        return json.loads(result.read_text(encoding="utf-8"))

    def call(self, command: str, answer: Path | None = None) -> None:
        """Run a command, or find that it was run.

        Args:
            command: its words.
            answer: file for what it prints; None for the log, and then it is one that can be resumed.
        """
        print(f"nni-autoformer {command}", flush=True)
        words = command.split() + ([] if answer else ["--resume"])
        program = [sys.executable, "-c", COMMAND, *words]
        paths = [str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        if self.arguments.jobs > 1:
            environment["OMP_NUM_THREADS"] = "1"
        log = self.folder / "log.txt"
        with log.open("a", encoding="utf-8") as told:
            done = subprocess.run(
                program, env=environment, stdout=subprocess.PIPE if answer else told, stderr=told, text=True
            )
        if done.returncode:
            raise SystemExit(f"nni-autoformer {command.split()[0]} has failed; {log} says why.")
        if answer:
            answer.write_text(done.stdout, encoding="utf-8")


def summary(samples: list[dict[str, Any]], limit: float) -> dict[str, Any]:
    """What the tables and the figure show of one supernet's subnets."""
    named = {row["name"]: row for row in samples if row["name"]}
    drawn = [row for row in samples if not row["name"]]
    within = [row["top1"] for row in drawn if row["params"] <= limit] or [math.nan]
    searched = named["best"]
    return {
        **{name: named[name]["top1"] for name in ("smallest", "middle", "largest")},
        "random": statistics.mean(row["top1"] for row in drawn),
        "within": statistics.mean(within),
        "searched": searched["top1"],
        "ahead_of": 100 * sum(top1 < searched["top1"] for top1 in within) / len(within),
        "params": searched["params"] / 1e6,
        "points": [(row["params"] / 1e6, row["top1"]) for row in drawn],
    }


def tested(vit: Path, data: Path) -> float:
    """The accuracy of the pretrained network itself on the test images, in percent."""
    network = cifar10_vit().eval()
    network.load_state_dict(load_file(vit))
    images, targets = pretrained.read(data / "test")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (pretrained.MEAN, pretrained.STD))
    with torch.inference_mode():
        answers = torch.cat([network((part / 255 - mean) / std).argmax(dim=1) for part in images.split(250)])
    return 100 * (answers == targets).double().mean().item()


def untrained(vit: Path, data: Path) -> Iterator[str]:
    """A table of subnets as the pretrained network is cut by the three orders, before any training."""
    space = SearchSpace.load(SPACE)
    drawn = [subnet for subnet in draw_subnets(space, CUT) if subnet != space.largest]
    subnet = open_source(str(vit), space).subnet
    unseen, labels = pretrained.read(data / "train")
    chosen = torch.randperm(len(unseen), generator=torch.Generator().manual_seed(0))[:IMPORTANCE_IMAGES]
    measured_on = [(normalise(unseen[chosen], pretrained.MEAN, pretrained.STD), labels[chosen])]
    images, targets = pretrained.read(data / "test")
    images = normalise(images, pretrained.MEAN, pretrained.STD)
    tensors = with_own_biases(subnet.state_dict(), space.max_depth)
    supernet = build_supernet(space).eval()
    yield f"\n| order, before training | smallest | middle | largest | mean of {len(drawn)} random |"
    yield f"|{' --- |' * 5}"
    for method in reversed(METHODS):
        order = measure(copy.deepcopy(subnet).float(), measured_on, method).order
        cut = Subnet.from_tensors(space.largest, space.model, reordered(tensors, order))
        supernet.implant(cut.float())
        named = [
            accuracy(supernet, entry, images, targets)
            for entry in (space.smallest, space.middle, space.largest)
        ]
        random = statistics.mean(accuracy(supernet, entry, images, targets) for entry in drawn)
        yield f"| {method} | {' | '.join(f'{top1:.1f}' for top1 in (*named, random))} |"


@torch.inference_mode()
def accuracy(supernet: Any, architecture: Any, images: torch.Tensor, targets: torch.Tensor) -> float:
    """Of one subnet with inherited weights, in percent."""
    supernet.set_architecture(architecture)
    answers = torch.cat([supernet(part).argmax(dim=1) for part in images.split(250)])
    return 100 * (answers == targets).double().mean().item()


def tables(results: list[dict[str, Any]], arguments: argparse.Namespace, original: float) -> Iterator[str]:
    """The two tables as lines of Markdown: each cell the mean over the seeds, and the seeds' own numbers."""
    limit = f"up to {arguments.max_params:g} M"
    yield (
        f"{arguments.images:,} training images of CIFAR-10 that the pretrained network has not seen (a part "
        f"of them held out for the search), {arguments.test_images:,} test images, {arguments.epochs} "
        f"passes, seeds {', '.join(map(str, arguments.seeds))}; top-1 on the test images in percent. The "
        f"pretrained network itself: {original:.1f}.\n"
    )
    yield (
        f"| supernet | smallest | middle | largest | mean of {arguments.n} random | mean of those {limit} "
        f"| searched, {limit} | ahead of … % of those |"
    )
    yield f"|{' --- |' * 8}"
    for name, (title, _) in VARIANTS.items():
        cells = [cell([result["variants"][name][kind] for result in results]) for kind in KINDS]
        yield f"| {title} | {' | '.join(cells)} |"
    yield f"\n| the reordered supernet's winner ({limit} parameters) | further passes | top-1 |"
    yield "| --- | --- | --- |"
    inherited = [result["variants"]["reordered"]["searched"] for result in results]
    yield f"| inherited weights | 0 | {cell(inherited)} |"
    for name, title in NETWORKS.items():
        top1 = [result["networks"][name]["top1"] for result in results]
        yield f"| {title} | {arguments.epochs} | {cell(top1)} |"
    yield ""


def draw(results: list[dict[str, Any]], original: float, arguments: argparse.Namespace) -> None:
    """Accuracy against parameters: the random subnets of all seeds, the searched ones, single networks."""
    with figure_file(arguments.output / "from_pretrained.png", (7, 4.8)) as (figure, axes):
        for (name, (title, _)), color in zip(VARIANTS.items(), COLORS):
            found = [result["variants"][name] for result in results]
            points = [point for each in found for point in each["points"]]
            axes.scatter(*zip(*points), s=10, color=color, alpha=0.5, linewidth=0, label=f"{title}: random")
            sizes, top1 = [each["params"] for each in found], [each["searched"] for each in found]
            axes.scatter(
                sizes, top1, s=130, marker="*", color=color, edgecolor="black", label=f"{title}: searched"
            )
        sizes = [result["variants"]["reordered"]["params"] for result in results]
        for (name, title), marker in zip(NETWORKS.items(), MARKERS[1:]):
            top1 = [result["networks"][name]["top1"] for result in results]
            axes.scatter(sizes, top1, s=45, marker=marker, color="0.25", label=f"the winner {title}")
        axes.axhline(original, color="0.35", linestyle="--", linewidth=1, label="the pretrained network")
        axes.axvline(arguments.max_params, color="0.35", linestyle=":", linewidth=1, label="limit")
        axes.set_xlabel("parameters (M)")
        axes.set_ylabel("top-1 on the test images (%)")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)


if __name__ == "__main__":
    main()

"""The whole programme on CIFAR-10, at a size that two CPU cores can do.

    python docs/cifar10.py --data CIFAR10 --output runs/cifar10          # about 25 minutes
    python docs/cifar10.py --data CIFAR10 --output runs/small --images 500 --epochs 4 --n 10 --seeds 0

CIFAR10 is a folder train/CLASS/… and test/CLASS/…. For each seed and each sampling rule a supernet is
trained, searched and sampled; the winner of the rule whose search ended highest, on held-out training images,
is fine-tuned and retrained. The budget of a supernet is a number of passes, forward and backward, over the
images: a step of the sandwich makes four and gets a quarter of the epochs.

A command line that was stopped is given again: what is finished is not done twice. The tables go to
OUTPUT/table.md, the figures of the random subnets to OUTPUT/SEED/RULE/sample/samples.png.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nni_autoformer.checkpoints import own_header
from nni_autoformer.checkpoints.metrics import accuracies

SPACE = Path(__file__).with_suffix(".yaml")
RULES = {"uniform": 1, "sandwich": 4, "balanced": 1}
"""Passes of a step, by rule."""

SEARCH = "--population-size 24 --num-parents 8 --num-mutations 12 --num-crossovers 12 --generations 5"
KINDS = ("smallest", "random", "largest", "within", "searched", "ahead_of")


def main() -> None:
    arguments = parse()
    data = linked(arguments.data, arguments.output / "images", arguments.images, arguments.test_images)
    results = {seed: Programme(arguments, data, seed).run() for seed in arguments.seeds}
    text = "\n".join(tables(results, arguments))
    (arguments.output / "table.md").write_text(text, encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the images")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where everything goes")
    parser.add_argument("--images", type=int, default=8_000, help="training images (default 8,000)")
    parser.add_argument("--test-images", type=int, default=2_000, help="test images (default 2,000)")
    parser.add_argument("--epochs", type=int, default=16, help="passes over the images (default 16)")
    parser.add_argument("--n", type=int, default=100, help="random subnets (default 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of everything (default 0 1)")
    parser.add_argument("--max-params", type=float, default=0.35, help="limit in millions (default 0.35)")
    return parser.parse_args()


def linked(source: Path, target: Path, images: int, test_images: int, last: bool = False) -> Path:
    """A folder of links to the first images of every class; of the training images to the last if wanted."""
    for split, count in (("train", images), ("test", test_images)):
        classes = sorted(folder for folder in (source / split).iterdir() if folder.is_dir())
        for folder in classes:
            place = target / split / folder.name
            place.mkdir(parents=True, exist_ok=True)
            each, files = count // len(classes), sorted(folder.iterdir())
            chosen = files[-each:] if last and split == "train" else files[:each]
            wanted = {file.name: file.resolve() for file in chosen}
            for link in place.iterdir():
                if link.name not in wanted:
                    link.unlink()
            for name, file in wanted.items():
                if not (place / name).exists():
                    (place / name).symlink_to(file)
    return target


class Programme:
    """All commands of one seed."""

    def __init__(self, arguments: argparse.Namespace, data: Path, seed: int) -> None:
        self.folder = arguments.output / str(seed)
        self.arguments, self.seed = arguments, seed
        self.images = f"--data {data} --device cpu"

    def run(self) -> dict[str, Any]:
        """What came out: accuracies in percent, by rule, and those of the winner."""
        found = {rule: self.supernet(rule) for rule in RULES}
        rule = max(found, key=lambda name: found[name]["selection"])
        return {"rules": found, "winner": self.winner(rule) | {"rule": rule}}

    def supernet(self, rule: str) -> dict[str, Any]:
        """Train, search and sample with one rule."""
        folder, arguments = self.folder / rule, self.arguments
        epochs = max(1, arguments.epochs // RULES[rule])
        self.call(
            f"train --space {SPACE} {self.images} --sampling {rule} --sandwich-random 2 --epochs {epochs} "
            f"--seed {self.seed} --output {folder / 'train'}"
        )
        checkpoint = f"--checkpoint {folder / 'train' / 'supernet.safetensors'} {self.images}"
        self.call(
            f"search {checkpoint} {SEARCH} --max-params {arguments.max_params} --seed {self.seed} "
            f"--output {folder / 'search'}"
        )
        # the same random subnets for every rule and seed
        self.call(
            f"sample {checkpoint} -n {arguments.n} --split test --architecture "
            f"{folder / 'search' / 'best.yaml'} smallest largest --output {folder / 'sample'}"
        )
        samples = list(rows(folder / "sample" / "samples.jsonl"))
        named = {row["name"]: row["top1"] for row in samples if row["name"]}
        drawn = [row["top1"] for row in samples if not row["name"]]
        limit = 1e6 * arguments.max_params
        within = [row["top1"] for row in samples if not row["name"] and row["params"] <= limit] or [math.nan]
        return {
            "selection": max(row["top1"] for row in rows(folder / "search" / "candidates.jsonl")),
            "smallest": named["smallest"],
            "largest": named["largest"],
            "searched": named["best"],
            "random": statistics.mean(drawn),
            "within": statistics.mean(within),
            "ahead_of": 100 * sum(top1 < named["best"] for top1 in within) / len(within),
        }

    def winner(self, rule: str) -> dict[str, float]:
        """Fine-tune and retrain the subnet that a search has found."""
        folder, epochs = self.folder / rule, self.arguments.epochs
        architecture = f"--architecture {folder / 'search' / 'best.yaml'} {self.images} --seed {self.seed}"
        self.call(
            f"finetune --checkpoint {folder / 'train' / 'supernet.safetensors'} {architecture} "
            f"--epochs {max(1, epochs // 4)} --output {self.folder / 'finetuned'}"
        )
        self.call(
            f"retrain --space {SPACE} {architecture} --epochs {epochs} --output {self.folder / 'retrained'}"
        )
        # nothing was held out, so the last epoch's accuracy is that on the test images
        return {name: last_accuracy(self.folder / name) for name in ("finetuned", "retrained")}

    def call(self, command: str) -> None:
        """Run a command, or find that it was run."""
        print(f"\nnni-autoformer {command}", flush=True)
        words = [sys.executable, "-m", "nni_autoformer", *command.split(), "--resume"]
        subprocess.run(words, check=True)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of JSON lines."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def last_accuracy(folder: Path) -> float:
    """Of a finished run, in percent."""
    header = own_header(folder / "subnet.safetensors")
    assert header is not None
    return accuracies(header.run["metrics"])["network"]


def tables(results: dict[int, dict[str, Any]], arguments: argparse.Namespace) -> Iterator[str]:
    """The two tables as lines of Markdown: each cell the mean over the seeds, and the seeds' own numbers."""
    seeds = ", ".join(map(str, results))
    yield (
        f"{arguments.images:,} training images of CIFAR-10 (a part of them held out for the search), "
        f"{arguments.test_images:,} test images, {arguments.epochs} passes, seeds {seeds}; top-1 on the test "
        "images in percent.\n"
    )
    limit = f"up to {arguments.max_params:g} M"
    yield (
        f"| sampling | epochs | smallest | mean of {arguments.n} random | largest | mean of those {limit} "
        f"| searched, {limit} | ahead of … % of those |"
    )
    yield f"|{' --- |' * 8}"
    for rule, passes in RULES.items():
        cells = [cell([result["rules"][rule][kind] for result in results.values()]) for kind in KINDS]
        yield f"| {rule} | {max(1, arguments.epochs // passes)} | {' | '.join(cells)} |"
    yield f"\n| the winner ({limit} parameters) | epochs | top-1 |"
    yield "| --- | --- | --- |"
    winners = [result["winner"] for result in results.values()]
    inherited = [result["rules"][result["winner"]["rule"]]["searched"] for result in results.values()]
    yield f"| inherited weights ({', '.join(winner['rule'] for winner in winners)}) | 0 | {cell(inherited)} |"
    for name, epochs in (("finetuned", max(1, arguments.epochs // 4)), ("retrained", arguments.epochs)):
        yield f"| {name} | {epochs} | {cell([winner[name] for winner in winners])} |"
    yield ""


def cell(values: list[float]) -> str:
    """A mean, and in brackets what it is of."""
    own = f" ({', '.join(f'{value:.1f}' for value in values)})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{own}"


if __name__ == "__main__":
    main()

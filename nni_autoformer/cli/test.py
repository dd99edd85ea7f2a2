"""``nni-autoformer test``: accuracy of one subnet, with inherited weights, on the test images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..complexity import macs, params
from ..space import Architecture, SearchSpace
from . import options
from .evaluation import Evaluation
from .summary import table

if TYPE_CHECKING:
    from ..data import ImageSource
    from ..search.evaluator import Accuracy


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("test", help="test one subnet of a supernet", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--space", help="name of a packaged space, or a YAML file (default: the checkpoint's)"
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="a trained supernet")
    parser.add_argument(
        "--architecture",
        required=True,
        metavar="FILE|NAME",
        help="a YAML file (a search writes best.yaml), or smallest, middle, largest, or a name in the "
        "space's file",
    )
    options.add_data(parser)
    options.add_evaluation(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..checkpoints import read_header

    evaluation = Evaluation.of(arguments)
    expected = None if arguments.space is None else SearchSpace.load(arguments.space)
    header = read_header(arguments.checkpoint)
    architecture = (expected or header.space).architecture(arguments.architecture)
    splits = options.open_splits(arguments, header.space)
    options.require_classes(splits.test.classes, header.run, arguments.checkpoint)
    accuracy = test(arguments.checkpoint, expected, architecture, splits.test, evaluation)
    print()
    print(table(test_rows(architecture, header.space, accuracy)), end="")


def test_rows(architecture: Architecture, space: SearchSpace, accuracy: Accuracy) -> list[tuple[str, str]]:
    """What a test found."""
    return [
        ("architecture", str(architecture)),
        ("parameters", f"{params(architecture, space.model):,}"),
        ("MACs", f"{macs(architecture, space.model) / 1e6:,.2f} M"),
        ("test images", f"{accuracy.images:,}"),
        ("top-1", f"{accuracy.top1:.2f} %"),
        ("top-5", f"{accuracy.top5:.2f} %"),
    ]


def test(
    checkpoint: Path,
    space: SearchSpace | None,
    architecture: Architecture,
    source: ImageSource,
    evaluation: Evaluation,
) -> Accuracy:
    """Accuracy of a subnet of a supernet, extracted as the plain module that a user would deploy."""
    from tqdm.auto import tqdm

    from ..checkpoints import load_supernet

    supernet, header = load_supernet(checkpoint, space)
    subnet = supernet.extract(architecture)
    evaluator = evaluation.evaluator(header, source, "decode test images")
    with tqdm(total=len(source), desc="test", unit="image") as bar:
        return evaluator.evaluate(subnet, bar.update)

"""``nni-autoformer test``: accuracy of one subnet, with inherited weights, on the test images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..complexity import macs, params
from ..errors import ConfigError
from ..space import Architecture, SearchSpace
from . import options
from .evaluation import Evaluation
from .summary import table

if TYPE_CHECKING:
    from ..checkpoints import Header
    from ..data import ImageSource
    from ..nn.subnet import Subnet
    from ..search.evaluator import Accuracy


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("test", help="test one subnet of a supernet", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--space", help="name of a packaged space, or a YAML file (default: the checkpoint's)"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="FILE",
        help="a supernet or a subnet: ours, a published one, or one of NNI's hub",
    )
    parser.add_argument(
        "--architecture",
        metavar="FILE|NAME",
        help="which subnet of a supernet: a YAML file (a search writes best.yaml), or smallest, middle, "
        "largest, or a name in the space's file, as published",
    )
    options.add_data(parser)
    options.add_evaluation(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..checkpoints import read_header

    evaluation = Evaluation.of(arguments)
    expected = None if arguments.space is None else SearchSpace.load(arguments.space)
    header = read_header(arguments.checkpoint, expected)
    architecture = architecture_of(arguments.architecture, arguments.checkpoint, header, expected)
    splits = options.open_splits(arguments, header.space, test_only=True)
    options.require_classes(splits.test.classes, header, arguments.checkpoint)
    accuracy = test(arguments.checkpoint, expected, architecture, splits.test, evaluation)
    print()
    print(table(test_rows(architecture, header.space, accuracy)), end="")


def architecture_of(
    name: str | None, checkpoint: Path, header: Header, expected: SearchSpace | None
) -> Architecture:
    """Which subnet a command is about.

    Args:
        name: a file or a name; needed for a supernet, and not for the file of a single subnet.
        checkpoint: the file, for messages.
        header: what it is.
        expected: the space that the user gave, if any.

    Raises:
        ConfigError: the name is missing, or is of no subnet of the space.
    """
    if header.kind.endswith("subnet"):
        architecture = header.space.architectures["subnet"]
        if name is not None and header.space.architecture(name) != architecture:
            raise ConfigError(
                f"{checkpoint}: the file holds one subnet, and it is not --architecture {name}."
            )
        return architecture
    if name is None:
        raise ConfigError(f"{checkpoint}: the file holds a supernet: say which subnet with --architecture.")
    return (expected or header.space).architecture(name)


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
    """Accuracy of a subnet, as the plain module that a user would deploy."""
    from tqdm.auto import tqdm

    subnet, header = subnet_of(checkpoint, space, architecture)
    evaluator = evaluation.evaluator(header, source, "decode test images")
    with tqdm(total=len(source), desc="test", unit="image") as bar:
        return evaluator.evaluate(subnet, bar.update)


def subnet_of(
    checkpoint: Path, space: SearchSpace | None, architecture: Architecture
) -> tuple[Subnet, Header]:
    """The subnet of a file: extracted from a supernet, or the file's own.

    Raises:
        ConfigError: the file cannot be loaded, or is of another space.
    """
    from ..checkpoints import load_subnet, load_supernet, read_header

    if read_header(checkpoint, space).kind.endswith("subnet"):
        return load_subnet(checkpoint)
    supernet, header = load_supernet(checkpoint, space)
    return supernet.eval().extract(architecture), header

"""``nni-autoformer test``: accuracy of one subnet, with inherited weights, on the test images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..complexity import macs, params
from ..errors import ConfigError
from ..experiment import current_trial
from ..report.summary import table
from ..space import Architecture, SearchSpace
from . import options
from .evaluation import Evaluation, images_of

if TYPE_CHECKING:
    from ..checkpoints.header import Header
    from ..search.images import EvaluationImages

SPLITS = ("test", "selection")


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("test", help="test one subnet of a supernet", description=__doc__)
    parser.set_defaults(run=run)
    options.add_checkpoint(parser)
    parser.add_argument(
        "--architecture",
        metavar="FILE|NAME",
        help="which subnet of a supernet: a YAML file (a search writes best.yaml), or smallest, middle, "
        "largest, or a name in the space's file, as published",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default=SPLITS[0],
        help="'test' (the default), or 'selection': the images that a search compares subnets on",
    )
    options.add_data(parser)
    options.add_images(parser)
    options.add_evaluation(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command; as an NNI trial, report the accuracy while it grows and at the end."""
    from ..checkpoints import read_header, require_space

    evaluation = Evaluation.of(arguments)
    if arguments.selection is not None and arguments.split == "test":
        raise ConfigError("--selection needs --split selection; a test is on all of the test images.")
    trial = current_trial()
    memory = arguments.split == "test" and trial is None  # looked at once, so not worth the room on the disk
    images = images_of(arguments, arguments.split, store="none" if memory else None)
    expected = None if arguments.space is None else SearchSpace.load(arguments.space)
    header = read_header(arguments.checkpoint, expected)
    require_space(arguments.checkpoint, header, expected)
    architecture = wanted_architecture(arguments, header, expected)
    report = None if trial is None else trial.report_intermediate
    metric = test(images, architecture, evaluation, expected, report)
    if trial is not None:
        trial.report_final(metric)
    print()
    print(table(test_rows(architecture, header.space, metric, arguments.split)), end="")


def wanted_architecture(
    arguments: argparse.Namespace, header: Header, expected: SearchSpace | None
) -> Architecture:
    """Which subnet of --checkpoint a command is about: an NNI trial's, or else that of --architecture.

    Args:
        arguments: the command's.
        header: of the checkpoint.
        expected: the space that the user gave, if any.

    Raises:
        ConfigError: as `architecture_of`.
    """
    sample = getattr(arguments, "sample", None)
    if sample is None:
        return architecture_of(arguments.architecture, arguments.checkpoint, header, expected)
    return header.space.require(Architecture.from_sample(sample), "the NNI trial's architecture")


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


def test_rows(
    architecture: Architecture, space: SearchSpace, metric: dict[str, Any], split: str
) -> list[tuple[str, str]]:
    """What a test found."""
    return [
        ("architecture", str(architecture)),
        ("parameters", f"{params(architecture, space.model):,}"),
        ("MACs", f"{macs(architecture, space.model) / 1e6:,.2f} M"),
        (f"{split} images", f"{metric['images']:,}"),
        ("top-1", f"{metric['top1']:.2f} %"),
        ("top-5", f"{metric['top5']:.2f} %"),
    ]


def test(
    images: EvaluationImages,
    architecture: Architecture,
    evaluation: Evaluation,
    space: SearchSpace | None = None,
    on_progress: Callable[[float], Any] | None = None,
) -> dict[str, Any]:
    """Accuracy of a subnet, as the plain module that a user would deploy; see `evaluate_subnet`."""
    from ..search.subnet_trial import evaluate_subnet

    return evaluate_subnet(
        images,
        architecture,
        space=space,
        batch_size=evaluation.batch_size,
        device=evaluation.device,
        precision=evaluation.precision,
        on_progress=on_progress,
        progress=current_trial() is None,
    )

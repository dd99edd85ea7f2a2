"""Flags that several commands share, and the objects that they stand for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..complexity import COSTS
from ..data.catalogue import NAMES
from ..errors import ConfigError
from ..experiment import current_trial
from ..space import SearchSpace

if TYPE_CHECKING:
    from ..data import BadImages, DataSplits
    from ..search.batch_size import BatchSize
    from ..search.limits import Limits


def add_space(parser: argparse.ArgumentParser) -> None:
    """Which search space."""
    parser.add_argument("--space", required=True, help="name of a packaged search space, or a YAML file")


def add_checkpoint(parser: argparse.ArgumentParser, what: str = "a supernet or a subnet") -> None:
    """Which weights, and the search space of a file that does not name its own."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"{what}: ours, a published one, or one of NNI's hub",
    )
    parser.add_argument(
        "--space", help="name of a packaged space, or a YAML file (default: the checkpoint's)"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where the images are."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        default="folder",
        metavar="NAME",
        help="'folder': DIR/train/CLASS/… and DIR/val/CLASS/… or DIR/test/CLASS/… (the default); "
        f"{', '.join(NAMES[1:-1])} through torchvision; hfds/NAME of the Hugging Face Hub; wds/NAME for "
        "WebDataset shards; 'digits': scikit-learn's scanned digits, which need no --data",
    )
    group.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the images; for hfds/NAME of Hugging Face's cache"
    )
    group.add_argument(
        "--download", action="store_true", help="let torchvision or Hugging Face fetch what is missing"
    )
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that load images; 0 loads in this one (default: one per core for each process that "
        "trains, at most 8, and 0 for fewer than 2,000 images); results do not depend on it",
    )


def add_loading(parser: argparse.ArgumentParser) -> None:
    """How images are loaded for training; results depend on the last flag alone."""
    group = parser.add_argument_group("loading")
    group.add_argument(
        "--pin-memory",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="load into memory that a GPU copies from faster (default: if there is a GPU)",
    )
    group.add_argument(
        "--persistent-workers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep the loading processes from one epoch to the next (the default)",
    )
    group.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="leave out images that cannot be read, name and count them; without it the first one ends the "
        "run. In training a drawn image takes a bad one's place; validation and selection images are all "
        "read once more to find the bad ones",
    )


def workers_of(arguments: argparse.Namespace) -> int | None:
    """How many processes load images; None for the default, see `data.default_workers`.

    Raises:
        ConfigError: the number is below 0.
    """
    if arguments.workers is not None and arguments.workers < 0:
        raise ConfigError(f"--workers is {arguments.workers}; it should be at least 0.")
    return arguments.workers


def loading_of(arguments: argparse.Namespace, images: int) -> dict[str, Any]:
    """What `data.train_loader` is told by the flags.

    Args:
        arguments: the command's, with the flags of `add_data` and `add_loading`.
        images: how many there are, for the default number of workers.

    Raises:
        ConfigError: the number of workers is below 0.
    """
    from ..data import BadImages, default_workers

    workers = workers_of(arguments)
    return {
        "workers": default_workers(images) if workers is None else workers,
        "pin_memory": arguments.pin_memory,
        "persistent_workers": arguments.persistent_workers,
        "bad_images": BadImages() if arguments.skip_bad_images else None,
    }


def report_bad_images(bad_images: BadImages | None) -> None:
    """Say on standard error what was left out, if anything."""
    if bad_images is not None and (report := bad_images.report()):
        print(report, file=sys.stderr)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where to compute."""
    parser.add_argument(
        "--device", default="auto", help="auto (default: the GPU if there is one), cpu, cuda, cuda:1, …"
    )


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Where, how exactly and in what portions images are evaluated."""
    add_device(parser)
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="fp32 (default), or automatic mixed precision",
    )
    parser.add_argument(
        "--batch-size",
        type=_batch_size,
        default="auto",
        metavar="N|auto",
        help="images per forward pass (default auto: what suits network and device, and fits)",
    )


def _batch_size(text: str) -> BatchSize:
    try:
        return "auto" if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither a whole number nor 'auto'") from None


def add_images(parser: argparse.ArgumentParser) -> None:
    """Which images are evaluated, and where they are kept decoded."""
    parser.add_argument(
        "--selection",
        metavar="N-per-class|FILE",
        help="training images to select by (default: the list beside the checkpoint, which its training "
        "held out)",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR|none",
        help="where decoded images are kept for other processes and later runs (by default "
        "~/.cache/nni_autoformer; the test images of a single test: by default none, they stay in memory)",
    )


def add_output(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Where the run goes."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output",
        type=Path,
        default=default,
        required=default is None,
        metavar="DIR",
        help="folder of the run" + (f" (default {default})" if default else ""),
    )
    group.add_argument("--resume", action="store_true", help="go on with the unfinished run in --output")
    group.add_argument("--overwrite", action="store_true", help="delete the run in --output and start anew")


def output_of(arguments: argparse.Namespace) -> Path:
    """Where the run goes: --output, or as an NNI trial a folder of the trial's own in it."""
    trial = current_trial()
    return arguments.output if trial is None else arguments.output / trial.id


def add_limits(parser: argparse.ArgumentParser) -> None:
    """What a subnet may cost."""
    group = parser.add_argument_group("limits (inclusive)")
    for name, cost in COSTS.items():
        for side, word in (("min", "fewest"), ("max", "most")):
            group.add_argument(f"--{side}-{name}", type=float, metavar=cost.unit, help=f"{word} {cost.help}")


def limits_of(arguments: argparse.Namespace) -> Limits:
    """The limits that were given."""
    from ..search.limits import LIMITS, Limits

    return Limits(**{name: getattr(arguments, name) for name in LIMITS})


def open_splits(arguments: argparse.Namespace, space: SearchSpace, test_only: bool = False) -> DataSplits:
    """The images that the flags name, in the channels that the space wants.

    Args:
        arguments: the command's.
        space: gives the number of channels.
        test_only: leave a folder's training images unread; the test images stand in their place.

    Raises:
        ConfigError: they are not there, or not as they should be.
    """
    from ..data import open_data

    return open_data(arguments.dataset, arguments.data, space.model.in_chans, arguments.download, test_only)

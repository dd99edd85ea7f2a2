"""``nni-autoformer data``: ImageNet's folders put in order, the selection set, and a look for bad images."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..data.data_set import DataSet
from ..errors import ConfigError
from ..report.summary import table
from . import flags
from .screen import say_next


def add_parser(commands: Any) -> None:
    """Add the command's own commands."""
    parser = commands.add_parser("data", help="prepare and check images", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    _add_imagenet(jobs)
    _add_subset(jobs)
    text = "decode every image once, say what they are, and name those that cannot be read"
    check = jobs.add_parser("check", help=text, description=f"{text}; exit status 2 if there are any.")
    check.set_defaults(run=run_check)
    flags.add_settings(check, DataSet)


def _add_imagenet(jobs: Any) -> None:
    parser = jobs.add_parser(
        "imagenet",
        help="check ImageNet's folders, sort a flat val/, count",
        description="Check train/WNID/… and val/ of ImageNet-1k, sort a flat val/ into class folders by "
        "renaming, and count. Running it again does no harm.",
    )
    parser.set_defaults(run=run_imagenet)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="holds train/ and val/")
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="PATH",
        help="what says the classes of the validation images: ILSVRC2012_devkit_t12.tar.gz or the folder in "
        "it, torchvision's meta.bin, Kaggle's LOC_val_solution.csv, or Caffe's val.txt (default: the first "
        "of these in DIR)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be moved, and move nothing")
    parser.add_argument("--counts", action="store_true", help="print the number of images of every class")


def _add_subset(jobs: Any) -> None:
    parser = jobs.add_parser(
        "subset",
        help="draw the selection set",
        description="Draw the images that a search compares subnets on, the same number from every class of "
        "the training images. By default a list is written, for train --selection FILE, which holds the "
        "images out of training, and search --selection FILE. It is the list that train --selection "
        "N-per-class draws with the same seed.",
    )
    parser.set_defaults(run=run_subset)
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the images, as train's --data")
    parser.add_argument(
        "--dataset", default="folder", metavar="NAME", help="as train's --dataset (default folder)"
    )
    parser.add_argument(
        "--per-class", type=int, default=100, metavar="N", help="images of each class (default 100)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument(
        "--published",
        action="store_true",
        help="the paper's way, for training images that are also trained on: besides the list a folder of "
        "links CLASS/IMAGE, for the published code; here train with --selection none and search with "
        "--selection FILE. It flatters large subnets",
    )
    parser.add_argument("--copy", action="store_true", help="with --published: copies in place of links")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="the list (default DIR/selection.txt); with --published the folder (default DIR/subImageNet), "
        "which the list lies beside, with .txt at its name's end",
    )


@contextmanager
def _reading(root: Path | None) -> Iterator[None]:
    """Make a sentence of what keeps a folder from being read, as its rights or the length of its name."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"--root {root}: {error.filename or root} cannot be read ({error.strerror})."
        ) from None


def run_imagenet(arguments: argparse.Namespace) -> None:
    """Run ``data imagenet``."""
    with _reading(arguments.root):
        _imagenet(arguments)


def _imagenet(arguments: argparse.Namespace) -> None:
    from ..data import imagenet

    root = arguments.root
    if not root.is_dir():
        raise ConfigError(f"--root {root}: there is no such folder.")
    splits = [split for split in imagenet.IMAGES if (root / split).is_dir()]
    if not splits:
        raise ConfigError(
            f"--root {root}: it holds neither train/ nor val/; ILSVRC2012_img_train.tar and "
            "ILSVRC2012_img_val.tar are unpacked there."
        )
    found = {"train": imagenet.counts(root / "train")} if "train" in splits else {}
    if "val" in splits:
        planned = _sort_val(root, sorted(found.get("train", ())), arguments.truth, arguments.dry_run)
        found["val"] = imagenet.counts(root / "val")
        if arguments.dry_run:  # as they would be
            found["val"].update(goal.parent.name for _, goal in planned)
    for split in imagenet.IMAGES:
        if split not in splits:
            print(f"{split}/ is missing.")
    print(table(_count_rows(found)), end="")
    if flat := "train" in splits and imagenet.flat_images(root / "train"):
        print(f"train/ has {len(flat):,} images outside of the class folders, as {flat[0]}.")
    for sentence in imagenet.complaints(found):
        print(sentence)
    if arguments.counts:
        names = sorted(set().union(*found.values()))
        print(
            table(
                [(name, "  ".join(f"{split} {found[split][name]:,}" for split in splits)) for name in names]
            )
        )
    if "val" not in splits:  # without train/ a checkpoint can be tested; without val/ nothing can be done
        raise ConfigError(f"--root {root}: val/ is missing; ILSVRC2012_img_val.tar is unpacked there.")


def _sort_val(
    root: Path, train_classes: list[str], truth: Path | None, dry_run: bool
) -> list[tuple[Path, Path]]:
    from ..data import imagenet

    flat = imagenet.flat_images(root / "val")
    truth = truth or imagenet.find_truth(root)
    if truth is None:
        if flat:
            raise ConfigError(
                f"--root {root}: {len(flat):,} images lie flat in val/, and nothing says their classes: none "
                f"of {', '.join(imagenet.TRUTH_FILES)} is there; --truth names one that is elsewhere."
            )
        return []
    classes = imagenet.validation_classes(truth, train_classes)
    moves = imagenet.plan_moves(root / "val", classes)
    if not dry_run:
        moves.make()
    if moves.planned:
        start, goal = moves.planned[0]
        word = "would be" if dry_run else "were"
        print(
            f"{len(moves.planned):,} images of val/ {word} moved into class folders by {truth}, as "
            f"{start.name} to {goal.parent.name}/."
        )
    for names, text in (
        (moves.unknown, f"are not in {truth} and stay"),
        (moves.taken, "stay, because their class folder has a file of the same name"),
        (imagenet.misplaced(root / "val", classes), f"lie in another class's folder than {truth} says"),
    ):
        if names:
            print(f"{len(names):,} images of val/ {text}, as {names[0]}.")
    return moves.planned


def _count_rows(found: Mapping[str, Counter[str]]) -> list[tuple[str, str]]:
    rows = []
    for split, classes in found.items():
        span = f"{min(classes.values()):,} to {max(classes.values()):,} per class" if classes else "none"
        rows.append((f"{split}/", f"{classes.total():,} images, {len(classes):,} classes, {span}"))
    return rows


def run_subset(arguments: argparse.Namespace) -> None:
    """Run ``data subset``."""
    with _reading(arguments.root):
        _subset(arguments)


def _subset(arguments: argparse.Namespace) -> None:
    from ..data import draw_selection, open_data, write_selection
    from ..data.subset import LIST_FILE, write_subset

    root, published = arguments.root, arguments.published
    if arguments.per_class < 1:
        raise ConfigError(f"--per-class is {arguments.per_class}; it should be at least 1.")
    if arguments.copy and not published:
        raise ConfigError("--copy needs --published; by default the subset is a list, without copies.")
    if published and arguments.dataset != "folder":
        raise ConfigError(
            f"--published makes links to image files; --dataset {arguments.dataset} has a list only."
        )
    if root is None and arguments.output is None:
        raise ConfigError("--output is missing: without --root there is no folder for the list.")
    if arguments.dataset == "folder" and root is not None:
        from ..data.folders import split_source

        if not (root / "train").is_dir():
            raise ConfigError(f"--root {root}: the folder train/ with a folder per class is missing.")
        source = split_source(root, "train")
    else:
        source = open_data(arguments.dataset, root).train
    chosen = source.subset(draw_selection(source, arguments.per_class, arguments.seed))
    listing = arguments.output or root / ("subImageNet" if published else LIST_FILE)
    if published:
        folder, listing = listing, listing.with_name(listing.name + ".txt")
    known = _is_own(listing, chosen.identifiers)
    try:
        write_selection(listing, chosen.identifiers)
    except OSError as error:
        raise ConfigError(
            f"{listing}: the list cannot be written ({error.strerror}); give --output."
        ) from None
    size = f"{len(chosen):,} images, {arguments.per_class} of each of {len(source.classes):,} classes"
    print(f"{listing} lists {size}.")
    if published:
        if not (known and folder.is_dir()):  # the list comes first: with it the folder is known for ours
            write_subset(chosen, root, folder, arguments.copy)
        print(f"{folder} holds them. Train with --selection none, search with --selection {listing}.")
    else:
        where = {"dataset": None if arguments.dataset == "folder" else arguments.dataset, "data": root}
        say_next("train", {"space": "SPACE", **where, "selection": listing, "output": "runs/train"})


def _is_own(listing: Path, names: list[str]) -> bool:
    """Whether the list is there already; only the same one may be."""
    from ..files import open_regular

    try:
        with open_regular(listing) as file:
            text = file.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        if not listing.is_symlink():
            return False
        raise ConfigError(f"--output {listing} is a link that leads nowhere; give another.") from None
    except OSError as error:
        raise ConfigError(f"--output {listing}: the list cannot be there ({error}); give another.") from None
    if text.split("\n")[:-1] != names:
        raise ConfigError(f"{listing} lists other images already; give another --output, or delete it.")
    return True


def run_check(arguments: argparse.Namespace) -> None:
    """Run ``data check``."""
    from ..data import BadImages, default_workers
    from ..data.survey import left_out_in_words, survey_of

    data = flags.configured(DataSet, arguments)
    workers, splits = data.workers, data.open()
    bad, total = BadImages(), 0
    for word, source, name in zip(("training", "test"), (splits.train, splits.test), splits.names):
        count = default_workers(len(source)) if workers is None else workers
        found = survey_of(source, bad, count, f"read {word} images")
        size = f"{len(source):,} {word} images, {len(source.classes):,} classes"
        print(table([(name, size), ("left out", left_out_in_words(source.left_out)), *found.rows()]))
        total += len(source)
    if splits.unused:
        print(f"Not used: {', '.join(splits.unused)}.")
    if names := bad.names:
        raise ConfigError(
            f"{len(names):,} of {total:,} images cannot be read; delete or mend them, or train with "
            "--skip-bad-images."
        )
    print(f"All {total:,} images can be read.")

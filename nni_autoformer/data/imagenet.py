"""ImageNet-1k on disk: which class each validation image is of, sorting them, and counts.

The official archive of validation images is flat. Their classes stand in files that come with the data in
several forms; see `validation_classes`.
"""

from __future__ import annotations

import csv
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError
from ..files import open_regular, read_text
from .disk import class_folders, folders_above, images_below, is_hidden

IMAGES = {"train": 1_281_167, "val": 50_000}
"""Of ImageNet-1k."""

CLASSES = 1000
VAL_PER_CLASS = 50

DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH_FILES = (f"{DEVKIT}.tar.gz", DEVKIT, "devkit", "meta.bin", "LOC_val_solution.csv", "val.txt")
"""Where the classes of the validation images are looked for, below the root."""

_WNID = re.compile(r"n[0-9]{8}")
_EXTENSIONS = (".jpeg", ".jpg", ".png")


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(_EXTENSIONS) and not is_hidden(name)


def find_truth(root: Path) -> Path | None:
    """The first of `TRUTH_FILES` in a folder; for Kaggle's `ILSVRC/Data/CLS-LOC` also beside `ILSVRC`."""
    places = [root]
    if root.resolve().parts[-2:] == ("Data", "CLS-LOC"):
        places.append(root.resolve().parents[2])
    return next((place / name for place in places for name in TRUTH_FILES if (place / name).exists()), None)


def validation_classes(truth: Path, train_classes: Sequence[str]) -> dict[str, str]:
    """The class folder of each validation image, by the image's name without its extension.

    Args:
        truth: the devkit's archive, which torchvision reads; the devkit unpacked; torchvision's `meta.bin`;
            Kaggle's `LOC_val_solution.csv`; or lines of an image's name and its class, as a WordNet id or as
            a number among the sorted WordNet ids (Caffe's `val.txt`).
        train_classes: the folders of train/, which numbers stand for.

    Raises:
        ConfigError: the file is missing, damaged or something else, or names a class that is no WordNet id.
    """
    try:
        if truth.exists() and not (truth.is_dir() or truth.is_file()):
            raise ValueError("it is no regular file")
        if truth.is_dir():
            return _in_order(_unpacked_devkit(truth))
        if truth.name.endswith((".tar.gz", ".tgz", ".tar")):
            return _in_order(_archive(truth))
        if truth.suffix == ".bin":
            return _in_order(_meta_file(truth))
        if truth.suffix == ".csv":
            return _solution(truth)
        return _lines(truth, sorted(filter(_WNID.fullmatch, train_classes)))
    except FileNotFoundError as error:
        raise ConfigError(f"{truth}: {error.filename or truth} is missing.") from None
    except ConfigError:
        raise
    except Exception as error:  # whatever damaged files make tarfile, scipy and torch say
        raise ConfigError(
            f"{truth}: the classes of the validation images cannot be read from it ({_first_line(error)})."
        ) from None


def _first_line(error: Exception) -> str:
    text = str(error) if isinstance(error, (ValueError, RuntimeError)) else repr(error)
    return text.strip().split("\n")[0][:200]


def _in_order(wnids: Iterable[str]) -> dict[str, str]:
    return {f"ILSVRC2012_val_{number:08d}": _wnid(wnid) for number, wnid in enumerate(wnids, 1)}


def _archive(path: Path) -> list[str]:
    from torchvision.datasets.imagenet import load_meta_file, parse_devkit_archive

    with tempfile.TemporaryDirectory() as folder:  # torchvision leaves its meta.bin there
        parse_devkit_archive(folder, str(path.resolve()))
        return load_meta_file(folder)[1]


def _meta_file(path: Path) -> list[str]:
    from torchvision.datasets.imagenet import load_meta_file

    return load_meta_file(path.parent, path.name)[1]


def _unpacked_devkit(folder: Path) -> list[str]:
    from scipy.io import loadmat

    data = folder / "data"
    with open_regular(data / "meta.mat") as file:
        synsets = loadmat(file, squeeze_me=True)["synsets"]
    wnids = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
    numbers = read_text(data / "ILSVRC2012_validation_ground_truth.txt", "ascii").split()
    return [wnids[int(number)] for number in numbers]


def _solution(path: Path) -> dict[str, str]:
    with open(path, newline="", encoding="utf-8") as file:
        return {row["ImageId"]: _wnid(row["PredictionString"].split()[0]) for row in csv.DictReader(file)}


def _lines(path: Path, classes: list[str]) -> dict[str, str]:
    pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError("each line should hold an image's name and its class")
    numbers = [int(word) for _, word in pairs if word.isdigit()]
    if numbers and max(numbers) >= CLASSES:
        raise ValueError(
            f"it numbers the images, up to {max(numbers)}, and does not say their classes; Kaggle's are in "
            "LOC_val_solution.csv"
        )
    if numbers and max(numbers) + 1 != len(classes):
        raise ValueError(
            f"it numbers the classes from 0 to {max(numbers)}, and train/, which would say their names, has "
            f"{len(classes)}"
        )
    return {Path(name).stem: classes[int(word)] if word.isdigit() else _wnid(word) for name, word in pairs}


def _wnid(word: str) -> str:
    """The word, which becomes a folder's name."""
    if not isinstance(word, str) or not _WNID.fullmatch(word):
        raise ValueError(f"'{str(word)[:100]}' is no WordNet id, which would be as n01440764")
    return word


@dataclass
class Moves:
    """What sorting the validation folder comes to.

    Attributes:
        planned: old and new place of each image that lies flat.
        unknown: flat images whose class is not known.
        taken: flat images whose place in the class folder is taken by another file.
    """

    planned: list[tuple[Path, Path]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def make(self) -> None:
        """Move, each image by one rename: stopped half-way, the next run finds the others still flat.

        Raises:
            ConfigError: the folder cannot be written.
        """
        try:
            for start, goal in self.planned:
                goal.parent.mkdir(exist_ok=True)
                os.rename(start, goal)
        except OSError as error:
            raise ConfigError(
                f"{error.filename}: the image cannot be moved ({error.strerror}); once that is put right, "
                "the same command goes on."
            ) from None


def flat_images(folder: Path) -> list[str]:
    """Names of the images that lie in a folder itself, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if is_image(entry.name) and entry.is_file())


def plan_moves(val: Path, classes: Mapping[str, str]) -> Moves:
    """Where the flat images of the validation folder belong.

    Args:
        val: the folder.
        classes: what `validation_classes` gives.

    Raises:
        ConfigError: a class folder is a link, through which images would leave the folder.
    """
    moves = Moves()
    for name in flat_images(val):
        wnid = classes.get(Path(name).stem)
        if wnid is not None and (val / wnid).is_symlink():
            raise ConfigError(f"{val / wnid} is a link; the images of the class are not moved through it.")
        if wnid is None:
            moves.unknown.append(name)
        elif os.path.lexists(val / wnid / name):
            moves.taken.append(name)
        else:
            moves.planned.append((val / name, val / wnid / name))
    return moves


def counts(split: Path) -> Counter[str]:
    """How many images each class folder holds; folders in it count, too."""
    found, others = Counter[str](), Counter[str]()
    above = frozenset(folders_above(str(split)))
    for name in class_folders(str(split), others):
        found[name] = sum(map(is_image, images_below(str(split), name, others, above)))
    return found


def misplaced(val: Path, classes: Mapping[str, str]) -> list[str]:
    """Sorted validation images that lie in another class's folder, as FOLDER/NAME."""
    return [
        f"{folder}/{name}"
        for folder in class_folders(str(val), Counter())
        for name in flat_images(val / folder)
        if classes.get(Path(name).stem, folder) != folder
    ]


def complaints(found: Mapping[str, Counter[str]]) -> list[str]:
    """What is not as in ImageNet-1k, as sentences.

    Args:
        found: number of images of each class, for 'train' and 'val'.
    """
    sentences = []
    for split, classes in found.items():
        if odd := [name for name in classes if not _WNID.fullmatch(name)]:
            sentences.append(f"{split}/ has folders that are no WordNet id: {_some(odd)}.")
        if empty := [name for name, count in classes.items() if not count]:
            sentences.append(f"{split}/ has classes without an image: {_some(empty)}.")
        if len(classes) != CLASSES:
            sentences.append(f"{split}/ has {len(classes):,} classes; ImageNet-1k has {CLASSES:,}.")
        if (total := classes.total()) != IMAGES[split]:
            off = f"{abs(IMAGES[split] - total):,} {'missing' if total < IMAGES[split] else 'too many'}"
            sentences.append(f"{split}/ has {total:,} images; ImageNet-1k has {IMAGES[split]:,} ({off}).")
    val = found.get("val", Counter())
    if odd := [f"{name} ({count})" for name, count in sorted(val.items()) if count != VAL_PER_CLASS]:
        sentences.append(
            f"val/ has classes with another number of images than {VAL_PER_CLASS}: {_some(odd)}."
        )
    if len(found) == 2:
        for here, there in (("train", "val"), ("val", "train")):
            if only := sorted(set(found[here]) - set(found[there])):
                sentences.append(f"classes that only {here}/ has: {_some(only)}.")
    return sentences


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")

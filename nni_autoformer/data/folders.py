"""A folder of images: a folder per split, in it one per class, as torchvision's `ImageFolder` reads it."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from .source import DataSplits, ImageSource, file_source, statistics


def open_folder(root: Path, mode: str, test_only: bool = False) -> DataSplits:
    """`root/train/CLASS/…` and `root/val/CLASS/…`, or `root/test/CLASS/…` where there is no val/.

    Raises:
        ConfigError: a folder is missing, holds no class or an empty one, or the splits' classes differ.
    """
    if not root.is_dir():
        raise ConfigError(f"--data {root}: there is no such folder.")
    if not test_only and not (root / "train").is_dir():
        raise ConfigError(f"--data {root}: the folder train/ with a folder per class is missing.")
    held = [name for name in ("val", "test") if (root / name).is_dir()]
    if not held:
        raise ConfigError(f"--data {root}: a folder val/ or test/ with a folder per class is missing.")
    train, test = (split_source(root, name, mode) for name in (held[0] if test_only else "train", held[0]))
    if train.classes != test.classes:
        here, there = set(train.classes) - set(test.classes), set(test.classes) - set(train.classes)
        parts = [
            f"only in {name}/: {', '.join(sorted(only)[:3])}{' …' if len(only) > 3 else ''}"
            for name, only in (("train", here), (held[0], there))
            if only
        ]
        raise ConfigError(
            f"--data {root}: train/ and {held[0]}/ hold different classes ({'; '.join(parts)})."
        )
    return DataSplits(train, test, *statistics(mode))


def split_source(root: Path, name: str, mode: str = "RGB") -> ImageSource:
    """The images of one split, in torchvision's order: nested folders and links are followed.

    Raises:
        ConfigError: there is no class folder, or one without an image.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    try:
        classes, numbers = find_classes(str(root / name))
        samples = make_dataset(str(root / name), numbers, extensions=IMG_EXTENSIONS)
    except FileNotFoundError as error:
        if not any(entry.is_dir() for entry in (root / name).iterdir()):
            raise ConfigError(f"--data {root}: {name}/ holds no class folders.") from None
        empty = [label for label in classes if not _has_image(root / name / label, IMG_EXTENSIONS)]
        raise ConfigError(
            f"--data {root}: {name}/ has classes without an image: {', '.join(empty[:3])} "
            f"({error.args[0][:60]}…)."
        ) from None
    return file_source(root, samples, classes, mode)


def _has_image(folder: Path, extensions: tuple[str, ...]) -> bool:
    return any(path.name.lower().endswith(extensions) for path in folder.rglob("*"))

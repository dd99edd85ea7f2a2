"""The YAML files that come with the package: search spaces and recipes."""

from __future__ import annotations

from pathlib import Path

from .errors import ConfigError


def packaged_names(folder: str) -> list[str]:
    """The names of the files in a folder, 'search_spaces' or 'recipes'."""
    return sorted(path.stem for path in _place(folder).glob("*.yaml"))


def packaged_or_own(name_or_path: str | Path, folder: str, flag: str, kind: str) -> Path:
    """The file that a user names: one of ours by its name, or any YAML file by its path.

    Args:
        name_or_path: what the user wrote.
        folder: of the packaged files.
        flag: where it was written, for the error message.
        kind: what it is, for the error message.

    Raises:
        ConfigError: it is neither.
    """
    text, path = str(name_or_path), Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    names = packaged_names(folder)
    if text not in names:
        raise ConfigError(
            f"{flag} {text}: there is no packaged {kind} of this name (there are {', '.join(names)}) and no "
            "such file."
        )
    return _place(folder) / f"{text}.yaml"


def _place(folder: str) -> Path:
    installed = Path(__file__).with_name(folder)
    return installed if installed.is_dir() else Path(__file__).parents[1] / folder

"""Files that are read strictly and written atomically: YAML without duplicate keys, outputs by rename; and
the YAML files that come with the package.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from .errors import ConfigError


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; a configuration must not lose one silently.

    It also reads on, ever more slowly, where values are nested without end.
    """

    depth = values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML's, within bounds."""
        self.depth, self.values = self.depth + 1, self.values + 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"values are nested more than {DEEPEST} deep")
        if self.values > MOST_VALUES:
            raise yaml.YAMLError(f"the file has more than {MOST_VALUES:,} values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _mapping_without_duplicates(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict:
    loader.flatten_mapping(node)
    mapping: dict = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        try:
            duplicate = key in mapping
        except TypeError:
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a plain word", key_node.start_mark
            ) from None
        if duplicate:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key}'", key_node.start_mark)
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


def _bounded_integer(loader: _UniqueKeyLoader, node: yaml.ScalarNode) -> int:
    value = loader.construct_yaml_int(node)
    if value.bit_length() > MOST_BITS:  # hexadecimal ones have no limit, and Python refuses to print them
        raise yaml.constructor.ConstructorError(None, None, "a number is far too large", node.start_mark)
    return value


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _bounded_integer)
_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


MOST_BYTES, MOST_VALUES, DEEPEST, MOST_BITS = 1 << 18, 100_000, 50, 1024
"""What a configuration file may hold, its aliases written out: a few lines of YAML can stand for billions of
values.
"""


def _bounded(node: yaml.Node | None, depth: int = 0, known: dict[int, int] | None = None) -> int:
    """The number of values of a YAML node with its aliases written out.

    Raises:
        yaml.YAMLError: there are too many, or they are nested too deeply.
    """
    known = {} if known is None else known
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if depth > DEEPEST:
        raise yaml.YAMLError(f"values are nested more than {DEEPEST} deep")
    if id(node) not in known:
        pairs = isinstance(node, yaml.MappingNode)
        children = [entry for pair in node.value for entry in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_bounded(child, depth + 1, known) for child in children)
    if known[id(node)] > MOST_VALUES:
        raise yaml.YAMLError(f"the file stands for more than {MOST_VALUES:,} values")
    return known[id(node)]


def _loaded(text: str) -> Any:
    loader = _UniqueKeyLoader(text)
    try:
        node = loader.get_single_node()
        _bounded(node)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading without ever waiting for it, as a pipe would have one wait.

    Raises:
        OSError: it is missing, or no regular file.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{os.fspath(path)} is no regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_text(path: str | Path, encoding: str = "utf-8", most: int = -1) -> str:
    """The text of a regular file.

    Args:
        path: the file.
        encoding: encoding of the text.
        most: characters after which no more are read.

    Raises:
        OSError: the file is missing, or no regular file.
        UnicodeDecodeError: it is no text.
    """
    with open_regular(path) as file:
        return io.TextIOWrapper(file, encoding=encoding).read(most)


def real_path(path: str | Path) -> Path:
    """The whole path without links; unlike `Path.resolve` also of links that lead to themselves."""
    return Path(os.path.realpath(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        ConfigError: the file is missing, too large, no YAML, has a duplicate key, or holds something else
            than a mapping.
    """
    path = Path(path)
    try:
        text = read_text(path, most=MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ConfigError(f"{path}: the file has more than {MOST_BYTES:,} characters; is it YAML?")
        content = _loaded(text)
    except ConfigError:
        raise
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the file cannot be read as text ({error}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{path}{where}: this is not valid YAML: {problem}.") from None
    except Exception as error:  # whatever a tag on a wrong value makes PyYAML say
        raise ConfigError(f"{path}: this is not valid YAML: {type(error).__name__}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: the file should hold keys with values, but holds {_kind(content)}.")
    return content


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what was written there takes the place of `path` at the end.

    The content reaches the disk before the rename, so a crash at any moment leaves the old file or the new
    one, never a part. After an exception the temporary file is removed and `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors writes for the user alone, and other workers read the file too
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: str | Path, line: str, to_disk: bool = False) -> None:
    """Append a line of text to a file, or nothing: what was written of it when an error came is cut off
    again, and so is the beginning of a line that a crash has left at the end.

    Args:
        path: the file.
        line: the text, without a newline.
        to_disk: wait until the disk has it.

    Raises:
        OSError: the line cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as file:
        end = _end_of_last_line(file)
        if file.seek(0, os.SEEK_END) != end:
            file.truncate(end)
        rest = memoryview(f"{line}\n".encode())
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if to_disk:
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


def _end_of_last_line(file: BinaryIO) -> int:
    """Position behind the last newline; 0 where there is none."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


@contextlib.contextmanager
def told_when_full(path: str | Path) -> Iterator[None]:
    """Turn what a full or unwritable disk makes whoever writes a file raise into a sentence.

    Args:
        path: the file.

    Raises:
        ConfigError: it cannot be written.
    """
    path = Path(path)
    try:
        yield
    except Exception as error:
        if not _is_about_writing(error):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        free = ""
        if path.parent.is_dir():
            free = f" {shutil.disk_usage(path.parent).free / 2**20:.0f} MiB are free there."
        raise ConfigError(
            f"{path} cannot be written: {reason}.{free} What was saved before is whole: once there is room, "
            "--resume goes on from it."
        ) from error


def _is_about_writing(error: Exception) -> bool:
    # by name: neither torch nor safetensors should be loaded for this
    unwritten = isinstance(error, RuntimeError) and "writ" in str(error)
    return unwritten or isinstance(error, OSError) or type(error).__name__ == "SafetensorError"


def parse_json(text: str | bytes) -> Any:
    """Read JSON whose keys are unique; Python's own reading keeps the last of two without a word.

    Raises:
        ValueError: it is no JSON, or a key stands there twice.
        RecursionError: it is nested without end.
    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key '{next(key for key in keys if keys.count(key) > 1)[:80]}'")
    return content


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        ConfigError: the file is missing or is no JSON.
    """
    try:
        return parse_json(read_text(path, "utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: the file cannot be read as JSON ({error}).") from None


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file atomically, see `replacing`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        found = hashlib.sha256()  # hashlib.file_digest came with Python 3.11
        with open(path, "rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
        return found.hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: the file cannot be read ({error.strerror}).") from None


def digest(lines: list[str]) -> str:
    """SHA-256 of lines of text, each ended by a newline, in hexadecimal."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")).hexdigest()


# The files that come with the package


def packaged_names(folder: str) -> list[str]:
    """The names of the files in a folder, 'search_spaces' or 'recipes'."""
    return sorted(path.stem for path in _place(folder).glob("*.yaml"))


def packaged_or_own(name_or_path: str | Path, folder: str, flag: str, kind: str) -> Path:
    """The file that a user names: one of ours by its name, or any YAML file by its path.

    Args:
        name_or_path: what the user wrote.
        folder: folder of the packaged files.
        flag: flag that it was given with, for the error message.
        kind: word for what it is, for the error message.

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

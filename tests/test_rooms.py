"""The rooms of the package: one imports only rooms above it, as docs/structure.md has them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nni_autoformer"

ROOMS = (
    ("errors", "files", "randomness", "lazy", "devices", "config", "bars"),
    ("architecture", "model_config", "space", "published_yaml", "complexity", "memory", "costs")
    + ("latency_values", "latency_file", "latency_table", "deployment"),
    ("nn",),
    ("model",),
    ("checkpoints",),
    ("data",),
    ("experiment",),
    ("training",),
    ("search",),
    ("registry", "export"),
    ("latency",),
    ("report",),
    ("jobs",),
    ("cli",),
)
"""From the top of the house to its door."""

DOORS = ("__init__", "__main__")
"""The package's own names and the command; nobody imports them but for the version."""

LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}
FILES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).with_suffix("").as_posix() not in DOORS
)


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """The rooms that a file imports anywhere, within functions and for types too, with their lines."""
    package = ["nni_autoformer", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "nni_autoformer" and len(parts) > 1 and parts[1] in LEVEL:
                yield parts[1], node.lineno


def test_every_file_is_in_a_room():
    assert {room_of(path) for path in FILES} == set(LEVEL)
    assert {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()} >= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_imports_only_rooms_above_it(path):
    here = LEVEL[room_of(path)]
    below = [f"line {line}: {name}" for name, line in imported(path) if LEVEL[name] > here]
    assert not below, f"{path.name} imports rooms below its own: {below}"


def test_nothing_but_the_command_line_prints():
    printing = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in FILES
        if room_of(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert not printing


def test_only_the_command_line_knows_argparse():
    knowing = [
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if room_of(path) != "cli" and "argparse" in path.read_text()
    ]
    # the published files hold an argparse.Namespace beside the weights
    assert set(knowing) <= {
        "checkpoints/checkpoint.py",
        "checkpoints/reading.py",
        "checkpoints/published_options.py",
    }


def test_no_two_files_of_different_rooms_share_a_name():
    names = {}
    for path in FILES:
        if path.stem != "__init__" and room_of(path) != "cli":
            names.setdefault(path.stem, []).append(path.relative_to(PACKAGE).as_posix())
    assert not [paths for paths in names.values() if len(paths) > 1]


def test_no_file_hides_two_ideas():
    assert not [path.name for path in FILES if len(path.read_text().splitlines()) > 400]

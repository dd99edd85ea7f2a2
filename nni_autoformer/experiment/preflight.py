"""What NNI needs of this machine, checked before it starts: a port and a home that it can write."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

from ..config import shown
from ..errors import ConfigError
from ..files import read_json
from . import fixes, hosting

ID_FILE = "nni_experiment.json"
"""Where a run's folder keeps the name of its experiment."""


ROOM = 2**20
"""Bytes that NNI's data base and logs need at least."""


def require_host(folder: str | Path, port: int) -> None:
    """Check that an NNI experiment can run for a folder; the manager that a killed run of the folder left
    behind is ended first.

    Raises:
        ConfigError: the port is taken, or NNI cannot write to the user's home.
    """
    require_home()
    if (known := known_experiment(folder)) is not None:
        fixes.stop_orphaned_manager(known)
    require_port(port)


def known_experiment(folder: str | Path) -> str | None:
    """NNI's name of the experiment that a run's folder holds; None if it holds none.

    Raises:
        ConfigError: the file that keeps it is damaged.
    """
    path = Path(folder) / ID_FILE
    if not path.is_file():
        return None
    content = read_json(path)
    name = content.get("id") if isinstance(content, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ConfigError(
            f"{path}: id is {shown(repr(name))}; it should be the name of an NNI experiment. Without the "
            "file the run starts a new one."
        )
    return name


def require_room(folder: str | Path) -> None:
    """Check that NNI's server can write its data base: on a full disk it ends, or starts without tables, and
    says so only in its log.

    Raises:
        ConfigError: the disk is full.
    """
    whole = Path(folder).resolve()
    free = shutil.disk_usage(next(place for place in (whole, *whole.parents) if place.exists())).free
    if free < ROOM:
        raise ConfigError(
            f"{folder}: the disk is full ({free / 2**20:.1f} MiB are free), and NNI's data base lies there. "
            "What was evaluated before is kept: once there is room, --resume goes on from it."
        )


def require_port(port: int) -> None:
    """Check that NNI's web server can have a port.

    Raises:
        ConfigError: it is no port, or another program has it.
    """
    if not 1 <= port <= 65535:
        raise ConfigError(f"--port is {port}; it should be from 1 to 65535.")
    with socket.socket() as probe:
        if probe.connect_ex(("localhost", port)) == 0:
            raise hosting.port_taken(port)


def require_home() -> None:
    """Check that NNI can keep its list of experiments, which it does in the user's home whatever the folder
    of an experiment.

    Raises:
        ConfigError: the home cannot be written.
    """
    hosting.require_writable(Path.home() / "nni-experiments")

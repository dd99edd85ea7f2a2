"""What a run's folder says of each time that it was started: when, how, and with which code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("nni-autoformer", "torch", "torchvision", "timm", "nni", "pytorch-lightning", "numpy", "pillow")


def describe_session() -> dict[str, Any]:
    """This process: time, command line, machine, versions, and the state of the code if it is a checkout."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "not installed"
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "folder": os.getcwd(),
        "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} CPUs",
        "versions": versions,
        "git": git_state(Path(__file__).parent),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and changed files of the checkout that a folder is in; None if it is not under version control.

    Args:
        folder: folder of the code.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        if not git("ls-files", str(Path(__file__))).strip():
            return None  # installed into an environment inside of somebody's repository
        commit = git("rev-parse", "HEAD").strip()
        changed = [line[3:] for line in git("status", "--porcelain", "--untracked-files=no").splitlines()]
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": changed}

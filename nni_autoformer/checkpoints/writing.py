"""Writing checkpoints: one safetensors file per supernet or subnet, which says in its header what it is."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ConfigError
from ..files import replacing
from ..nn.subnet import Subnet
from ..space import SearchSpace
from .header import FORMAT, HEADER_KEY, one_point_space
from .layouts import published_key

if TYPE_CHECKING:
    from ..model import AutoFormer


def save_supernet(path: str | Path, supernet: AutoFormer, run: Mapping[str, Any]) -> None:
    """Write a supernet atomically.

    Args:
        path: a `.safetensors` file; an older one stays until the new one is whole.
        supernet: the supernet.
        run: what a stranger should know, `RunFacts` or the same as JSON values.
    """
    tensors = {published_key(key): tensor for key, tensor in supernet.state_dict().items()}
    _save(path, tensors, header_of("supernet", supernet.space, run))


def save_subnet(path: str | Path, subnet: Subnet, run: Mapping[str, Any]) -> None:
    """Write a subnet atomically: timm's key names, its architecture and network in the header.

    Args:
        path: a `.safetensors` file.
        subnet: the subnet.
        run: what a stranger should know, `RunFacts` or the same as JSON values.
    """
    space = one_point_space(subnet.architecture, subnet.model)
    _save(path, subnet.state_dict(), header_of("subnet", space, run))


def _save(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    content = json.dumps(header)
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata={HEADER_KEY: content})


def require_new(output: Path) -> None:
    """Check that an output does not exist yet.

    Raises:
        ConfigError: it does, or no file can have this name.
    """
    try:
        exists = os.path.lexists(output)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--output {output}: no file can have this name ({error}).") from None
    if exists:
        raise ConfigError(f"--output {output} exists already; give another name.")


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary name for an output; what was written there takes the output's name at the end, whole or not
    at all.

    Raises:
        ConfigError: the output cannot be written: a full or read-only disk, no inodes, a limit of the file's
            size, a folder that cannot be made.
    """
    path = Path(path)
    try:
        with replacing(path) as temporary:
            yield temporary
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"--output {path} cannot be written: {_reason(error, path)}. Nothing was left there."
        ) from error


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, FileExistsError):
        return "one of the folders in its path is a file"
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    if getattr(error, "errno", errno.ENOSPC) not in (errno.ENOSPC, errno.EDQUOT):
        return reason
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return reason
    room = disk.f_bavail * disk.f_frsize / 2**20
    return f"{reason} (room for {room:,.0f} MiB and {disk.f_favail:,} files is left there)"


def write_pickle(content: Any, path: Path) -> None:
    """Write as `torch.save` does, in one piece: torch's own writer hides why a disk refuses."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getbuffer())


def header_of(kind: str, space: SearchSpace, run: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a header.

    Args:
        kind: what the file holds, one of `header.KINDS`.
        space: search space of the file.
        run: what a stranger should know, `RunFacts` or the same as JSON values.
    """
    return {
        "format": FORMAT,
        "kind": kind,
        "space": space.to_dict(),
        "run": dict(run),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    versions = {"torch": str(torch.__version__)}
    for package in ("nni-autoformer", "nni"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "not installed"
    return versions

"""Writing checkpoints: one safetensors file per supernet or subnet, which says in its header what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..files import replacing
from ..nn.subnet import Subnet
from .header import FORMAT, HEADER_KEY, one_point_space
from .layouts import published_key

if TYPE_CHECKING:
    from ..model import AutoFormer


def save_supernet(path: str | Path, supernet: AutoFormer, run: Mapping[str, Any]) -> None:
    """Write a supernet, by rename.

    Args:
        path: a `.safetensors` file; an older one stays until the new one is whole.
        supernet: the supernet.
        run: what a stranger should know, `RunFacts` or the same as JSON values.
    """
    tensors = {published_key(key): tensor for key, tensor in supernet.state_dict().items()}
    _save(path, tensors, {"kind": "supernet", "space": supernet.space.to_dict(), "run": dict(run)})


def save_subnet(path: str | Path, subnet: Subnet, run: Mapping[str, Any]) -> None:
    """Write a subnet, by rename: timm's key names, its architecture and network in the header.

    Args:
        path: a `.safetensors` file.
        subnet: the subnet.
        run: what a stranger should know, `RunFacts` or the same as JSON values.
    """
    space = one_point_space(subnet.architecture, subnet.model)
    _save(path, subnet.state_dict(), {"kind": "subnet", "space": space.to_dict(), "run": dict(run)})


def _save(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    content = json.dumps({"format": FORMAT, **header, "versions": _versions()})
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata={HEADER_KEY: content})


def _versions() -> dict[str, str]:
    versions = {"torch": str(torch.__version__)}
    for package in ("nni-autoformer", "nni"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "not installed"
    return versions

"""The same network in another layout, where that is exact."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError
from ..files import replacing
from ..model import AutoFormer, build_supernet
from .checkpoint import Checkpoint
from .layouts import published_key, timm_to_hub
from .shapes import supernet_shapes
from .writing import save_subnet, save_supernet

LAYOUTS = ("supernet", "published", "timm", "hub")
"""Our own file of a supernet, the published code's, a subnet with timm's key names, a subnet of NNI's hub."""

PUBLISHED_WIDTHS = {"tiny": 256, "tiny-released": 256, "base": 640, "base-released": 640}
"""Embedding sizes of the published files where they are above the largest choice; no subnet uses the rest."""


def convert(
    checkpoint: Checkpoint, layout: str, output: str | Path, architecture: str | Path | None = None
) -> Path:
    """Write a checkpoint in another layout.

    Args:
        checkpoint: the checkpoint.
        layout: one of `LAYOUTS`.
        output: a file that does not exist yet.
        architecture: which subnet of a supernet, as for `Checkpoint.architecture`; for 'timm' and 'hub'.

    Returns:
        The file.

    Raises:
        ConfigError: the layout is unknown or cannot hold the network exactly, the output exists, or the
            checkpoint cannot be used.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"--to {layout}: known are {', '.join(LAYOUTS)}.")
    output = Path(output)
    require_new(output)
    _require_exact(checkpoint)
    if layout in ("timm", "hub"):
        _write_subnet(checkpoint, layout, output, architecture)
    elif architecture is not None:
        raise ConfigError(f"--architecture is for a single subnet; --to {layout} writes the whole supernet.")
    else:
        _write_supernet(checkpoint, layout, output)
    return output


def require_new(output: Path) -> None:
    """Check that an output does not exist yet.

    Raises:
        ConfigError: it does.
    """
    if output.exists():
        raise ConfigError(f"--output {output} exists already; give another name.")


def _write_subnet(checkpoint: Checkpoint, layout: str, output: Path, architecture: str | Path | None) -> None:
    subnet = checkpoint.subnet(checkpoint.architecture(architecture))
    if layout == "timm":
        save_subnet(output, subnet, checkpoint.header.run)
        return
    with replacing(output) as temporary:
        torch.save(timm_to_hub(subnet.state_dict()), temporary)


def _write_supernet(checkpoint: Checkpoint, layout: str, output: Path) -> None:
    supernet = checkpoint.supernet() if checkpoint.header.of_supernet else _around(checkpoint)
    if layout == "supernet":
        save_supernet(output, supernet, checkpoint.header.run)
        return
    with replacing(output) as temporary:
        torch.save({"model": _published_tensors(supernet)}, temporary)


def _published_tensors(supernet: AutoFormer) -> dict[str, Tensor]:
    space = supernet.space
    width = PUBLISHED_WIDTHS.get(space.name, space.embed_dim[-1])
    shapes, model = supernet_shapes(space, width), {}
    for key, tensor in supernet.state_dict().items():
        name = published_key(key)
        model[name] = torch.zeros(shapes[name])
        model[name][tuple(slice(size) for size in tensor.shape)] = tensor
    return model


def _around(checkpoint: Checkpoint) -> AutoFormer:
    """The supernet of a space that is just large enough for a file's subnet, zero where it has nothing."""
    supernet = build_supernet(checkpoint.header.space)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.zero_()
    supernet.implant(checkpoint.subnet())
    return supernet


def _require_exact(checkpoint: Checkpoint) -> None:
    if checkpoint.header.kind == "hub supernet":
        raise ConfigError(
            f"{checkpoint.path}: a supernet of NNI's hub cannot be converted exactly: its subnets below the "
            "largest head count have other biases of queries, keys and values."
        )

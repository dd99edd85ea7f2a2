"""The same network in another layout, where that is exact."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..model import AutoFormer, build_supernet
from ..model_config import NORMS
from ..nn.subnet import Subnet
from ..space import ModelConfig, SearchSpace
from .beside import place_beside, write_beside
from .checkpoint import Checkpoint
from .header import one_point_space
from .layouts import published_key, timm_to_hub
from .resize import resample_table
from .shapes import supernet_shapes
from .writing import header_of, require_new, save_subnet, save_supernet, whole_file, write_pickle

log = logging.getLogger("nni_autoformer")

LAYOUTS = ("supernet", "published", "timm", "hub")
"""Our own file of a supernet, the published code's, a subnet with timm's key names, a subnet of NNI's hub."""

PUBLISHED_WIDTHS = {"tiny": 256, "tiny-released": 256, "base": 640, "base-released": 640}
"""Embedding sizes of the published files where they are above the largest choice; no subnet uses the rest."""


def convert(
    checkpoint: Checkpoint, layout: str, output: str | Path, architecture: str | Path | None = None
) -> Path:
    """Write a checkpoint in another layout.

    The published layout and the hub's have no place for anything but tensors; what else there is to know is
    written beside the output, see `beside`.

    Args:
        checkpoint: the checkpoint.
        layout: one of `LAYOUTS`.
        output: a file that does not exist yet.
        architecture: which subnet of a supernet, as for `Checkpoint.architecture`; for 'timm' and 'hub'.

    Returns:
        The file.

    Raises:
        ConfigError: the layout is unknown or cannot hold the network exactly, the output exists or cannot be
            written, or the checkpoint cannot be used.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"--to {layout}: known are {', '.join(LAYOUTS)}.")
    output = Path(output)
    require_new(output)
    _require_exact(checkpoint, layout)
    if layout in ("timm", "hub"):
        subnet = checkpoint.subnet(checkpoint.architecture(architecture))
        _write_subnet(checkpoint, subnet, layout, output)
    elif architecture is not None:
        raise ConfigError(f"--architecture is for a single subnet; --to {layout} writes the whole supernet.")
    else:
        _write_supernet(checkpoint, layout, output)
    return output


def _require_exact(checkpoint: Checkpoint, layout: str) -> None:
    if checkpoint.header.kind == "hub supernet":
        raise ConfigError(
            f"{checkpoint.path}: a supernet of NNI's hub cannot be converted exactly: its subnets below the "
            "largest head count have other biases of queries, keys and values."
        )
    model = checkpoint.header.space.model
    if layout in ("published", "hub") and (norms := [key for key in NORMS if key in model.to_dict()]):
        owner = "NNI's hub" if layout == "hub" else "the published code"
        told = f"{norms[0]} {getattr(model, norms[0])}"
        raise ConfigError(
            f"{checkpoint.path}: --to {layout}: the network has {told}, and {owner} has no place for other "
            "norms than the published ones."
        )
    height, width = model.grid_size
    if layout in ("published", "hub") and height != width:
        owner = "NNI's hub" if layout == "hub" else "the published code"
        raise ConfigError(
            f"{checkpoint.path}: --to {layout}: {owner} knows square images only, and this network has "
            f"{height} x {width} patches."
        )


def _write_subnet(checkpoint: Checkpoint, subnet: Subnet, layout: str, output: Path) -> None:
    run = checkpoint.header.run
    if layout == "timm":
        with whole_file(output) as temporary:
            save_subnet(temporary, subnet, run)
        return
    tensors, model = for_the_hub(subnet.state_dict(), subnet.model)
    space = one_point_space(subnet.architecture, model)
    _write_with_description(checkpoint, timm_to_hub(tensors), "hub subnet", space, output)


def _write_supernet(checkpoint: Checkpoint, layout: str, output: Path) -> None:
    supernet = checkpoint.supernet() if checkpoint.header.of_supernet else _around(checkpoint)
    if layout == "supernet":
        with whole_file(output) as temporary:
            save_supernet(temporary, supernet, checkpoint.header.run)
        return
    content = {"model": _published_tensors(supernet)}
    _write_with_description(checkpoint, content, "published supernet", supernet.space, output)


def _write_with_description(
    checkpoint: Checkpoint, content: Any, kind: str, space: SearchSpace, output: Path
) -> None:
    # the list of held-out images does not lie beside the new file
    run = {key: value for key, value in checkpoint.header.run.items() if key != "selection"}
    described = place_beside(output)
    require_new(described)
    with whole_file(output) as temporary:
        write_pickle(content, temporary)
        try:
            write_beside(output, temporary, header_of(kind, space, run))
        except BaseException:
            described.unlink(missing_ok=True)
            raise
    log.warning(
        f"{output} holds the tensors alone: space, pooling, mean, std, crop and classes have no place in "
        f"this layout, and stand in {described} beside it."
    )


def for_the_hub(tensors: dict[str, Tensor], model: ModelConfig) -> tuple[dict[str, Tensor], ModelConfig]:
    """A subnet with relative tables of the length that NNI's hub builds: the side of the grid. Offsets that
    no pair of patches has lose their rows; those beyond the old tables get the row of the farthest. Exact.

    Args:
        tensors: tensors of the subnet, in timm's layout.
        model: network around them, of square images.

    Returns:
        The tensors, and the network with that length.
    """
    side = model.grid_size[0]
    if not model.relative_position or model.max_relative_position == side:
        return dict(tensors), model
    fitted = {
        key: resample_table(tensor, side, 1.0) if "embeddings_table" in key else tensor
        for key, tensor in tensors.items()
    }
    return fitted, replace(model, max_relative_position=side)


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

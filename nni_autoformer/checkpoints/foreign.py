"""Other people's files, which do not say what they are: recognised by their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import ConfigError
from ..space import SearchSpace
from .header import Header, one_point_space
from .layouts import describe_subnet, hub_to_timm, recognise
from .run_facts import RunFacts
from .shapes import fitting_spaces

PUBLISHED_RUN = RunFacts(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_pct=0.875, interpolation="bicubic"
)
"""How the published networks, and NNI's hub, want their images: short side 256 bicubic, centre crop 224."""


def foreign_header(path: Path, tensors: Mapping[str, Tensor], space: SearchSpace | None) -> Header:
    """What a file without a header of ours is.

    Args:
        path: file, for the error message.
        tensors: tensors of the file.
        space: search space of a supernet, which its file does not say.

    Raises:
        ConfigError: the tensors are those of no network that is known here, or the space is missing.
    """
    kind = recognise(tensors)
    if kind is None:
        raise ConfigError(
            f"{path}: the file's tensors are those of no network that is known here (a supernet or subnet of "
            "nni-autoformer, a published supernet, a network of NNI's hub, a subnet in timm's layout)."
        )
    if kind.endswith("subnet"):
        subnet = hub_to_timm(tensors) if kind == "hub subnet" else tensors
        try:
            space = one_point_space(*describe_subnet(subnet))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    elif space is None:
        fitting = fitting_spaces(tensors) if kind == "published supernet" else []
        hint = f"; the file fits {' or '.join(fitting)}" if fitting else ""
        raise ConfigError(f"{path}: a {kind} does not say which search space it is for: give --space{hint}.")
    elif "head.weight" in tensors:
        space = space.with_model(num_classes=len(tensors["head.weight"]))
    return Header(kind, space, PUBLISHED_RUN)

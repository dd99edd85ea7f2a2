"""Checkpoints: one safetensors file per supernet or subnet, which says in its header what it is; and other
people's, recognised by their key names.

A supernet's tensors carry the published key names (`patch_embed_super.proj`, `blocks.{i}.attn_layer_norm`,
…), a subnet's timm's. The header holds, as JSON, the space and whatever the writer knows of the run. Nothing
here executes code from a file: safetensors holds tensors only, and a pickle is looked at with
`weights_only=True`.
"""

from __future__ import annotations

import argparse
import json
import pickle
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..architecture import HEAD_DIM, Architecture
from ..errors import ConfigError
from ..files import replacing
from ..nn import slicing
from ..nn.subnet import Subnet
from ..space import ModelConfig, SearchSpace, packaged_spaces
from .header import FORMAT, HEADER_KEY, Header, parse_header
from .layouts import (
    describe_subnet,
    hub_supernet_to_published,
    hub_to_timm,
    published_key,
    published_shape,
    recognise,
)

if TYPE_CHECKING:
    from ..model import AutoFormer

__all__ = ["Header", "load_subnet", "load_supernet", "read_header", "save_subnet", "save_supernet"]

PUBLISHED_RUN = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "selection": None,
}
"""How the published networks, and NNI's hub, want their images: short side 256 bicubic, centre crop 224."""


def _versions() -> dict[str, str]:
    versions = {"torch": str(torch.__version__)}
    for package in ("nni-autoformer", "nni"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "not installed"
    return versions


def save_supernet(path: str | Path, supernet: AutoFormer, run: Mapping[str, Any]) -> None:
    """Write a supernet, by rename.

    Args:
        path: a `.safetensors` file; an older one stays until the new one is whole.
        supernet: the supernet.
        run: what a stranger should know, as JSON values, see `Header.run`.
    """
    tensors = {published_key(key): tensor for key, tensor in supernet.state_dict().items()}
    _save(path, tensors, {"kind": "supernet", "space": supernet.space.to_dict(), "run": dict(run)})


def save_subnet(path: str | Path, subnet: Subnet, run: Mapping[str, Any]) -> None:
    """Write a subnet, by rename: timm's key names, its architecture and network in the header.

    Args:
        path: a `.safetensors` file.
        subnet: the subnet.
        run: what a stranger should know, as JSON values, see `Header.run`.
    """
    space = one_point_space(subnet.architecture, subnet.model)
    _save(path, subnet.state_dict(), {"kind": "subnet", "space": space.to_dict(), "run": dict(run)})


def _save(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    content = json.dumps({"format": FORMAT, **header, "versions": _versions()})
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata={HEADER_KEY: content})


def one_point_space(architecture: Architecture, model: ModelConfig) -> SearchSpace:
    """The network of a single subnet, told as a search space around it with the subnet's name 'subnet'."""
    return SearchSpace(
        "subnet",
        (architecture.embed_dim,),
        (architecture.depth,),
        tuple(sorted(set(architecture.num_heads))),
        tuple(sorted(set(architecture.mlp_ratio))),
        model,
        {"subnet": architecture},
    )


def read_header(path: str | Path, space: SearchSpace | None = None) -> Header:
    """What a checkpoint is: from its header, or for other people's files from its tensors' names and sizes.

    Args:
        path: a checkpoint.
        space: of a supernet without a header; needed there.

    Raises:
        ConfigError: the file is missing, truncated, holds code, or is no checkpoint that is known here.
    """
    return _open(Path(path), space, header_only=True)[0]


def load_supernet(path: str | Path, space: SearchSpace | None = None) -> tuple[AutoFormer, Header]:
    """Build the supernet of a file, with its weights.

    Args:
        path: a file that `save_supernet` wrote, a published checkpoint, or a supernet of NNI's hub.
        space: the space that the caller expects; None accepts that of the header. Its number of classes does
            not count, because training sets it to the data's.

    Raises:
        ConfigError: as `read_header`; the file is of another space (the sentence says what differs); a tensor
            is missing or has another shape.
    """
    from ..model import (
        build_supernet,  # brings NNI's whole NAS part, which a trial of one subnet does not need
    )

    path = Path(path)
    header, tensors = _open(path, space)
    if not header.kind.endswith("supernet"):
        raise ConfigError(f"{path}: the file holds a {header.kind}; a supernet is needed here.")
    tensors = _supernet_tensors(path, header, tensors, space)
    supernet = build_supernet(header.space)
    supernet.load_state_dict(
        {
            key: tensors[published_key(key)][tuple(slice(size) for size in tensor.shape)]
            for key, tensor in supernet.state_dict().items()
        }
    )
    return supernet, header


def _supernet_tensors(
    path: Path, header: Header, tensors: dict[str, Tensor], space: SearchSpace | None
) -> dict[str, Tensor]:
    """A supernet's tensors under the published names, checked against its space and the expected one."""
    require_space(path, header, space)
    if header.kind == "hub supernet":
        warnings.warn(
            f"{path}: a supernet of NNI's hub has other biases of queries, keys and values in subnets "
            "below the largest head count; the accuracy of those will differ from NNI's.",
            stacklevel=3,
        )
        tensors = hub_supernet_to_published(tensors)
    largest = Subnet.without_weights(header.space.largest, header.space.model).state_dict()
    shapes = {published_key(key): tuple(tensor.shape) for key, tensor in largest.items()}
    _require_shapes(path, tensors, header.space, shapes)
    return tensors


def require_space(path: Path, header: Header, space: SearchSpace | None) -> None:
    """Check that a checkpoint is of the space that the caller expects.

    Raises:
        ConfigError: it is of another one; the sentence says what differs.
    """
    if space is None:
        return
    expected = space.with_model(num_classes=header.space.model.num_classes)
    if differences := expected.differences(header.space):
        raise ConfigError(
            f"{path}: the checkpoint is of another search space than '{space.name}': "
            f"{'; '.join(differences)} (here: --space, there: the checkpoint)."
        )


def load_subnet(
    path: str | Path, architecture: Architecture | None = None, space: SearchSpace | None = None
) -> tuple[Subnet, Header]:
    """Build one subnet with the weights of a file; of a supernet only the subnet's part is read.

    Args:
        path: a file that `save_subnet` wrote, a subnet of NNI's hub or in timm's layout, or any supernet.
        architecture: which subnet of a supernet; None for the only one that a subnet's file holds.
        space: the space that the caller expects of a supernet, as for `load_supernet`.

    Raises:
        ConfigError: as `load_supernet`; the file holds another subnet, or a supernet and no architecture was
            given.
    """
    path = Path(path)
    header, tensors = _open(path, space)
    if header.kind.endswith("supernet"):
        if architecture is None:
            raise ConfigError(f"{path}: the file holds a {header.kind}; a subnet is needed here.")
        header.space.require(architecture)
        largest = _supernet_tensors(path, header, tensors, space)
        tensors = slicing.subnet(lambda key: largest[published_key(key)], architecture, header.space.model)
    else:
        tensors = hub_to_timm(tensors) if header.kind == "hub subnet" else tensors
        if architecture not in (None, header.space.architectures["subnet"]):
            raise ConfigError(f"{path}: the file holds one subnet, and it is not {architecture}.")
        architecture = header.space.architectures["subnet"]
    shapes = Subnet.without_weights(architecture, header.space.model).state_dict()
    expected = {key: tuple(tensor.shape) for key, tensor in shapes.items()}
    _require_equal_shapes(path, tensors, expected, "the architecture of the file")
    return Subnet.from_tensors(architecture, header.space.model, tensors).eval(), header


def _require_shapes(
    path: Path, tensors: Mapping[str, Tensor], space: SearchSpace, own: Mapping[str, tuple[int, ...]]
) -> None:
    token = tensors.get("cls_token")
    width = own["cls_token"][-1] if token is None else max(token.shape[-1], own["cls_token"][-1])
    hidden = int(width * space.mlp_ratio[-1])
    expected = {key: published_shape(key, shape, width, hidden) for key, shape in own.items()}
    fitting = _fitting_spaces(tensors)
    hint = f" (the file fits {' or '.join(fitting)})" if fitting and space.name not in fitting else ""
    _require_equal_shapes(path, tensors, expected, f"the space '{space.name}'{hint}")


def _require_equal_shapes(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], whose: str
) -> None:
    for key, shape in expected.items():
        if key not in tensors:
            raise ConfigError(f"{path}: the checkpoint lacks the tensor '{key}', which {whose} needs.")
        if tuple(tensors[key].shape) != shape:
            raise ConfigError(
                f"{path}: the tensor '{key}' has shape {list(tensors[key].shape)}; {whose} needs "
                f"{list(shape)}."
            )
    if more := [key for key in tensors if key not in expected]:
        raise ConfigError(f"{path}: the tensor '{more[0]}' has no place in {whose}.")


def _fitting_spaces(tensors: Mapping[str, Tensor]) -> list[str]:
    """The packaged spaces whose supernet has the depth, heads and about the width of a published file."""
    depth = sum(key.endswith(".attn.qkv.weight") for key in tensors)
    rows, width = tensors["blocks.0.attn.qkv.weight"].shape if depth else (0, 0)
    return [
        name
        for name in packaged_spaces()
        if (space := SearchSpace.load(name)).max_depth == depth
        and 3 * HEAD_DIM * space.num_heads[-1] == rows
        and space.embed_dim[-1] <= width < space.embed_dim[-1] + HEAD_DIM
    ]


# Reading a file


def _open(
    path: Path, space: SearchSpace | None = None, header_only: bool = False
) -> tuple[Header, dict[str, Tensor]]:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such checkpoint.")
    with open(path, "rb") as file:
        start = file.read(2)
    if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        text, tensors = None, _torch_tensors(path)
    else:
        try:
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(HEADER_KEY)
                wanted = [] if text is not None and header_only else file.keys()
                tensors = {key: file.get_tensor(key) for key in wanted}
        except (SafetensorError, OSError) as error:
            raise ConfigError(
                f"{path}: the file is damaged or truncated, it cannot be read as safetensors ({error})."
            ) from None
    return (_foreign_header(path, tensors, space) if text is None else parse_header(path, text)), tensors


def _foreign_header(path: Path, tensors: Mapping[str, Tensor], space: SearchSpace | None) -> Header:
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
        fitting = _fitting_spaces(tensors) if kind == "published supernet" else []
        hint = f"; the file fits {' or '.join(fitting)}" if fitting else ""
        raise ConfigError(f"{path}: a {kind} does not say which search space it is for: give --space{hint}.")
    elif "head.weight" in tensors:
        space = space.with_model(num_classes=len(tensors["head.weight"]))
    return Header(kind, space, dict(PUBLISHED_RUN))


def _torch_tensors(path: Path) -> dict[str, Tensor]:
    try:
        # the published files hold their command line beside the weights; this one type is plain values
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ConfigError(
            f"{path}: refused: the file holds other things than tensors and plain values, and loading them "
            "could run code."
        ) from None
    except Exception as damage:  # whatever a damaged archive makes torch say
        raise ConfigError(f"{path}: the file is damaged or truncated ({type(damage).__name__}).") from None
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ConfigError(
            f"{path}: the file holds no network: neither tensors by name nor such under 'model'."
        )
    return dict(content)

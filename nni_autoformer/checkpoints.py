"""Checkpoints: one safetensors file per supernet or subnet, which says in its header what it is.

A supernet's tensors carry the published key names (`patch_embed_super.proj`, `blocks.{i}.attn_layer_norm`,
…), a subnet's timm's. The header holds, as JSON, the space and whatever the writer knows of the run. Nothing
here executes code from a file: safetensors holds tensors only, and a pickle is looked at with
`weights_only=True`.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import ConfigError
from .files import replacing
from .model import AutoFormer, build_supernet
from .space import SearchSpace

HEADER_KEY = "nni_autoformer"
FORMAT = 1

_PUBLISHED_PARTS = (
    ("patch_embed.", "patch_embed_super."),
    (".norm1.", ".attn_layer_norm."),
    (".norm2.", ".ffn_layer_norm."),
    (".mlp.fc", ".fc"),
    ("tokens.", ""),
    ("blocks.blocks.", "blocks."),
)


def published_key(key: str) -> str:
    """The published code's name of a tensor of the supernet."""
    for ours, published in _PUBLISHED_PARTS:
        key = key.replace(ours, published, 1)
    return key


@dataclass
class Header:
    """What a checkpoint file says of itself.

    Attributes:
        kind: 'supernet'.
        space: the search space; its number of classes is the data's.
        run: what the training knew: data set, classes, preprocessing, recipe, epoch, metrics, selection.
        versions: of this package and of torch, when the file was written.
    """

    kind: str
    space: SearchSpace
    run: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


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
    tensors = {published_key(key): tensor.detach().cpu() for key, tensor in supernet.state_dict().items()}
    header = {
        "format": FORMAT,
        "kind": "supernet",
        "space": supernet.space.to_dict(),
        "run": dict(run),
        "versions": _versions(),
    }
    with replacing(path) as temporary:
        save_file(
            {key: tensor.contiguous() for key, tensor in tensors.items()},
            temporary,
            metadata={HEADER_KEY: json.dumps(header)},
        )


def read_header(path: str | Path) -> Header:
    """What a checkpoint file says of itself, without reading its tensors.

    Raises:
        ConfigError: the file is missing, truncated, holds code, or is no checkpoint of this package.
    """
    return _open(Path(path))[0]


def load_supernet(path: str | Path, space: SearchSpace | None = None) -> tuple[AutoFormer, Header]:
    """Build the supernet of a file, with its weights.

    Args:
        path: a file that `save_supernet` wrote.
        space: the space that the caller expects; None accepts any. Its number of classes does not count,
            because training sets it to the data's.

    Raises:
        ConfigError: as `read_header`; the file is of another space (the sentence says what differs); a tensor
            is missing or has another shape.
    """
    path = Path(path)
    header, tensors = _open(path, with_tensors=True)
    if header.kind != "supernet":
        raise ConfigError(f"{path}: the file holds a {header.kind}; a supernet is needed here.")
    if space is not None:
        expected = space.with_model(num_classes=header.space.model.num_classes)
        if differences := expected.differences(header.space):
            raise ConfigError(
                f"{path}: the checkpoint is of another search space than '{space.name}': "
                f"{'; '.join(differences)} "
                "(here: --space, there: the checkpoint)."
            )
    supernet = build_supernet(header.space)
    own = supernet.state_dict()
    names = {published_key(key): key for key in own}
    for name, key in names.items():
        if name not in tensors:
            raise ConfigError(f"{path}: the checkpoint lacks the tensor '{name}'.")
        if tensors[name].shape != own[key].shape:
            raise ConfigError(
                f"{path}: the tensor '{name}' has shape {list(tensors[name].shape)}; the space that the "
                "file names "
                f"needs {list(own[key].shape)}."
            )
    supernet.load_state_dict({key: tensors[name] for name, key in names.items()})
    return supernet, header


def _open(path: Path, with_tensors: bool = False) -> tuple[Header, dict[str, Tensor]]:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 if with_tensors else {}
    except (SafetensorError, OSError) as error:
        raise ConfigError(_not_safetensors(path, error)) from None
    if header is None:
        raise ConfigError(
            f"{path}: the file holds tensors, but no header of nni-autoformer says what they are."
        )
    try:
        content = json.loads(header)
        if content["format"] != FORMAT:
            raise ConfigError(
                f"{path}: the file has format {content['format']}; this version reads format {FORMAT}."
            )
        space = SearchSpace.from_dict(content["space"], f"{path}: space")
        return Header(content["kind"], space, content["run"], content["versions"]), tensors
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: the header is damaged ({type(error).__name__}: {error}).") from None


def _not_safetensors(path: Path, error: Exception) -> str:
    with open(path, "rb") as file:
        start = file.read(2)
    if start not in (b"PK", b"\x80\x02", b"\x80\x04"):
        return f"{path}: the file is damaged or truncated, it cannot be read as safetensors ({error})."
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return (
            f"{path}: refused: the file is a pickle that holds other things than tensors, and loading it "
            "could run "
            "code. A checkpoint of nni-autoformer is a .safetensors file."
        )
    except Exception as damage:  # whatever a damaged archive makes torch say
        return f"{path}: the file is damaged or truncated ({type(damage).__name__})."
    return f"{path}: this is a torch file; a checkpoint of nni-autoformer is a .safetensors file."

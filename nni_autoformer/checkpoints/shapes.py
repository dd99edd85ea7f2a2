"""The shapes of a network's tensors in closed form, so that a file is checked before a network is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..architecture import HEAD_DIM, Architecture
from ..errors import ConfigError
from ..space import ModelConfig, SearchSpace, packaged_spaces
from .layouts import published_key

Shapes = Mapping[str, tuple[int, ...]]


def subnet_shapes(architecture: Architecture, model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a subnet, by timm's key names.

    Args:
        architecture: sizes of the subnet.
        model: network around them.
    """
    layers = tuple(zip(architecture.num_heads, architecture.hidden_features))
    return _shapes(architecture.embed_dim, layers, model)


def supernet_shapes(space: SearchSpace, embed_dim: int) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a supernet, by the published key names.

    Args:
        space: search space of the supernet.
        embed_dim: width of the file. The published T and B are 256 and 640 wide, though no subnet uses more
            than 240 and 624 channels.
    """
    layer = (space.num_heads[-1], int(embed_dim * space.mlp_ratio[-1]))
    shapes = _shapes(embed_dim, (layer,) * space.max_depth, space.model)
    return {published_key(key): shape for key, shape in shapes.items()}


def _shapes(
    embed_dim: int, layers: tuple[tuple[int, int], ...], model: ModelConfig
) -> dict[str, tuple[int, ...]]:
    patch = model.patch_size
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, embed_dim)}
    if model.absolute_position:
        shapes["pos_embed"] = (1, 1 + model.num_patches, embed_dim)
    shapes |= {
        "patch_embed.proj.weight": (embed_dim, model.in_chans, patch, patch),
        "patch_embed.proj.bias": (embed_dim,),
    }
    for i, (heads, hidden) in enumerate(layers):
        shapes |= {f"blocks.{i}.{key}": shape for key, shape in _block(embed_dim, heads, hidden, model)}
    if model.pre_norm:
        shapes |= _norm("norm_pre", embed_dim)
    return shapes | {
        **_norm("fc_norm" if model.fc_norm else "norm", embed_dim),
        "head.weight": (model.num_classes, embed_dim),
        "head.bias": (model.num_classes,),
    }


def _block(embed_dim: int, heads: int, hidden: int, model: ModelConfig) -> Any:
    width = HEAD_DIM * heads
    shapes = {
        **_norm("norm1", embed_dim),
        **_linear("attn.qkv", embed_dim, 3 * width),
        **_linear("attn.proj", width, embed_dim),
    }
    if model.relative_position:
        table = (2 * model.max_relative_position + 2, HEAD_DIM)
        for part in "kv":
            shapes |= {f"attn.rel_pos_embed_{part}.embeddings_table_{axis}": table for axis in "vh"}
    shapes |= _norm("norm2", embed_dim)
    shapes |= _linear("mlp.fc1", embed_dim, hidden) | _linear("mlp.fc2", hidden, embed_dim)
    return shapes.items()


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def require_shapes(path: Path, tensors: Mapping[str, Any], expected: Shapes, whose: str) -> None:
    """Check that a file has exactly the tensors of a network.

    Args:
        path: file, for the error message.
        tensors: tensors of the file.
        expected: shape of each tensor of the network.
        whose: the network, for the error message.

    Raises:
        ConfigError: a tensor is missing, has another shape, or is none of the network's.
    """
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


def require_supernet_shapes(path: Path, tensors: Mapping[str, Any], space: SearchSpace) -> None:
    """Check that a file has exactly the tensors of a space's supernet, which may be wider than any subnet.

    Args:
        path: file, for the error message.
        tensors: tensors of the file, by the published key names.
        space: search space of the supernet.

    Raises:
        ConfigError: it has not; the sentence names the packaged spaces that the file fits.
    """
    token = tensors.get("cls_token")
    width = max(space.embed_dim[-1], token.shape[-1] if token is not None and token.ndim else 0)
    fitting = fitting_spaces(tensors)
    hint = f" (the file fits {' or '.join(fitting)})" if fitting and space.name not in fitting else ""
    require_shapes(path, tensors, supernet_shapes(space, width), f"the space '{space.name}'{hint}")


def fitting_spaces(tensors: Mapping[str, Any]) -> list[str]:
    """The packaged spaces whose supernet has the depth, heads and about the width of a published file."""
    depth = sum(key.endswith(".attn.qkv.weight") for key in tensors)
    first = tensors.get("blocks.0.attn.qkv.weight")
    if first is None or first.ndim != 2:
        return []
    rows, width = first.shape
    return [
        name
        for name in packaged_spaces()
        if (space := SearchSpace.load(name)).max_depth == depth
        and 3 * HEAD_DIM * space.num_heads[-1] == rows
        and space.embed_dim[-1] <= width < space.embed_dim[-1] + HEAD_DIM
    ]

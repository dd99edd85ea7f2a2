"""Parameters and multiply-accumulates of a subnet, in closed form: exact, and without building it.

A search asks this of every candidate that it draws, so it must cost microseconds and load no torch. The table
of all that a subnet costs is `costs.py`.
"""

from __future__ import annotations

from .architecture import HEAD_DIM, Architecture
from .space import ModelConfig


def params(architecture: Architecture, model: ModelConfig = ModelConfig()) -> int:
    """Parameters of the stand-alone subnet, relative-position tables and head included.

    With the published options this is ``768E + E + 197E + E + Σ[4E + 3·64h(E+1) + E(64h+1) + f(E+1) + E(f+1)
    + 4·30·64] + 2E + 1000(E+1)`` with f = int(E·ratio).
    """
    embed = architecture.embed_dim
    total = embed * (model.patch_size**2 * model.in_chans + 1)  # patch convolution
    total += embed  # class token
    total += embed * (model.num_patches + 1) if model.absolute_position else 0
    total += 2 * embed if model.pre_norm else 0
    tables = 4 * (2 * model.max_relative_position + 2) * HEAD_DIM if model.relative_position else 0
    for heads, hidden in zip(architecture.num_heads, architecture.hidden_features):
        width = heads * HEAD_DIM
        attention = 3 * width * (embed + 1) + embed * (width + 1) + tables
        mlp = hidden * (embed + 1) + embed * (hidden + 1)
        total += 4 * embed + attention + mlp
    return total + 2 * embed + model.num_classes * (embed + 1)


def macs(architecture: Architecture, model: ModelConfig = ModelConfig()) -> int:
    """Multiply-accumulates of one image's forward pass, without those of the relative position.

    Counts what torch's FLOP counter counts, halved: the products of convolution, linear layers and attention;
    no biases, norms or activations. The three published subnets have 1.283, 4.774 and 11.045 G.
    """
    embed, tokens = architecture.embed_dim, model.num_patches + 1
    total = model.num_patches * embed * model.patch_size**2 * model.in_chans
    for heads, hidden in zip(architecture.num_heads, architecture.hidden_features):
        width = heads * HEAD_DIM
        total += 4 * tokens * embed * width + 2 * tokens**2 * width + 2 * tokens * embed * hidden
    return total + embed * model.num_classes


def relative_position_macs(architecture: Architecture, model: ModelConfig = ModelConfig()) -> int:
    """Multiply-accumulates of the relative position as the plain formula runs it: for every head, query and
    key one product of 64 channels with the keys' table and one with the values' (0 with relative position
    off).

    Added to `macs` it gives 1.482, 5.161 and 11.691 G for the published subnets. This package needs fewer,
    see `nn.relative_position`; the number is the one to compare with other implementations.
    """
    if not model.relative_position:
        return 0
    tokens = model.num_patches + 1
    return sum(2 * tokens**2 * HEAD_DIM * heads for heads in architecture.num_heads)


def official(architecture: Architecture, model: ModelConfig = ModelConfig()) -> float:
    """The complexity number of the published code, which papers' tables show: 1.344, 4.892 and 11.237 G for
    the published subnets. It counts the head for every patch and odd terms for the relative position; to
    compare with printed numbers, not to measure cost.
    """
    embed, patches = architecture.embed_dim, model.num_patches
    tokens, offsets = patches + 2, model.max_relative_position
    total: float = embed + patches * model.patch_size**2 * model.in_chans * embed
    total += (patches + 1) * embed / 2 + (patches + 1) * model.num_classes * embed
    for heads, hidden in zip(architecture.num_heads, architecture.hidden_features):
        width = heads * HEAD_DIM
        total += 2 * tokens * embed + 4 * tokens * width * embed + 2 * tokens**2 * width
        total += 2 * tokens * embed * hidden
        if model.relative_position:
            total += 2 * offsets * tokens**2 + tokens**2 / 2 + tokens * width / 2
    return total

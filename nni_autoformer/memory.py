"""What a subnet needs of memory when it runs, in closed form: its weights, and the largest activations.

The largest activations are the most that is alive at one moment of the plain subnet's forward pass
(`nn.subnet.Subnet`) without gradients on a CPU, the images among them. A tensor lives from the operation that
makes it to the last one that reads it, or to the end of the function that still names it. All blocks do the
same, so few moments can be the largest:

    start       images, projected patches, tokens, tokens with their position
    attention   block's input, its norm, queries, keys and values, and what attention itself needs
    MLP         block's input, the sum after attention, its norm, hidden features before and after GELU

The tokens that enter the first block live until the last one has ended. Attention with relative position
works on queries, keys and values that are widened by position channels (`nn.relative_position`); which of its
two kernels runs depends on the precision and the number of tokens. Not counted: the workspace of libraries,
what Python and torch take for themselves, and the index tables of the grid, which a network has once. A GPU
runs the fused kernel in every precision, so in fp32 it needs less than this.
"""

from __future__ import annotations

from .architecture import HEAD_DIM, Architecture
from .complexity import params
from .space import ModelConfig

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of a number, by precision."""

LONGEST_EXPLICIT = 401
"""Of `nn.relative_position`, which loads torch; a test compares the two."""


def memory(
    architecture: Architecture,
    model: ModelConfig = ModelConfig(),
    batch_size: int = 1,
    precision: str = "fp32",
) -> int:
    """Bytes of the weights and of the largest activations of one forward pass.

    Args:
        architecture: the subnet.
        model: the network around it.
        batch_size: images of a forward pass.
        precision: 'fp32', 'bf16' or 'fp16', of weights and activations.
    """
    weights = BYTES[precision] * params(architecture, model)
    return weights + activations(architecture, model, batch_size, precision)


def activations(
    architecture: Architecture,
    model: ModelConfig = ModelConfig(),
    batch_size: int = 1,
    precision: str = "fp32",
) -> int:
    """Bytes of the largest activations alone, see `memory`."""
    patches, tokens = model.num_patches, model.num_patches + 1
    image = model.in_chans * model.img_size[0] * model.img_size[1]
    stream = tokens * architecture.embed_dim
    start = patches * architecture.embed_dim + (2 if model.absolute_position else 1) * stream
    largest = _bytes(batch_size * (image + start), precision)
    for i, (heads, hidden) in enumerate(zip(architecture.num_heads, architecture.hidden_features)):
        held = image + (1 if i == 0 else 2) * stream  # what entered this block, and the first one
        attention = _bytes(batch_size * (held + stream), precision)
        attention += _attention(heads, model, batch_size, precision)
        mlp = held + 2 * stream + max(2 * tokens * hidden, tokens * hidden + stream)
        largest = max(largest, attention, _bytes(batch_size * mlp, precision))
    return largest


def _attention(heads: int, model: ModelConfig, batch_size: int, precision: str) -> int:
    """Bytes from the queries, keys and values of an attention layer to the heads' outputs."""
    tokens = model.num_patches + 1
    rows = batch_size * heads * tokens
    log_sums = 4 * rows  # what the fused kernel returns beside its result, always in float32
    if not model.relative_position:
        return _bytes(4 * rows * HEAD_DIM, precision) + log_sums
    offsets = 2 * sum(model.grid_size) - 1
    tables = 2 * offsets * HEAD_DIM
    width = _padded(HEAD_DIM + sum(model.grid_size) + 1)  # channels of a widened query, key or value
    if precision == "fp32" and tokens <= LONGEST_EXPLICIT:
        # widened three, probabilities, widened result, its mass per offset, the result by head and by token
        each = 3 * HEAD_DIM + 3 * width + tokens + width + offsets + min(heads, 2) * HEAD_DIM
        return _bytes(rows * each + tables, precision)
    # products with the offsets and by channel, widened result; before it the widened three, after it its mass
    # per offset, the values' term, two sums, and the class token's term
    each = 3 * HEAD_DIM + _padded(offsets) + width - HEAD_DIM + width
    before = _bytes(rows * 3 * width, precision) + log_sums
    after = _bytes(rows * (_padded(offsets) + 3 * HEAD_DIM) + tokens * HEAD_DIM, precision)
    return _bytes(rows * each + tables, precision) + max(before, after)


def _padded(used: int) -> int:
    return used + 8 - used % 8


def _bytes(numbers: int, precision: str) -> int:
    return BYTES[precision] * numbers

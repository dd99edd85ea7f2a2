"""Compiled transformer blocks: one compilation per block shape, shared by all layers of a supernet or subnet.

A whole supernet has 1e11 shapes and more, its blocks have 18 (tiny) or 27 (small, base). So the block is
written as one function of its tensors, without modules, and that is compiled: a layer only supplies its
slices. Shapes are compiled when they are first met.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import HEAD_DIM
from .layers import Block, attention, mlp
from .relative_position import TokenGrid, offset_table

RECOMPILE_LIMIT = 256
"""Variants of one function that torch keeps: 27 shapes, in training and evaluation, with and without drop
path, at some batch sizes.
"""


class CompiledBlocks:
    """The state of `compile_blocks`.

    Attributes:
        shapes: each compiled shape, (tokens' shape, heads, hidden channels, …), and the seconds of its first
            forward.
        failure: why the blocks run uncompiled, or None.
    """

    def __init__(self, device: torch.device, report: Callable[[str], None], backend: str) -> None:
        self.shapes: dict[tuple[Any, ...], float] = {}
        self.failure: str | None = None
        self._report = report
        self._compiled: Callable[..., Tensor] = block_function
        try:
            _try_compiler(device, backend)
            self._compiled = torch.compile(block_function, dynamic=False, backend=backend)
        except Exception as error:  # whatever the compiler's toolchain raises
            self._fall_back(error)

    @property
    def seconds(self) -> float:
        """How long all first forwards took together."""
        return sum(self.shapes.values())

    def run(self, block: Block, x: Tensor) -> Tensor:
        """What `block(x)` computes."""
        masks = block.drop_path.mask(x), block.drop_path.mask(x)
        tensors = block_tensors(block)
        width = tensors["attn.proj.weight"].shape[1]
        norm: Any = block.norm1
        attn: Any = block.attn
        arguments: Any = (x, tensors, width // HEAD_DIM, norm.eps, attn.token_grid, *masks)
        if self.failure is not None:
            return block_function(*arguments)
        hidden = len(tensors["mlp.fc1.bias"])
        shape = (tuple(x.shape), width // HEAD_DIM, hidden, x.dtype, x.requires_grad, masks[0] is None)
        if shape in self.shapes:
            return self._compiled(*arguments)
        start = time.perf_counter()
        try:
            result = self._compiled(*arguments)
        except Exception as error:  # whatever the compiler's toolchain raises
            self._fall_back(error)
            return block_function(*arguments)
        self.shapes[shape] = time.perf_counter() - start
        self._report(
            f"compiled block shape {len(self.shapes)}: {x.shape[-1]} channels, {width // HEAD_DIM} heads, "
            f"{hidden} hidden, in {self.shapes[shape]:.1f} s ({self.seconds:.0f} s so far)"
        )
        return result

    def _fall_back(self, error: Exception) -> None:
        sentence = str(error).strip().split("\n")[0]
        self.failure = f"{type(error).__name__}: {sentence}"
        self._report(f"torch.compile does not work here ({self.failure}); the blocks run uncompiled.")


def compile_blocks(
    network: nn.Module, report: Callable[[str], None] = print, backend: str = "inductor"
) -> CompiledBlocks:
    """Let all blocks of a supernet or subnet run compiled, in place.

    The first forward of each shape compiles it, which takes seconds to a minute, and is reported. Where
    compiling fails, which a small function tries first, a sentence is reported and the blocks run as they
    did.

    Args:
        network: moved to its device already.
        report: takes the sentences.
        backend: of `torch.compile`.
    """
    _raise_recompile_limit()
    blocks = CompiledBlocks(next(network.parameters()).device, report, backend)
    for block in network.modules():
        if isinstance(block, Block) and blocks.failure is None:
            block.forward = functools.partial(blocks.run, block)  # type: ignore[method-assign]
    return blocks


def _raise_recompile_limit() -> None:
    config: Any = torch._dynamo.config
    for name in ("recompile_limit", "cache_size_limit", "accumulated_recompile_limit"):
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, max(getattr(config, name), RECOMPILE_LIMIT))


def _try_compiler(device: torch.device, backend: str) -> None:
    x = torch.ones(4, 8, device=device, requires_grad=True)
    torch.compile(lambda x: F.gelu(x).square().sum(), dynamic=False, backend=backend)(x).backward()


def block_tensors(block: Block) -> dict[str, Tensor]:
    """The tensors of a block under timm's key names: a plain one's own, or the slices that are set now."""
    tensors: dict[str, Tensor] = {}
    for name in ("norm1", "attn", "norm2", "mlp"):
        layer: Any = getattr(block, name)
        entangled = hasattr(layer, "current_tensors")
        parts = layer.current_tensors() if entangled else dict(layer.named_parameters())
        tensors |= {f"{name}.{key}": tensor for key, tensor in parts.items()}
    return tensors


def block_function(
    x: Tensor,
    tensors: Mapping[str, Tensor],
    num_heads: int,
    eps: float,
    grid: TokenGrid | None,
    attention_mask: Tensor | None,
    mlp_mask: Tensor | None,
) -> Tensor:
    """`Block.forward` as a function of its tensors.

    Args:
        x: (batch, tokens, channels).
        tensors: see `block_tensors`.
        num_heads: heads of 64 channels.
        eps: of the layer norms.
        grid: None for no relative position.
        attention_mask, mlp_mask: drop path's factors, see `DropPath.mask`.
    """

    def linear(name: str) -> Callable[[Tensor], Tensor]:
        return lambda x: F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps)

    def table(name: str) -> Tensor | None:
        if grid is None:
            return None
        prefix = f"attn.rel_pos_embed_{name}.embeddings_table_"
        return offset_table(tensors[f"{prefix}v"], tensors[f"{prefix}h"], grid)

    def add(x: Tensor, branch: Tensor, mask: Tensor | None) -> Tensor:
        return x + (branch if mask is None else branch * mask)

    attended = attention(
        norm("norm1", x), linear("attn.qkv"), linear("attn.proj"), num_heads, table("k"), table("v"), grid
    )
    x = add(x, attended, attention_mask)
    return add(x, mlp(norm("norm2", x), linear("mlp.fc1"), linear("mlp.fc2")), mlp_mask)

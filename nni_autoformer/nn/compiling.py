"""Compiled transformer blocks: one compilation per block shape, shared by all layers of a supernet or subnet.

A whole supernet has 1e11 shapes and more, its blocks have 18 (tiny) or 27 (small, base). So what is compiled
is one function of a block's tensors and sizes, without modules, slices included: a layer only supplies its
tensors. Shapes are compiled when they are first met.
"""

from __future__ import annotations

import functools
import logging
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import HEAD_DIM
from . import slicing
from .block import Block, TensorBlock
from .layers import masked
from .mixture import Mixture
from .relative_position import TokenGrid

_logger = logging.getLogger("nni_autoformer")


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
        self._backend = backend
        self._compiled: dict[tuple[Any, ...], Callable[..., Tensor]] = {}
        try:
            _try_compiler(device, backend)
        except Exception as error:  # whatever the compiler's toolchain raises
            self._fall_back(error)

    @property
    def seconds(self) -> float:
        """How long all first forwards took together."""
        return sum(self.shapes.values())

    def run(self, block: Block, places: Places, x: Tensor) -> Tensor:
        """What `block(x)` computes.

        Args:
            block: a plain or an entangled one.
            places: places of the block's tensors, see `places_of`.
            x: (batch, tokens, channels).
        """
        tensors: Any = {part: {} for part in PARTS}
        for part, key, owner, name in places:
            tensors[part][key] = owner._parameters[name]
        norm, attn, mlp = cast(Any, block.norm1), cast(Any, block.attn), cast(Any, block.mlp)
        entangled = hasattr(attn, "forward_argument")
        if entangled:
            heads, hidden = attn.forward_argument("num_heads"), mlp.forward_argument("hidden_features")
        else:
            heads = tensors["attn"]["proj.weight"].shape[1] // HEAD_DIM
            hidden = len(tensors["mlp"]["fc1.bias"])
        if isinstance(heads, Mixture) or isinstance(hidden, Mixture):
            return type(block).forward(block, x)
        masks = block.drop_path.mask(x), block.drop_path.mask(x)
        sizes = Sizes(x.shape[-1], heads, hidden, entangled)
        arguments: Any = (x, tensors, sizes, norm.eps, attn.token_grid, *masks)
        if self.failure is not None:
            return block_function(*arguments)
        shape = (tuple(x.shape), *sizes, x.dtype, x.requires_grad, masks[0] is None)
        if shape in self.shapes:
            return self._compiled[shape](*arguments)
        start = time.perf_counter()
        try:
            compiled = torch.compile(_copy_of(block_function), dynamic=False, backend=self._backend)
            result = compiled(*arguments)
        except Exception as error:  # whatever the compiler's toolchain raises
            self._fall_back(error)
            return block_function(*arguments)
        self._compiled[shape], self.shapes[shape] = compiled, time.perf_counter() - start
        self._report(
            f"compiled block shape {len(self.shapes)}: {x.shape[-1]} channels, {heads} heads, "
            f"{hidden} hidden, in {self.shapes[shape]:.1f} s ({self.seconds:.0f} s so far)"
        )
        return result

    def _fall_back(self, error: Exception) -> None:
        sentence = str(error).strip().split("\n")[0]
        self.failure = f"{type(error).__name__}: {sentence}"
        self._report(f"torch.compile does not work here ({self.failure}); the blocks run uncompiled.")


def compile_blocks(
    network: nn.Module,
    report: Callable[[str], None] = _logger.info,
    backend: str = "inductor",
    blocks: CompiledBlocks | None = None,
) -> CompiledBlocks:
    """Let all blocks of a supernet or subnet run compiled, in place.

    The first forward of each shape compiles it, which takes seconds to a minute, and is reported. Where
    compiling fails, which a small function tries first, a sentence is reported and the blocks run as they
    did.

    Args:
        network: moved to its device already.
        report: takes the sentences.
        backend: backend of `torch.compile`.
        blocks: what an earlier call gave: the shapes that it has compiled serve this network too.
    """
    blocks = blocks or CompiledBlocks(next(network.parameters()).device, report, backend)
    for block in network.modules():
        if isinstance(block, Block) and blocks.failure is None:
            block.forward = functools.partial(blocks.run, block, places_of(block))  # type: ignore[method-assign]
    return blocks


def _copy_of(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function with a code object of its own: torch keeps what it has compiled by code object, tries all of
    it one after the other at each call, and by default keeps no more than 8.
    """
    original: Any = function
    return types.FunctionType(original.__code__.replace(), original.__globals__, original.__name__)


def _try_compiler(device: torch.device, backend: str) -> None:
    x = torch.ones(4, 8, device=device, requires_grad=True)
    torch.compile(lambda x: F.gelu(x).square().sum(), dynamic=False, backend=backend)(x).backward()


class Sizes(NamedTuple):
    """What a block's tensors are cut to."""

    embed_dim: int
    num_heads: int
    hidden_features: int
    entangled: bool
    """The tensors are those of the largest block, in the supernet's layout."""


PARTS = ("norm1", "attn", "norm2", "mlp")

Places = list[tuple[str, str, nn.Module, str]]


def places_of(block: Block) -> Places:
    """Where a block's tensors are found, now and after they were replaced: the part, the key name in the
    plain part, and module and name there.
    """
    return [
        (part, f"{prefix}{'.' if prefix else ''}{name}", owner, name)
        for part in PARTS
        for prefix, owner in getattr(block, part).named_modules()
        for name, tensor in owner._parameters.items()
        if tensor is not None
    ]


Parts = dict[str, dict[str, Tensor]]
"""The tensors of each of a block's parts."""


def cut(whole: Parts, sizes: Sizes, relative_position: bool) -> Parts:
    """The plain block's tensors."""
    if not sizes.entangled:
        return whole
    embed_dim, num_heads, hidden_features, _ = sizes
    norm1, attn, norm2, mlp = (whole[part].__getitem__ for part in PARTS)
    return {
        "norm1": slicing.layer_norm(norm1, embed_dim),
        "attn": slicing.attention(attn, embed_dim, num_heads, relative_position),
        "norm2": slicing.layer_norm(norm2, embed_dim),
        "mlp": slicing.mlp(mlp, embed_dim, hidden_features),
    }


def block_function(
    x: Tensor,
    whole: Parts,
    sizes: Sizes,
    eps: float,
    token_grid: TokenGrid | None,
    attention_mask: Tensor | None,
    mlp_mask: Tensor | None,
) -> Tensor:
    """`Block.forward` as a function of its tensors.

    Args:
        x: (batch, tokens, channels).
        whole: the block's tensors under timm's key names.
        sizes: what they are cut to.
        eps: epsilon of the layer norms.
        token_grid: None for no relative position.
        attention_mask, mlp_mask: drop path's factors, see `DropPath.mask`.
    """
    masks = iter((attention_mask, mlp_mask))
    parts = cut(whole, sizes, token_grid is not None)
    return TensorBlock(parts, eps, token_grid, lambda branch: masked(branch, next(masks)))(x)

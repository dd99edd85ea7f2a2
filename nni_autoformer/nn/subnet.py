"""A finished subnet: one architecture as a plain PyTorch vision transformer with timm's key names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from ..space import ModelConfig
from .block import build_blocks
from .layers import Head, PatchEmbed, Tokens, add_tokens, drop_path_rates, outer_norms, pool
from .relative_position import TokenGrid, build_token_grid


class Subnet(nn.Module):
    """One architecture with weights of its own; needs neither the supernet nor NNI to load and run.

    Its state dict has the keys of timm's `VisionTransformer` (`patch_embed.proj`, `cls_token`, `pos_embed`,
    `blocks.{i}.norm1`, `attn.qkv`, `attn.proj`, `norm2`, `mlp.fc1`, `mlp.fc2`, `norm`, `head`; where the
    network has them, `norm_pre` and `fc_norm`) and, per block, four tables
    `attn.rel_pos_embed_{k,v}.embeddings_table_{v,h}`.

    Args:
        architecture: the sizes.
        model: the network around them.
        drop_path_rate: stochastic depth of the last layer of the supernet; earlier layers have less,
            linearly.
        supernet_depth: over how many layers the rate rises. The published code does not rescale it to the
            subnet's own depth, which is what None does.
        token_grid: grid of the patches, when it is built already.
    """

    def __init__(
        self,
        architecture: Architecture,
        model: ModelConfig = ModelConfig(),
        drop_path_rate: float = 0.0,
        supernet_depth: int | None = None,
        token_grid: TokenGrid | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.model = model
        self.global_pool = model.global_pool
        embed_dim = architecture.embed_dim
        self.patch_embed = PatchEmbed(embed_dim, model.patch_size, model.in_chans)
        tokens = Tokens(embed_dim, model.num_patches, model.absolute_position)
        self.cls_token, self.pos_embed = tokens.cls_token, tokens.pos_embed
        grid = token_grid or _grid(model)
        self.blocks = build_blocks(
            architecture, model.max_relative_position, grid, drop_path_rate, supernet_depth, model.norm_eps
        )
        self.norm_pre, self.norm, self.fc_norm = outer_norms(model, embed_dim)
        self.head = Head(embed_dim, model.num_classes)

    @classmethod
    def without_weights(cls, architecture: Architecture, model: ModelConfig = ModelConfig()) -> Subnet:
        """A subnet whose parameters have shapes and no content (torch's meta device)."""
        # the grid's tables are no weights, and on the meta device they would make torch import its compiler,
        # which takes as long as the rest of a trial
        grid = _grid(model)
        with torch.device("meta"):
            return cls(architecture, model, token_grid=grid)

    @classmethod
    def from_tensors(
        cls, architecture: Architecture, model: ModelConfig, tensors: Mapping[str, Tensor]
    ) -> Subnet:
        """A subnet with copies of given tensors, built without drawing initial weights first.

        Args:
            architecture: the sizes.
            model: the network around them.
            tensors: the whole state dict.
        """
        subnet = cls.without_weights(architecture, model)
        copies = {
            key: tensor.detach().clone(memory_format=torch.contiguous_format)
            for key, tensor in tensors.items()
        }
        subnet.load_state_dict(copies, assign=True)
        return subnet

    def set_drop_path(self, rate: float, supernet_depth: int | None = None) -> None:
        """Change the stochastic depth, see the class's arguments."""
        for block, own in zip(self.blocks, drop_path_rates(rate, supernet_depth or self.architecture.depth)):
            block.drop_path.rate = own  # type: ignore[union-attr]

    def forward_features(self, images: Tensor) -> Tensor:
        """(batch, in_chans, height, width) to normalised tokens (batch, 1 + patches, embed_dim)."""
        tokens = add_tokens(self.patch_embed(images), self.cls_token, self.pos_embed)
        return self.norm(self.blocks(self.norm_pre(tokens)))

    def forward_head(self, x: Tensor) -> Tensor:
        """Tokens to logits (batch, num_classes)."""
        return self.head(self.fc_norm(pool(x, self.global_pool)))

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, in_chans, height, width) to logits (batch, num_classes)."""
        return self.forward_head(self.forward_features(images))

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay besides biases and norms, as published."""
        return {"cls_token", "pos_embed"}

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """The layers for timm's layer-wise learning rates: as those of its `VisionTransformer`."""
        return {
            "stem": r"^cls_token|pos_embed|patch_embed|norm_pre",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }


def _grid(model: ModelConfig) -> TokenGrid | None:
    return build_token_grid(model.grid_size, model.max_relative_position, model.relative_position)

"""Weight entanglement (paper section 3.3): each layer of the supernet is one slice of its largest self.

A layer has three names. The plain one, from `layers.py` or `block.py`, is pure PyTorch. Its mutable twin
takes NNI's choices as sizes and is what the model space is written with. The entangled one stands in the
supernet: NNI's one-shot strategy puts it in the twin's place. Its one slicing rule, from `slicing.py`, gives
the tensors of the plain layer of the sampled sizes; the forward pass, NNI's freezing and the extraction of a
subnet all use it, so a subnet cannot differ from its supernet.

NNI's differentiable strategies set a distribution over sizes in place of a size. A layer then has the mixture
of its slices for weights, at its largest width; see `mixture.py`. With all weight on one size it gives what
the layer of that size gives, padded with zeros.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import nni.nas.strategy  # noqa: F401  (first: importing nni.nas.oneshot before it is a circular import)
import torch.nn.functional as F
from nni.mutable import MutableExpression
from nni.nas.nn.pytorch import ParametrizedModule
from nni.nas.oneshot.pytorch.supermodule.operation import MixedOperation
from torch import Tensor, nn

from . import slicing
from .block import Attention, BlockLayers, Mlp, TensorAttention, TensorMlp, layer_norm, linear
from .layers import Head, PatchEmbed, Tokens, add_tokens, patch_tokens
from .mixture import AnySize, Mixture, Size, as_size


class MutablePatchEmbed(ParametrizedModule, PatchEmbed, wraps=PatchEmbed):  # type: ignore[call-arg]
    """`PatchEmbed` with a choice for `embed_dim`."""


class MutableTokens(ParametrizedModule, Tokens, wraps=Tokens):  # type: ignore[call-arg]
    """`Tokens` with a choice for `embed_dim`."""


class MutableLayerNorm(ParametrizedModule, nn.LayerNorm, wraps=nn.LayerNorm):  # type: ignore[call-arg]
    """`LayerNorm` with a choice for `normalized_shape`."""


class MutableAttention(ParametrizedModule, Attention, wraps=Attention):  # type: ignore[call-arg]
    """`Attention` with choices for `embed_dim` and `num_heads`."""


class MutableMlp(ParametrizedModule, Mlp, wraps=Mlp):  # type: ignore[call-arg]
    """`Mlp` with choices for `embed_dim` and `hidden_features`."""


MUTABLE = BlockLayers(MutableLayerNorm, MutableAttention, MutableMlp)
"""What a block of the model space is made of."""


class MutableHead(ParametrizedModule, Head, wraps=Head):  # type: ignore[call-arg]
    """`Head` with a choice for `in_features`."""


class Entangled(MixedOperation):
    """What the entangled layers share: built at the largest sizes, sliced by one rule."""

    bound_type: ClassVar[type[nn.Module]]
    argument_list: ClassVar[list[str]]

    def sliced(self, *sizes: AnySize) -> dict[str, Tensor]:
        """The plain layer's tensors for the sizes of `argument_list`, under the plain layer's key names."""
        return self._rule(*map(as_size, sizes))

    @abstractmethod
    def _rule(self, *sizes: Size) -> dict[str, Tensor]:
        """The layer's function in `slicing.py`."""

    def _largest(self, key: str) -> Tensor:
        value: Any = self
        for name in key.split("."):
            value = getattr(value, name)
        return value

    def super_init_argument(self, name: str, value_choice: MutableExpression) -> int:
        """The largest choice: the size at which the layer is built."""
        return max(value_choice.grid())

    def simplify(self) -> dict[str, Any]:
        """The choices by label. NNI walks all children for it, and asks each time that a subnet is set."""
        if "_choices" not in self.__dict__:
            self.__dict__["_choices"] = super().simplify()
        return dict(self.__dict__["_choices"])

    def forward_argument(self, name: str) -> Any:
        """The size that is set now, which may be a mixture."""
        return as_size(super().forward_argument(name))

    def freeze_weight(self, **arguments: Any) -> dict[str, Tensor]:
        """What NNI loads into the plain layer when it freezes the space to one sample."""
        return self.sliced(*(arguments[name] for name in self.argument_list))

    def subnet_tensors(self, sample: Mapping[str, Any]) -> dict[str, Tensor]:
        """The plain layer's tensors for an NNI sample."""
        sizes = {
            name: self.mutable_arguments[name].freeze(dict(sample))
            if name in self.mutable_arguments
            else self.init_arguments[name]
            for name in self.argument_list
        }
        return self.sliced(*sizes.values())

    def implant(self, sample: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write the plain layer's tensors into an NNI sample's slice; the reverse of `subnet_tensors`."""
        for key, part in self.subnet_tensors(sample).items():
            part.copy_(tensors[key])


class EntangledPatchEmbed(Entangled, PatchEmbed):
    """The first `embed_dim` filters."""

    bound_type = MutablePatchEmbed
    argument_list = ["embed_dim"]

    def _rule(self, embed_dim: Size) -> dict[str, Tensor]:  # type: ignore[override]
        return slicing.patch_embed(self._largest, embed_dim)

    def forward_with_args(self, embed_dim: AnySize, images: Tensor) -> Tensor:
        tensors = self.sliced(embed_dim)
        return patch_tokens(images, tensors["proj.weight"], tensors["proj.bias"])


class EntangledTokens(Entangled, Tokens):
    """The first `embed_dim` channels."""

    bound_type = MutableTokens
    argument_list = ["embed_dim"]

    def _rule(self, embed_dim: Size) -> dict[str, Tensor]:  # type: ignore[override]
        return slicing.tokens(self._largest, embed_dim, self.pos_embed is not None)

    def forward_with_args(self, embed_dim: AnySize, patches: Tensor) -> Tensor:
        tensors = self.sliced(embed_dim)
        return add_tokens(patches, tensors["cls_token"], tensors.get("pos_embed"))


class EntangledLayerNorm(Entangled, nn.LayerNorm):
    """The first `normalized_shape` channels.

    A mixture is one of the layer's outputs, because each size has a mean and a deviation of its own. (NNI's
    `MixedLayerNorm` takes those of the largest size, whose zeros are not part of a narrower subnet.)
    """

    bound_type = MutableLayerNorm
    argument_list = ["normalized_shape"]

    def _rule(self, normalized_shape: Size) -> dict[str, Tensor]:  # type: ignore[override]
        return slicing.layer_norm(self._largest, normalized_shape)

    def forward_with_args(self, normalized_shape: AnySize, x: Tensor) -> Tensor:
        size = as_size(normalized_shape)
        if not isinstance(size, Mixture):
            return layer_norm(self.sliced(size), self.eps)(x)

        def padded(size: int) -> Tensor:
            return F.pad(self.forward_with_args(size, x[..., :size]), (0, x.shape[-1] - size))

        return size.sum(padded)


class EntangledAttention(Entangled, Attention):
    """The first `num_heads` heads on the first `embed_dim` channels; the relative position is used whole."""

    bound_type = MutableAttention
    argument_list = ["embed_dim", "num_heads"]

    def _rule(self, embed_dim: Size, num_heads: Size) -> dict[str, Tensor]:  # type: ignore[override]
        return slicing.attention(self._largest, embed_dim, num_heads, self.token_grid is not None)

    def implant(self, sample: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """As for the other layers; the qkv weight's slice is a copy, so its rows are interleaved here."""
        super().implant(sample, tensors)
        rows, embed_dim = tensors["qkv.weight"].shape
        interleaved = tensors["qkv.weight"].view(3, rows // 3, embed_dim).transpose(0, 1)
        self.qkv.weight[:rows, :embed_dim].copy_(interleaved.reshape(rows, embed_dim))

    def forward_with_args(self, embed_dim: AnySize, num_heads: AnySize, x: Tensor) -> Tensor:
        return TensorAttention(self.sliced(embed_dim, num_heads), self.token_grid)(x)


class EntangledMlp(Entangled, Mlp):
    """The first `hidden_features` hidden channels on the first `embed_dim` channels."""

    bound_type = MutableMlp
    argument_list = ["embed_dim", "hidden_features"]

    def _rule(self, embed_dim: Size, hidden_features: Size) -> dict[str, Tensor]:  # type: ignore[override]
        return slicing.mlp(self._largest, embed_dim, hidden_features)

    def forward_with_args(self, embed_dim: AnySize, hidden_features: AnySize, x: Tensor) -> Tensor:
        return TensorMlp(self.sliced(embed_dim, hidden_features))(x)


class EntangledHead(Entangled, Head):
    """All classes from the first `in_features` channels."""

    bound_type = MutableHead
    argument_list = ["in_features"]

    def _rule(self, in_features: Size) -> dict[str, Tensor]:  # type: ignore[override]
        return slicing.head(self._largest, in_features)

    def forward_with_args(self, in_features: AnySize, x: Tensor) -> Tensor:
        return linear(self.sliced(in_features))(x)


ENTANGLED_LAYERS: tuple[type[Entangled], ...] = (
    EntangledPatchEmbed,
    EntangledTokens,
    EntangledLayerNorm,
    EntangledAttention,
    EntangledMlp,
    EntangledHead,
)
"""Every entangled layer, for the mutation hooks of a model space."""

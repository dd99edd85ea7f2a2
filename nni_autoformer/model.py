"""The model space: AutoFormer written with NNI's mutable primitives, its supernet and its subnets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import nni
import torch
from nni.mutable import MutableExpression
from nni.nas.nn.pytorch import ModelSpace, Repeat
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from nni.nas.oneshot.pytorch.supermodule.differentiable import MixedOpDifferentiablePolicy
from nni.nas.strategy import RandomOneShot
from torch import Tensor

from .architecture import Architecture
from .nn.block import Block, build_block
from .nn.entangled import (
    ENTANGLED_LAYERS,
    MUTABLE,
    Entangled,
    MutableHead,
    MutableLayerNorm,
    MutablePatchEmbed,
    MutableTokens,
)
from .nn.layers import drop_path_rates, outer_norms, pool
from .nn.relative_position import build_token_grid
from .nn.subnet import Subnet
from .randomness import derive
from .space import SearchSpace


class AutoFormer(ModelSpace):
    """AutoFormer's search space as an NNI model space (paper section 3).

    Its mutables have the labels of NNI's hub: `embed_dim`, `depth`, and per layer `num_head_{i}` and
    `mlp_ratio_{i}`. A one-shot strategy turns the space in place into a supernet of entangled layers; from
    then on `set_architecture` chooses the subnet that runs and `extract` copies one out.

    Args:
        space: a search space, the name of a packaged one, or a YAML file.
        drop_path_rate: stochastic depth of the last layer; earlier layers have less, linearly.
    """

    def __init__(self, space: SearchSpace | str, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        space = space if isinstance(space, SearchSpace) else SearchSpace.load(space)
        model = space.model
        self.space = space
        self.drop_path_rate = drop_path_rate
        embed_dim = nni.choice("embed_dim", list(space.embed_dim))
        depth = nni.choice("depth", list(space.depth))
        grid = build_token_grid(model.grid_size, model.max_relative_position, model.relative_position)
        rates = drop_path_rates(drop_path_rate, space.max_depth)

        def block(i: int) -> Block:
            num_heads = nni.choice(f"num_head_{i}", list(space.num_heads))
            mlp_ratio = nni.choice(f"mlp_ratio_{i}", list(space.mlp_ratio))
            hidden_features = MutableExpression.to_int(embed_dim * mlp_ratio)
            sizes = embed_dim, num_heads, hidden_features
            offsets, eps = model.max_relative_position, model.norm_eps
            return build_block(*sizes, offsets, grid, rates[i], MUTABLE, eps)

        self.patch_embed = MutablePatchEmbed(embed_dim, model.patch_size, model.in_chans)
        self.tokens = MutableTokens(embed_dim, model.num_patches, model.absolute_position)
        self.blocks = Repeat(block, depth)
        self.norm_pre, self.norm, self.fc_norm = outer_norms(model, embed_dim, MutableLayerNorm)
        self.head = MutableHead(embed_dim, model.num_classes)

    @classmethod
    def extra_oneshot_hooks(cls, strategy: object) -> list:
        """The mutation hooks that NNI's one-shot strategies call: they put the entangled layers in place."""
        return [layer.mutate for layer in ENTANGLED_LAYERS]

    def forward_features(self, images: Tensor) -> Tensor:
        """(batch, in_chans, height, width) to normalised tokens (batch, 1 + patches, embed_dim)."""
        return self.norm(self.blocks(self.norm_pre(self.tokens(self.patch_embed(images)))))

    def forward_head(self, x: Tensor) -> Tensor:
        """Tokens to logits (batch, num_classes)."""
        return self.head(self.fc_norm(pool(x, self.space.model.global_pool)))

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, in_chans, height, width) to logits (batch, num_classes) of the chosen subnet."""
        return self.forward_head(self.forward_features(images))

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay besides biases and norms, as published."""
        return {"tokens.cls_token", "tokens.pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """The layers for timm's layer-wise learning rates: as those of its `VisionTransformer`."""
        return {
            "stem": r"^(?:patch_embed|tokens|norm_pre)\.",
            "blocks": [(r"^blocks\.blocks\.(\d+)", None), (r"^norm\.", (99999,))],
        }

    # As a supernet

    def set_architecture(self, architecture: Architecture) -> None:
        """Choose the subnet that the next forward passes run.

        Raises:
            ConfigError: the architecture is not in the space.
            RuntimeError: the space has not been turned into a supernet, or into one that mixes all subnets.
        """
        self.space.require(architecture)
        modules = self._supernet_modules()
        if isinstance(self.patch_embed.sampling_policy, MixedOpDifferentiablePolicy):
            raise RuntimeError(
                "A differentiable strategy has made this supernet: it runs a mixture of all subnets, and no "
                "single one can be set. extract(architecture) gives a subnet."
            )
        sample = architecture.to_sample(self.space.max_depth)
        for module in modules:
            module.resample(sample)

    def _supernet_modules(self) -> list[BaseSuperNetModule]:
        # kept outside of nn.Module's bookkeeping: walking all modules costs more than setting the choices
        modules: list[BaseSuperNetModule] | None = self.__dict__.get("_choosing_modules")
        if modules is None:
            modules = [module for module in self.modules() if isinstance(module, BaseSuperNetModule)]
            if not modules:
                raise RuntimeError(
                    "This AutoFormer is a model space, not yet a supernet: use build_supernet(space), or a "
                    "one-shot "
                    "strategy's mutate_model, first."
                )
            self.__dict__["_choosing_modules"] = modules
        return modules

    def extract(self, architecture: Architecture) -> Subnet:
        """A subnet with its own copy of the weights, as a plain module in timm's layout.

        Gives the supernet's logits for this architecture; device, dtype and training mode are the supernet's.

        Raises:
            ConfigError: the architecture is not in the space.
            RuntimeError: the space has not been turned into a supernet.
        """
        sample = architecture.to_sample(self.space.max_depth)
        tensors = {
            _subnet_key(f"{name}.{key}"): tensor.detach()
            for name, layer in self._layers_of(architecture)
            for key, tensor in layer.subnet_tensors(sample).items()
        }
        subnet = Subnet(architecture, self.space.model, self.drop_path_rate, self.space.max_depth)
        subnet.to(next(iter(tensors.values())))
        subnet.load_state_dict(tensors)
        return subnet.train(self.training)

    @torch.no_grad()
    def implant(self, subnet: Subnet) -> None:
        """Write a subnet's weights into its slices of the supernet; the reverse of `extract`.

        Raises:
            ConfigError: the architecture is not in the space.
            RuntimeError: the space has not been turned into a supernet.
        """
        architecture = subnet.architecture
        sample = architecture.to_sample(self.space.max_depth)
        tensors = subnet.state_dict()
        for name, layer in self._layers_of(architecture):
            prefix = f"{name}."
            parts = {key: tensors[_subnet_key(prefix + key)] for key in layer.subnet_tensors(sample)}
            layer.implant(sample, parts)

    def _layers_of(self, architecture: Architecture) -> Iterator[tuple[str, Entangled]]:
        self._supernet_modules()
        self.space.require(architecture)
        for name, module in self.named_modules():
            path = name.split(".")
            beyond = path[0] == "blocks" and len(path) > 2 and int(path[2]) >= architecture.depth
            if isinstance(module, Entangled) and not beyond:
                yield name, module


def _subnet_key(key: str) -> str:
    return key.replace("blocks.blocks.", "blocks.", 1).removeprefix("tokens.")


def entangle(model_space: AutoFormer, mutate: Callable[[AutoFormer], AutoFormer], seed: int) -> AutoFormer:
    """Turn a model space into a supernet, in place, with initial weights that the seed alone decides.

    Args:
        model_space: the space; NNI's mutation builds every layer anew, so weights that it has are lost.
        mutate: a one-shot strategy's `mutate_model`.
        seed: random seed of the initial weights; torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        return mutate(model_space)


def build_supernet(space: SearchSpace | str, seed: int = 0, drop_path_rate: float = 0.0) -> AutoFormer:
    """The supernet of a space with fresh weights, without running an experiment.

    Args:
        space: a search space, the name of a packaged one, or a YAML file.
        seed: random seed of the initial weights; torch's global generator is left as it was.
        drop_path_rate: stochastic depth of the last layer.
    """
    with torch.random.fork_rng(devices=[]):  # the model space has weights too, which the mutation throws away
        return entangle(AutoFormer(space, drop_path_rate), RandomOneShot().mutate_model, seed)

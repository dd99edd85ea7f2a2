"""AutoFormer in timm: importing this module registers the published architectures and a generic one.

    import nni_autoformer.registry
    timm.create_model("autoformer_small_patch16_224", num_classes=37, img_size=384)
    timm.create_model("autoformer", checkpoint_path="t.safetensors")
    timm.create_model("autoformer", architecture="runs/c10-search/best.yaml")

The models are timm's `VisionTransformer` with AutoFormer's blocks, so everything that timm offers for one
works, and their state dict is that of `Subnet`: a file that `nni-autoformer convert --to timm` writes loads
as it is. It says which network it holds, and so does the best.yaml of a search.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import resample_abs_pos_embed
from timm.models import build_model_with_cfg, create_model, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .architecture import MODEL_KEY, Architecture
from .checkpoints import Checkpoint, Header
from .checkpoints.header import own_header
from .checkpoints.layouts import hub_to_timm, recognise
from .checkpoints.resize import require_way, resample_table, stretched
from .data.transforms import crop_of
from .errors import ConfigError
from .files import read_yaml
from .nn.block import Attention, build_blocks
from .nn.layers import init_linear
from .nn.relative_position import TokenGrid, build_token_grid
from .space import ModelConfig, SearchSpace


class AutoFormerViT(VisionTransformer):
    """A subnet as timm's `VisionTransformer`: per-layer heads and MLP widths, 2-D relative position in the
    blocks.

    Args:
        architecture: an `Architecture`, its dict, or a YAML file.
        relative_position: 2-D relative position on keys and values.
        max_relative_position: offsets beyond it share the table row of the farthest.
        absolute_position: a learned position embedding.
        drop_path_rate: stochastic depth of the last layer of the supernet; earlier layers have less,
            linearly.
        supernet_depth: over how many layers the rate rises; None for the architecture's own.
        global_pool, norm_eps, pre_norm, fc_norm: see `ModelConfig`.
        kwargs: further arguments, as for `VisionTransformer`; sizes come from the architecture.

    Raises:
        ConfigError: the architecture is missing or malformed.
    """

    def __init__(
        self,
        architecture: Architecture | Mapping[str, Any] | str | Path,
        *,
        relative_position: bool = True,
        max_relative_position: int = 14,
        absolute_position: bool = True,
        drop_path_rate: float = 0.0,
        supernet_depth: int | None = None,
        global_pool: str = "avg",
        norm_eps: float = 1e-5,
        pre_norm: bool = False,
        fc_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        chosen = as_architecture(architecture)
        super().__init__(
            embed_dim=chosen.embed_dim,
            depth=1,  # timm's uniform block is replaced below
            num_heads=1,
            global_pool=global_pool,
            pre_norm=pre_norm,
            fc_norm=fc_norm,
            pos_embed="learn" if absolute_position else "none",
            norm_layer=partial(nn.LayerNorm, eps=norm_eps),
            **kwargs,
        )
        if pre_norm:  # timm leaves out a bias there, which a norm of single tokens does not take away
            projection = self.patch_embed.proj
            projection.bias = nn.Parameter(torch.zeros(chosen.embed_dim))
        self.architecture = chosen
        self.max_relative_position = max_relative_position
        grid = build_token_grid(self.patch_embed.grid_size, max_relative_position, relative_position)
        self.blocks = build_blocks(
            chosen, max_relative_position, grid, drop_path_rate, supernet_depth, norm_eps
        )
        reduction = self.patch_embed.feat_ratio()
        self.feature_info = [
            {"module": f"blocks.{i}", "num_chs": chosen.embed_dim, "reduction": reduction}
            for i in range(chosen.depth)
        ]
        if isinstance(self.head, nn.Linear):
            init_linear(self.head)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def set_input_size(
        self,
        img_size: int | tuple[int, int] | None = None,
        patch_size: int | tuple[int, int] | None = None,
        relative_position: str = "interpolate",
    ) -> None:
        """Change the image or patch size, in place; a size that is not new changes no bit.

        Args:
            img_size, patch_size: None leaves it as it is.
            relative_position: 'interpolate' stretches the tables with the grid: the row of pairs with the
                class token is copied, the others are interpolated linearly along the offset. 'clip' leaves
                the tables, and offsets beyond them share the farthest row.

        Raises:
            ConfigError: `relative_position` is neither of these.
        """
        require_way(relative_position)
        before = self.patch_embed.grid_size
        size = (img_size, img_size) if isinstance(img_size, int) else img_size
        super().set_input_size(size, patch_size)
        after = self.patch_embed.grid_size
        layers = [module for module in self.modules() if isinstance(module, Attention)]
        if after == before or layers[0].token_grid is None:
            return
        if relative_position == "interpolate":
            tables = {name: p.data for name, p in self.named_parameters() if "embeddings_table" in name}
            tables, self.max_relative_position = stretched(tables, self.max_relative_position, before, after)
            for name, table in tables.items():
                owner, _, end = name.rpartition(".")
                setattr(self.get_submodule(owner), end, nn.Parameter(table))
        grid = TokenGrid(after, self.max_relative_position).to(self.cls_token.device)
        for layer in layers:
            layer.token_grid = grid


def as_architecture(value: Architecture | Mapping[str, Any] | str | Path) -> Architecture:
    """An architecture from what a user has: the object, its dict, or a YAML file.

    Raises:
        ConfigError: it is none of these, or malformed.
    """
    if isinstance(value, Architecture):
        return value
    if isinstance(value, Mapping):
        return Architecture.from_dict(value)
    return Architecture.from_yaml(value)


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: AutoFormerViT) -> dict[str, Tensor]:
    """Make a checkpoint fit a model: NNI's hub layout is translated, and position embedding and relative
    tables of another image size are resampled.
    """
    tensors = dict(state_dict.get("model", state_dict))  # type: ignore[arg-type]
    if recognise(tensors) == "hub subnet":
        tensors = hub_to_timm(tensors)
    own = model.state_dict()
    side = None
    for key, tensor in tensors.items():
        if key == "pos_embed" and tensor.shape[1] != own[key].shape[1]:
            side = int((tensor.shape[1] - 1) ** 0.5)
            tensors[key] = resample_abs_pos_embed(
                tensor, new_size=list(model.patch_embed.grid_size), old_size=[side, side], num_prefix_tokens=1
            )
    for key, tensor in tensors.items():
        if "embeddings_table" in key and key in own and tensor.shape != own[key].shape:
            axis = 0 if key.endswith("_v") else 1
            old = (len(tensor) - 2) // 2
            new = (len(own[key]) - 2) // 2
            step = side / model.patch_embed.grid_size[axis] if side else old / new
            tensors[key] = resample_table(tensor, new, step)
    return tensors


def _cfg(**kwargs: Any) -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "fixed_input_size": True,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "license": "mit",
        "paper_ids": "arXiv:2107.00651",
        "paper_name": "AutoFormer: Searching Transformers for Visual Recognition",
        "origin_url": "https://github.com/microsoft/Cream/tree/main/AutoFormer",
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        "autoformer_tiny_patch16_224": _cfg(),
        "autoformer_small_patch16_224": _cfg(),
        "autoformer_base_patch16_224": _cfg(),
        "autoformer": _cfg(),
    }
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> AutoFormerViT:
    return build_model_with_cfg(
        AutoFormerViT,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": kwargs.pop("out_indices", 3), "feature_cls": "getter"},
        **kwargs,
    )


def _published(variant: str, space: str, pretrained: bool, **kwargs: Any) -> AutoFormerViT:
    loaded = SearchSpace.load(space)
    defaults = {"architecture": loaded.architectures["published"], "supernet_depth": loaded.max_depth}
    return _create(variant, pretrained, **{**defaults, **kwargs})


@register_model
def autoformer_tiny_patch16_224(pretrained: bool = False, **kwargs: Any) -> AutoFormerViT:
    """The published AutoFormer-T: 5.868 M parameters, 75.3 % top-1 with inherited weights."""
    return _published("autoformer_tiny_patch16_224", "tiny", pretrained, **kwargs)


@register_model
def autoformer_small_patch16_224(pretrained: bool = False, **kwargs: Any) -> AutoFormerViT:
    """The published AutoFormer-S: 22.891 M parameters, 81.7 % top-1 with inherited weights."""
    return _published("autoformer_small_patch16_224", "small", pretrained, **kwargs)


@register_model
def autoformer_base_patch16_224(pretrained: bool = False, **kwargs: Any) -> AutoFormerViT:
    """The published AutoFormer-B: 53.692 M parameters, 82.4 % top-1 with inherited weights."""
    return _published("autoformer_base_patch16_224", "base", pretrained, **kwargs)


@register_model
def autoformer(pretrained: bool = False, **kwargs: Any) -> AutoFormerViT:
    """Any architecture, around the network that its file names: a checkpoint of one subnet as
    `checkpoint_path`, whose weights timm then loads, or as `architecture` a YAML file, an `Architecture` or
    its dict. Other arguments come before what a file says.
    """
    path = _checkpoint_path()
    header = None if path is None else _header(Path(path), needed="architecture" not in kwargs)
    if "architecture" not in kwargs and header is None:
        raise ConfigError(
            "timm.create_model('autoformer') needs the network: checkpoint_path=…, the file of one subnet, "
            "or architecture=…, a YAML file, a dict or an Architecture."
        )
    network = {} if header is None else {"architecture": header.subnet, **header.space.model.to_dict()}
    network |= _named_network(kwargs.get("architecture"))
    told = {name: value for name, value in kwargs.items() if value is not None}
    if network:
        images = {} if header is None else _images_of(header)
        told = {**network, **told}
        told["pretrained_cfg_overlay"] = _sizes_of(told) | images | told.get("pretrained_cfg_overlay", {})
    return _create("autoformer", pretrained, **told)


def _checkpoint_path() -> str | None:
    """The file that `timm.create_model` is going to load. It tells an entry point nothing of it, and only the
    file knows the sizes of its network.
    """
    code, frame = inspect.unwrap(create_model).__code__, inspect.currentframe()
    while frame is not None:
        if frame.f_code is code:
            path = frame.f_locals.get("checkpoint_path")
            return None if not path else str(path)
        frame = frame.f_back
    return None


def _header(path: Path, needed: bool) -> Header | None:
    """What a checkpoint says of itself.

    Args:
        path: the file.
        needed: nothing else names the network, so it is taken from the tensors where no header does.

    Raises:
        ConfigError: the file is missing or damaged, or holds something else than one subnet in timm's layout.
    """
    header = own_header(path)
    if header is None and needed:
        header = Checkpoint(path).header
    if header is not None and header.kind not in ("subnet", "timm subnet"):
        raise ConfigError(
            f"{path}: the file holds a {header.kind}, and timm loads one subnet: nni-autoformer convert --to "
            "timm --architecture … writes it."
        )
    return header


def _named_network(architecture: Any) -> dict[str, Any]:
    """The network that the YAML file of an architecture names; nothing where it names none."""
    if not isinstance(architecture, (str, Path)):
        return {}
    content = read_yaml(architecture)
    if MODEL_KEY not in content:
        return {}
    model, source = content[MODEL_KEY], f"{architecture}: {MODEL_KEY}"
    if not isinstance(model, Mapping):
        raise ConfigError(f"{source} should hold keys with values.")
    return ModelConfig.from_dict(model, source).to_dict()


def _sizes_of(network: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of a model, by the names in timm's configuration, which its transforms are made from."""
    size = network["img_size"]
    height, width = (size, size) if isinstance(size, int) else size
    return {"input_size": (network["in_chans"], height, width), "num_classes": network["num_classes"]}


def _images_of(header: Header) -> dict[str, Any]:
    """How a checkpoint's images are prepared and what its logits mean, by the names in timm's
    configuration.
    """
    run = header.run
    facts = {
        "mean": run.mean,
        "std": run.std,
        "crop_pct": crop_of(header.space.model, run.crop_pct),
        "interpolation": run.interpolation,
        "label_names": run.classes,
    }
    return {key: value for key, value in facts.items() if value is not None}

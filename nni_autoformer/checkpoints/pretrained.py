"""What a supernet may start from: our own and published supernets, single subnets, and timm's plain ViTs.
Each is opened as one plain network, which the largest subnet is to be.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import timm
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from ..architecture import HEAD_DIM
from ..errors import ConfigError
from ..nn.subnet import Subnet
from ..space import SearchSpace
from .checkpoint import Checkpoint
from .foreign import IMAGENET, OURS_IN_TIMM
from .header import own_header
from .layouts import recognise
from .reading import read_foreign
from .run_facts import RunFacts
from .shapes import require_shapes
from .timm_vit import require_same, subnet_of
from .wrappers import Weights

_logger = logging.getLogger("nni_autoformer")

TIMM, LOCAL = "timm:", "local-dir:"
FORMS = "a file, timm:NAME, NAME=FILE with a model of timm, or local-dir:FOLDER"

EPS = 1e-6
"""Epsilon of the norms of timm's plain vision transformers, which leaves no trace in the tensors."""


@dataclass(frozen=True)
class Source:
    """A trained network.

    Attributes:
        word: what the user has called it.
        told: what it is, in words.
        subnet: the network, in float64 and evaluation mode.
        run: what is known of its training.
        space: search space of a supernet; None for a single network.
        headless: it gives features and no logits; the head of `subnet` is zero.
        differences: largest difference of `subnet`'s logits from those of timm's network, in float32 and
            float64; None for a file whose tensors are a subnet's own, and where no weights were asked for.
        file: the file that was read, if it is one.
        place: file or folder that the word names, if it names one.
    """

    word: str
    told: str
    subnet: Subnet
    run: RunFacts
    space: SearchSpace | None = None
    headless: bool = False
    differences: tuple[float, float] | None = None
    file: Path | None = None
    place: Path | None = None


def open_source(
    word: str, space: SearchSpace | None = None, *, use_ema: bool = False, weights: bool = True
) -> Source:
    """Open a trained network.

    Args:
        word: a file, `timm:NAME`, `NAME=FILE` or `local-dir:FOLDER`; without `weights` also a name of timm's.
        space: search space that is trained; says what a supernet without a header is, and how a ViT pools
            whose file does not tell.
        use_ema: take the moving average of the weights from a foreign file that holds plain ones, too.
        weights: load them; else the sizes alone count where a name gives them.

    Raises:
        ConfigError: there is no such file or model, its weights do not fit it or cannot be fetched, or it has
            a part that no subnet has.
    """
    name, equals, file = word.partition("=")
    if word.startswith(LOCAL):
        folder = Path(word.removeprefix(LOCAL))
        source = _of_timm(word, word, pretrained=weights)
        return replace(source, place=folder, file=_weights_in(folder))
    if word.startswith(TIMM):
        return _of_timm(word, word.removeprefix(TIMM), pretrained=weights)
    if equals and not Path(word).exists():
        _require_model(word, name)
        return _of_file_as(word, name, Path(file), use_ema)
    path = Path(word)
    if not path.exists() and timm.is_model(word):
        if weights:
            raise ConfigError(
                f"--from {word}: there is no such file. timm has a model of this name: timm:{word} takes its "
                f"pretrained weights, {word}=FILE those of a file."
            )
        return _of_timm(word, word, pretrained=False)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is neither a file nor a model of timm"
        hint = f"; local-dir:{word} is one in the format of timm's hub" if path.is_dir() else ""
        raise ConfigError(f"--from {word} {what}{hint}. It should be {FORMS}.")
    return _of_file(word, path, space, use_ema)


def _require_model(word: str, name: str) -> None:
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        more = f"; near are {', '.join(near)}" if near else ""
        raise ConfigError(f"--from {word}: timm has no model '{name}'{more}.")


def _weights_in(folder: Path) -> Path | None:
    """The file of weights in a folder of timm's hub."""
    names = "model.safetensors", "pytorch_model.bin"
    return next((folder / name for name in names if (folder / name).is_file()), None)


# By a name of timm's


def _of_timm(word: str, name: str, pretrained: bool) -> Source:
    if not name.startswith(LOCAL):
        _require_model(word, name.partition(".")[0])
    try:
        network = timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # timm's hub says it in many ways
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        model = name.partition(".")[0]
        hint = "" if name.startswith(LOCAL) else f"; give a file of weights as {model}=FILE"
        raise ConfigError(
            f"--from {word}: timm cannot make it{' with its weights' if pretrained else ''} ({reason}){hint}."
        ) from None
    return _source(word, f"timm's {name}", network, check=pretrained)


def _of_file_as(word: str, name: str, path: Path, use_ema: bool) -> Source:
    """A file of weights of a model that is named."""
    if not path.is_file():
        raise ConfigError(f"--from {word}: there is no file {path}.")
    return _loaded(word, path, name, read_foreign(path, use_ema), {})


def _source(word: str, told: str, network: nn.Module, file: Path | None = None, check: bool = True) -> Source:
    network = network.eval()
    subnet = subnet_of(network, f"--from {word}")
    differences = require_same(network, subnet, f"--from {word}") if check else None
    config: Mapping[str, Any] = getattr(network, "pretrained_cfg", {}) or {}
    headless = not isinstance(getattr(network, "head", None), nn.Linear)
    facts = ("mean", "std", "crop_pct", "interpolation")
    run = RunFacts.from_dict({key: config[key] for key in facts if config.get(key) is not None}, word)
    if len(run.mean or ()) not in (0, 1, subnet.model.in_chans):
        run = replace(run, mean=None, std=None)
    return Source(word, told, subnet, run, None, headless, differences, file, file)


# By a file


def _of_file(word: str, path: Path, space: SearchSpace | None, use_ema: bool) -> Source:
    expected = None  # our own files say it, and the space that is trained may be for other images
    if own_header(path) is None:
        weights = read_foreign(path, use_ema)
        if recognise(weights.tensors) == "timm subnet" and not _is_ours(weights):
            arch = weights.trained_with.get("arch", weights.trained_with.get("model"))
            if isinstance(arch, str) and timm.is_model(arch):
                return _loaded(word, path, arch, weights, {})
            return _loaded(word, path, None, weights, _unsaid(path, weights.tensors, space))
        expected = None if space is None else _for_its_images(space, weights.tensors)
    checkpoint = Checkpoint(path, expected, use_ema=use_ema)
    header = checkpoint.header
    of_supernet = header.of_supernet
    subnet = checkpoint.subnet(header.space.largest if of_supernet else None).double()
    itself = header.space if of_supernet else None
    return Source(word, f"the {header.kind}", subnet, header.run, itself, file=path, place=path)


def _for_its_images(space: SearchSpace, tensors: Mapping[str, Tensor]) -> SearchSpace:
    """The space with the image size of a file's position embedding, where that is of a square."""
    position = next((tensors[key] for key in ("pos_embed", "pos_embed.pos_embed") if key in tensors), None)
    patches = 0 if position is None or position.ndim != 3 else position.shape[1] - 1
    side = space.model.patch_size * math.isqrt(max(patches, 0))
    square = patches > 0 and math.isqrt(patches) ** 2 == patches
    if not square or patches == space.model.num_patches:
        return space
    return space.with_model(img_size=(side, side))


def _is_ours(weights: Weights) -> bool:
    name = weights.trained_with.get("arch", weights.trained_with.get("model"))
    named = isinstance(name, str) and name.lower().startswith(OURS_IN_TIMM)
    return named or any("embeddings_table" in key for key in weights.tensors)


def _unsaid(path: Path, tensors: Mapping[str, Tensor], space: SearchSpace | None) -> dict[str, Any]:
    """What leaves no trace in a ViT's tensors: pooling, heads and norms, as timm's plain ViTs have them."""
    pool = "avg" if "fc_norm.weight" in tensors else "token" if space is None else space.model.global_pool
    what = "the mean of the patches" if pool == "avg" else "the class token"
    parts = [f"heads have {HEAD_DIM} channels", f"norms have eps {EPS:g}", f"{what} is pooled"]
    patches = tensors.get("patch_embed.proj.weight")
    if patches is not None and patches.ndim > 1 and patches.shape[1] == len(IMAGENET.mean or ()):
        parts.append("images are normalised as ImageNet's")
    _logger.warning(
        f"{path}: the file does not say all of its network. Assumed: {'; '.join(parts)}. NAME=FILE says "
        "which model of timm it is."
    )
    return {"global_pool": pool}


def _loaded(word: str, path: Path, name: str | None, weights: Weights, more: Mapping[str, Any]) -> Source:
    """A network of timm with the weights of a file."""
    tensors, whose = weights.tensors, f"--from {word}"
    try:
        sizes = _sizes(tensors)
        if name is None:
            network = VisionTransformer(**sizes, **_layers(tensors), **more)
        else:
            told = {key: sizes[key] for key in ("num_classes", "in_chans")}
            network = cast(VisionTransformer, timm.create_model(name, pretrained=False, **told))
            if isinstance(network, VisionTransformer) and network.pos_embed is not None:
                network.set_input_size(sizes["img_size"])
    except (KeyError, IndexError, ValueError, AssertionError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"{whose}: the tensors are not those of a plain ViT ({type(error).__name__}: {str(error)[:150]})."
        ) from None
    fitted = checkpoint_filter_fn(dict(tensors), network) if type(network) is VisionTransformer else tensors
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    require_shapes(path, fitted, wanted, name or "a plain ViT of its sizes")
    network.load_state_dict(dict(fitted))
    if name is None:
        network.pretrained_cfg = {
            key: getattr(IMAGENET, key) for key in ("mean", "std", "crop_pct", "interpolation")
        }
    return _source(word, f"the weights of {name or 'a plain ViT'} in {path}", network, path)


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    patches = tensors["patch_embed.proj.weight"]
    embed_dim, channels, side = len(patches), patches.shape[1], patches.shape[-1]
    depth = sum(key.endswith(".attn.qkv.weight") for key in tensors)
    hidden = len(tensors["blocks.0.mlp.fc1.weight"])
    position = tensors.get("pos_embed")
    prefix = sum(len(tensors[key][0]) for key in ("cls_token", "reg_token", "dist_token") if key in tensors)
    grid = 224 // side
    no_class = False
    if position is not None:
        count = position.shape[1]
        no_class = round(count**0.5) ** 2 == count  # as long as the patches alone
        grid = round((count - (0 if no_class else prefix)) ** 0.5)
    head = tensors.get("head.weight")
    return {
        "img_size": (grid * side, grid * side),
        "patch_size": side,
        "in_chans": channels,
        "num_classes": 0 if head is None else len(head),
        "embed_dim": embed_dim,
        "depth": depth,
        "mlp_ratio": (hidden + 0.5) / embed_dim,
        "no_embed_class": no_class,
        "pos_embed": "none" if position is None else "learn",
    }


def _layers(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The optional layers that the names of a file's tensors tell of."""
    width = len(tensors["blocks.0.attn.qkv.weight"]) // 3
    if width % HEAD_DIM:
        raise ValueError(f"queries have {width} channels, which are no heads of {HEAD_DIM}")
    registers = tensors.get("reg_token", tensors.get("register_tokens"))
    return {
        "num_heads": width // HEAD_DIM,
        "qkv_bias": "blocks.0.attn.qkv.bias" in tensors,
        "proj_bias": "blocks.0.attn.proj.bias" in tensors,
        "qk_norm": "blocks.0.attn.q_norm.weight" in tensors,
        "init_values": 1.0 if "blocks.0.ls1.gamma" in tensors else None,
        "class_token": "cls_token" in tensors,
        "reg_tokens": 0 if registers is None else registers.shape[1],
        "pre_norm": "norm_pre.weight" in tensors,
        "fc_norm": "fc_norm.weight" in tensors,
    }

"""Other people's files, which have no header: what they are is taken from their tensors and from the
training's arguments beside them; what neither tells is assumed aloud, or refused.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import ConfigError
from ..space import POOLS, ModelConfig, SearchSpace
from .beside import header_beside
from .header import Header, one_point_space
from .layouts import describe_subnet, hub_to_timm, recognise
from .reading import read_foreign
from .run_facts import RunFacts
from .shapes import fitting_spaces
from .wrappers import Weights

log = logging.getLogger("nni_autoformer")

IMAGENET = RunFacts(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_pct=0.875, interpolation="bicubic"
)
"""How the published networks, and NNI's hub, want their images: short side 256 bicubic, centre crop 224."""

UNSUPPORTED = (
    ("change_qkv", False, "without change_qkv, so heads are of other widths in every subnet"),
    ("change_qk", False, "without change_qk, so heads are of other widths in every subnet"),
    ("post_norm", True, "with post_norm, the norms behind attention and MLP"),
    ("pre_norm", False, "without pre_norm, the norms behind attention and MLP"),
    ("scale", True, "with scale, embeddings multiplied by their width"),
)
"""Arguments of the published code that leave no trace in the tensors, the value that is not supported here,
and what it means.
"""

OURS_IN_TIMM = "autoformer"
"""How timm's names of our networks begin, see `registry`."""


def open_foreign(
    path: Path, space: SearchSpace | None = None, use_ema: bool = False
) -> tuple[Header, dict[str, Tensor]]:
    """What a file without a header of ours is, and its tensors.

    Args:
        path: the file.
        space: search space of a supernet, which its file does not say.
        use_ema: take the moving average of the weights where there are plain ones, too.

    Raises:
        ConfigError: the file is no checkpoint, or of a network that cannot be represented here, or the space
            is missing.
    """
    weights = read_foreign(path, use_ema)
    header = header_beside(path)
    if header is None or header.kind != recognise(weights.tensors):
        return foreign_header(path, weights, space), weights.tensors
    if space is not None and header.of_supernet:
        say_differences(path, space.model, header.space.model)
    return header, weights.tensors


def foreign_header(path: Path, weights: Weights, space: SearchSpace | None) -> Header:
    """What a file without a header of ours is.

    Args:
        path: file, for messages.
        weights: what the file holds.
        space: search space of a supernet, which its file does not say.

    Raises:
        ConfigError: the network is none that can be represented here, or the space is missing.
    """
    kind = recognise(weights.tensors)
    assert kind is not None, "reading.read_foreign refuses what is not recognised"
    _require_supported(path, weights.trained_with)
    if kind.endswith("subnet"):
        return _subnet_header(path, kind, weights, space)
    return _supernet_header(path, kind, weights, space)


def _require_supported(path: Path, told: Mapping[str, Any]) -> None:
    for name, value, words in UNSUPPORTED:
        if _switch(told.get(name)) is value:
            raise ConfigError(
                f"{path}: the network was trained {words} (args.{name} is {value} in the file); this is not "
                "supported."
            )


# Supernets


def _supernet_header(path: Path, kind: str, weights: Weights, space: SearchSpace | None) -> Header:
    if space is None:
        fitting = fitting_spaces(weights.tensors) if kind == "published supernet" else []
        hint = f"; the file fits {' or '.join(fitting)}" if fitting else ""
        raise ConfigError(f"{path}: a {kind} does not say which search space it is for: give --space{hint}.")
    told = _published_options(path, weights)
    head = weights.tensors.get("head.weight")
    if head is not None and head.ndim and len(head):
        told["num_classes"] = len(head)
    model = replace(space.model, **told)
    if any(side % model.patch_size for side in model.img_size):
        raise ConfigError(
            f"{path}: images of {model.img_size[0]} x {model.img_size[1]} pixels are not tiled by patches of "
            f"{model.patch_size} (args.input_size and args.patch_size in the file)."
        )
    say_differences(path, space.model, model)
    assumed = []
    if "global_pool" not in told:
        assumed.append(f"{pooled(model)} is pooled, as --space says")
    if kind == "published supernet" and _switch(weights.trained_with.get("change_qkv")) is None:
        assumed.append("every head has 64 channels (change_qkv)")
    if not weights.trained_with:
        assumed.append("norms stand before attention and MLP, and images are normalised as ImageNet's")
    _say_assumed(path, assumed)
    return Header(kind, replace(space, model=model), _images_as_published(model))


def _published_options(path: Path, weights: Weights) -> dict[str, Any]:
    """What the arguments of the published code say of the network, checked against the tensors."""
    told, tensors = weights.trained_with, weights.tensors
    options: dict[str, Any] = {}
    if (gp := _switch(told.get("gp"))) is not None:
        options["global_pool"] = "avg" if gp else "token"
    side = told.get("input_size")
    if _is_count(side):
        options["img_size"] = (side, side)
    for name in ("patch_size", "max_relative_position"):
        if _is_count(told.get(name)):
            options[name] = told[name]
    without = _switch(told.get("no_abs_pos"))
    for name, option, wanted, there in (
        (
            "relative_position",
            "relative_position",
            _switch(told.get("relative_position")),
            any("embeddings_table" in key for key in tensors),
        ),
        (
            "no_abs_pos",
            "absolute_position",
            None if without is None else not without,
            any(key.startswith("pos_embed") for key in tensors),
        ),
    ):
        if wanted is None:
            continue
        if there is not wanted:
            raise ConfigError(
                f"{path}: args.{name} is {told[name]} in the file, which {'has' if there else 'lacks'} the "
                f"tensors of the {option.replace('_', ' ')}; the two contradict each other."
            )
        options[option] = wanted
    return options


def say_differences(path: Path, expected: ModelConfig, found: ModelConfig) -> None:
    """Log what a file says otherwise than the space that the user gave; the file's word counts.

    Args:
        path: file, for the message.
        expected: network of the space.
        found: network of the file.
    """
    here, there = expected.values(), found.values()
    different = [key for key in there if here[key] != there[key] and key != "num_classes"]
    if different:
        words = ", ".join(f"{key} {there[key]} in place of {here[key]}" for key in different)
        log.warning(f"{path}: taken from the file, and not from --space: {words}.")


# Subnets


def _subnet_header(path: Path, kind: str, weights: Weights, space: SearchSpace | None) -> Header:
    tensors, told = weights.tensors, weights.trained_with
    if kind != "hub subnet":
        _require_ours(path, tensors, told)
    try:
        tensors = hub_to_timm(tensors) if kind == "hub subnet" else tensors
        architecture, model = describe_subnet(tensors, () if space is None else space.mlp_ratio)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    pool = _timm_pool(told)
    if pool is not None:
        if pool not in POOLS:
            raise ConfigError(f"{path}: the network pools by '{pool}'; known are {', '.join(POOLS)}.")
        model = replace(model, global_pool=pool)
    run = _images_as_told(told, _images_as_published(model))
    assumed = [f"images are square, {model.img_size[0]} x {model.img_size[1]}"]
    if pool is None:
        assumed.append(f"{pooled(model)} is pooled")
    if run.mean is not None and "mean" not in _given(told):
        assumed.append("images are normalised as ImageNet's")
    _say_assumed(path, assumed)
    return Header(kind, one_point_space(architecture, model), run)


def _require_ours(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Refuse a vision transformer that is not one of ours; its tensors have the same names."""
    if any("embeddings_table" in key for key in tensors):
        return
    name = told.get("arch", told.get("model"))
    if not isinstance(name, str) or not name:
        raise ConfigError(
            f"{path}: the file has no relative tables and does not say what it is, as a plain ViT or DeiT of "
            "timm. Those pool the class token and have norms with eps 1e-6; an AutoFormer pools the mean of "
            "the patches and has 1e-5: the tensors look alike and the logits differ. A subnet without "
            "relative position is read from a file that nni-autoformer wrote (convert --to timm); a supernet "
            "can start from any plain ViT (train --from)."
        )
    if not name.lower().startswith(OURS_IN_TIMM):
        raise ConfigError(
            f"{path}: the network is '{name}' and no AutoFormer: it has other norms, pooling or layers under "
            "the same names, and would give other logits."
        )


def _timm_pool(told: Mapping[str, Any]) -> str | None:
    """How a network pools that timm's script has trained, where the file says it."""
    name, extra = told.get("arch", told.get("model")), told.get("model_kwargs")
    if not (isinstance(name, str) and name.lower().startswith(OURS_IN_TIMM)):
        return None
    for value in (told.get("gp"), extra.get("global_pool") if isinstance(extra, Mapping) else None):
        if isinstance(value, str):
            return value
    return ModelConfig().global_pool


def _given(told: Mapping[str, Any]) -> dict[str, Any]:
    """How images are prepared, as timm's script says it."""
    given: dict[str, Any] = {}
    for name in ("mean", "std"):
        values = told.get(name)
        if isinstance(values, Sequence) and values and all(isinstance(value, float) for value in values):
            given[name] = tuple(values)
    if isinstance(told.get("crop_pct"), float) and 0 < told["crop_pct"] <= 1:
        given["crop_pct"] = told["crop_pct"]
    if isinstance(told.get("interpolation"), str) and told["interpolation"]:
        given["interpolation"] = told["interpolation"]
    return given


def _images_as_told(told: Mapping[str, Any], otherwise: RunFacts) -> RunFacts:
    return replace(otherwise, **_given(told))


# What is assumed


def _images_as_published(model: ModelConfig) -> RunFacts:
    return IMAGENET if model.in_chans == len(IMAGENET.mean or ()) else replace(IMAGENET, mean=None, std=None)


def pooled(model: ModelConfig) -> str:
    """What a network pools, in words."""
    return "the mean of the patches" if model.global_pool == "avg" else "the class token"


def _say_assumed(path: Path, phrases: Sequence[str]) -> None:
    if phrases:
        log.warning(f"{path}: the file does not say all of its network. Assumed: {'; '.join(phrases)}.")


def _switch(value: Any) -> bool | None:
    """What an argument of a training script switches; None for what is no switch."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, (bool, np.bool_, int)) and value in (0, 1) else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0

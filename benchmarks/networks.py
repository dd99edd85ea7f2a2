"""The networks that are measured: ours, NNI's hub AutoFormer, and timm's plain ViT."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import nni.nas.strategy  # noqa: F401  (first: importing nni.nas.oneshot before it is a circular import)
import torch
import torch.nn.functional as F
from nni.nas.hub.pytorch import AutoFormer as HubAutoFormer
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from nni.nas.strategy import RandomOneShot
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from nni_autoformer import Architecture, AutoFormer, SearchSpace, Subnet, build_supernet
from nni_autoformer.space import ModelConfig

DROP_PATH = 0.1


def spaces(names: list[str], tiny: bool) -> dict[str, SearchSpace]:
    """The search spaces to measure, by name; `tiny` puts the digits' in their place."""
    return {name: SearchSpace.load(name) for name in (["digits"] if tiny else names)}


def subnets(space: SearchSpace) -> dict[str, Architecture]:
    """The largest subnet, and the published one where the space has it."""
    published = space.architectures.get("published")
    return {"largest": space.largest} | ({"published": published} if published else {})


def chosen(options: argparse.Namespace) -> Iterator[tuple[str, SearchSpace, Architecture]]:
    """What the flags of `common.step_parser` name, one after the other: a title, the space and a subnet."""
    for name, space in spaces(options.spaces, options.tiny).items():
        for subnet, architecture in subnets(space).items():
            if subnet in options.subnets:
                yield f"{name} {subnet}, batch {options.batch_size}", space, architecture


def supernet(space: SearchSpace, architecture: Architecture) -> AutoFormer:
    """Our supernet, set to a subnet."""
    network = build_supernet(space, drop_path_rate=DROP_PATH)
    network.set_architecture(architecture)
    return network


def plain_subnet(space: SearchSpace, architecture: Architecture) -> Subnet:
    """Our subnet of the same sizes without relative position."""
    model = replace(space.model, relative_position=False)
    return Subnet(architecture, model, DROP_PATH, space.max_depth)


def hub_supernet(space: SearchSpace, architecture: Architecture | None = None) -> HubAutoFormer:
    """NNI's hub supernet of a space, as its one-shot strategy builds it, set to a subnet."""
    model = space.model
    network = HubAutoFormer(
        search_embed_dim=space.embed_dim,
        search_mlp_ratio=space.mlp_ratio,
        search_num_heads=space.num_heads,
        search_depth=space.depth,
        img_size=model.img_size[0],
        patch_size=model.patch_size,
        in_channels=model.in_chans,
        num_labels=model.num_classes,
        drop_path_rate=DROP_PATH,
    )
    logger = logging.getLogger("nni")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the hub's own layers make NNI warn
    network = RandomOneShot().mutate_model(network)
    logger.setLevel(level)
    if architecture is not None:
        set_hub(network, architecture.to_sample(space.max_depth))
    return network


def set_hub(network: HubAutoFormer, sample: Mapping[str, Any]) -> None:
    """Choose the hub's subnet by an NNI sample."""
    for module in network.modules():
        if isinstance(module, BaseSuperNetModule):
            module.resample(dict(sample))


def timm_vit(space: SearchSpace, architecture: Architecture) -> VisionTransformer:
    """timm's plain ViT of about the largest subnet's size: heads of 64 channels, so 64 x heads wide."""
    model = space.model
    heads = max(architecture.num_heads)
    return VisionTransformer(
        img_size=model.img_size[0],
        patch_size=model.patch_size,
        in_chans=model.in_chans,
        num_classes=model.num_classes,
        embed_dim=64 * heads,
        depth=architecture.depth,
        num_heads=heads,
        mlp_ratio=max(architecture.mlp_ratio),
        global_pool="avg",
        fc_norm=False,
        drop_path_rate=DROP_PATH,
    )


def batch(space: SearchSpace, size: int) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    return batch_of(space.model, size)


def batch_of(model: ModelConfig, size: int) -> tuple[Tensor, Tensor]:
    """Images and labels for a network."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, model.in_chans, *model.img_size, generator=generator)
    return images, torch.randint(model.num_classes, (size,), generator=generator)


def training_step(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    fused: bool = False,
    call: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[], None]:
    """Forward, backward and AdamW on a batch, as a function.

    Args:
        network: trains all of its parameters that a subnet uses.
        images, labels: of the batch.
        fused: torch's fused AdamW instead of its default.
        call: what computes the logits, for instance the compiled network; None for the network.
    """
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=0.05, fused=fused or None)
    forward = network if call is None else call

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(forward(images), labels).backward()
        optimizer.step()

    return step

"""Digests of what candidates are evaluated with, by its content: a search that goes on must find the same."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from ..data.cache import DecodedImages

AT_ONCE = 1024
"""Images that are read at a time; an image store is larger than the memory."""


def digest_of_images(images: DecodedImages) -> str:
    """SHA-256 of all pixels and classes, in their order."""
    pixels = images.images
    found = hashlib.sha256(f"{tuple(pixels.shape)}".encode())
    found.update(images.targets.contiguous().numpy().data)
    for part in pixels.split(AT_ONCE):
        found.update(part.contiguous().numpy().data)
    return found.hexdigest()


def digest_of_weights(network: nn.Module) -> str:
    """SHA-256 of all weights with their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()

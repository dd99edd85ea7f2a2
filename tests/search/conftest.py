"""A supernet whose subnets differ, and images to compare them on."""

import pytest
import torch

from nni_autoformer import Architecture, SearchSpace
from nni_autoformer.data import DecodedImages
from nni_autoformer.model import build_supernet


@pytest.fixture(scope="session")
def supernet():
    """Of the space 'digits', with no weight that is zero, as after training."""
    net = build_supernet(SearchSpace.load("digits"), seed=1).eval()
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=stream)
    return net


@pytest.fixture(scope="session")
def images(supernet):
    """Noise, named as a subnet of middle size names it, so that subnets differ much in accuracy."""
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (320, 1, 16, 16), dtype=torch.uint8, generator=stream)
    supernet.set_architecture(Architecture(64, (2, 2, 2, 2), (3, 3, 3, 3)))
    with torch.inference_mode():
        targets = supernet(pixels / 255 * 2 - 1).argmax(dim=1)
    return DecodedImages(pixels, targets, [f"{i}" for i in range(320)])

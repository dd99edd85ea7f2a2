"""The closed forms against a built subnet and torch's own FLOP counter."""

import random

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nni_autoformer import SearchSpace, Subnet
from nni_autoformer.complexity import macs, params, relative_position_macs

OPTIONS = (
    {},
    {"relative_position": False},
    {"absolute_position": False, "global_pool": "token"},
    {"max_relative_position": 2, "num_classes": 3},
    {"img_size": (16, 24), "in_chans": 3},
)


def counted(network, x):
    # the counter does not know every fused kernel of the CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(x)
    return counter.get_total_flops() / 2


def architectures(space, count=4):
    rng = random.Random(0)
    return [space.smallest, space.largest, *(space.sample(rng) for _ in range(count))]


@pytest.mark.parametrize("options", OPTIONS)
def test_params_equal_a_built_subnet(options):
    space = SearchSpace.load("digits").with_model(**options)
    for architecture in architectures(space):
        built = sum(p.numel() for p in Subnet(architecture, space.model).parameters())
        assert params(architecture, space.model) == built


@pytest.mark.parametrize("name", ["tiny", "small", "base", "tiny-released", "base-released", "cifar"])
def test_params_equal_a_built_subnet_in_every_packaged_space(name):
    space = SearchSpace.load(name)
    with torch.device("meta"):
        for architecture in (space.smallest, *space.named().values(), space.sample(random.Random(1))):
            built = sum(p.numel() for p in Subnet(architecture, space.model).parameters())
            assert params(architecture, space.model) == built


@pytest.mark.parametrize("options", [{}, {"img_size": (16, 24), "in_chans": 3}, {"num_classes": 3}])
def test_macs_equal_torchs_counter_without_relative_position(options):
    space = SearchSpace.load("digits").with_model(relative_position=False, **options)
    x = torch.randn(1, space.model.in_chans, *space.model.img_size)
    for architecture in architectures(space):
        assert macs(architecture, space.model) == counted(Subnet(architecture, space.model).eval(), x)


def test_macs_equal_torchs_counter_on_the_published_subnet():
    space = SearchSpace.load("tiny").with_model(relative_position=False)
    architecture = space.architectures["published"]
    x = torch.randn(1, 3, 224, 224)
    assert macs(architecture, space.model) == counted(Subnet(architecture, space.model).eval(), x)
    assert relative_position_macs(architecture, space.model) == 0


def test_relative_position_macs_equal_the_counted_products_of_the_plain_formula():
    space = SearchSpace.load("digits")
    tokens = space.model.num_patches + 1
    for architecture in architectures(space):
        with FlopCounterMode(display=False) as counter:
            for heads in architecture.num_heads:
                query, table = torch.randn(heads, tokens, 64), torch.randn(tokens, tokens, 64)
                logits = torch.einsum("hid,ijd->hij", query, table)
                torch.einsum("hij,ijd->hid", logits, table)
        assert relative_position_macs(architecture, space.model) == counter.get_total_flops() / 2

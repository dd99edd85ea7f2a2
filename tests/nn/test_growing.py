"""Growing a network, and moving its biases, changes nothing that it computes."""

import pytest
import torch

from nni_autoformer import Architecture, ModelConfig
from nni_autoformer.nn.growing import grown, with_own_biases, with_relative_position
from nni_autoformer.nn.subnet import Subnet

SMALL = Architecture(32, (1, 3, 2), (2.0, 1.0, 1.5))
LARGE = Architecture(32, (3, 3, 4), (3.0, 1.0, 1.5))


def network(model):
    subnet = Subnet(SMALL, model).double().eval()
    for parameter in subnet.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return subnet


@pytest.fixture(params=[True, False], ids=["relative", "absolute"])
def original(request):
    return network(
        ModelConfig((12, 8), 4, num_classes=4, relative_position=request.param, max_relative_position=2)
    )


def logits(tensors, architecture, model):
    images = torch.randn(
        3, 3, *model.img_size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return Subnet.from_tensors(architecture, model, tensors).eval()(images)


def test_a_grown_network_computes_the_same(original):
    before = logits(original.state_dict(), SMALL, original.model)
    tensors = grown(original.state_dict(), LARGE, seed=3)
    assert (logits(tensors, LARGE, original.model) - before).abs().max() < 1e-12
    again = grown(original.state_dict(), LARGE, seed=3)
    assert all(torch.equal(tensors[key], again[key]) for key in tensors)
    other = grown(original.state_dict(), LARGE, seed=4)
    assert not torch.equal(tensors["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_what_is_new_can_learn(original):
    grown_net = Subnet.from_tensors(LARGE, original.model, grown(original.state_dict(), LARGE, seed=0))
    grown_net(torch.randn(3, 3, *original.model.img_size, dtype=torch.float64)).square().sum().backward()
    projection = grown_net.get_parameter("blocks.0.attn.proj.weight").grad
    assert projection is not None and projection[:, 64:].abs().min() > 0
    neurons = grown_net.get_parameter("blocks.0.mlp.fc2.weight").grad
    assert neurons is not None and neurons[:, 64:].abs().min() > 0


def test_biases_of_keys_and_values_are_zero_and_nothing_else_changes(original):
    before = logits(original.state_dict(), SMALL, original.model)
    tensors = with_own_biases(original.state_dict(), SMALL.depth)
    assert (logits(tensors, SMALL, original.model) - before).abs().max() < 1e-12
    query, key, value = tensors["blocks.1.attn.qkv.bias"].chunk(3)
    assert query.abs().min() > 0 and not key.any() and not value.any()


def test_a_relative_position_of_zeros_changes_nothing():
    original = network(ModelConfig((12, 8), 4, num_classes=4, relative_position=False))
    before = logits(original.state_dict(), SMALL, original.model)
    model = ModelConfig((12, 8), 4, num_classes=4, max_relative_position=3)
    tensors = with_relative_position(original.state_dict(), SMALL.depth, 3)
    assert (logits(tensors, SMALL, model) - before).abs().max() < 1e-12

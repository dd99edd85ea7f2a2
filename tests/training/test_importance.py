"""What matters least is found, and the network that is measured is left as it was."""

import json
from dataclasses import replace

import pytest
import torch

from nni_autoformer import Architecture, ModelConfig
from nni_autoformer.errors import ConfigError
from nni_autoformer.nn.reorder import Order
from nni_autoformer.nn.subnet import Subnet
from nni_autoformer.training.importance import IMPORTANCE, measure

SIZES = Architecture(16, (3, 2), (1.5, 1.0))
MODEL = ModelConfig(img_size=(8, 8), patch_size=4, in_chans=1, num_classes=4, max_relative_position=2)
NORMS = replace(MODEL, pre_norm=True, fc_norm=True, relative_position=False)
LABELLED = (True, False)


def a_network(model=MODEL):
    """In training mode, with stochastic depth that a measurement must not meet."""
    network = Subnet(SIZES, model, drop_path_rate=0.5).double().train()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture
def network():
    return a_network()


def batches(labelled=True, count=24, size=8):
    stream = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, 8, 8, dtype=torch.float64, generator=stream)
    targets = torch.randint(4, (count,), generator=stream)
    parts = zip(images.split(size), targets.split(size))
    return [(inputs, labels if labelled else None) for inputs, labels in parts]


@torch.no_grad()
def faint(network, factor=1e-4):
    """Let one head, one neuron and one channel of the embedding hardly matter."""
    block = network.blocks[0]
    block.attn.proj.weight[:, 64:128] *= factor
    block.mlp.fc2.weight[:, 5] *= factor
    channel = 7
    for tensor in (network.patch_embed.proj.weight, network.patch_embed.proj.bias):
        tensor[channel] *= factor
    for tensor in (network.cls_token, network.pos_embed):
        tensor[..., channel] *= factor
    for each in network.blocks:
        for layer in (each.attn.proj, each.mlp.fc2):
            layer.weight[channel] *= factor
            layer.bias[channel] *= factor
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)):
        norm.weight[channel] *= factor
        norm.bias[channel] *= factor


@pytest.mark.parametrize("model", [MODEL, NORMS], ids=["plain", "other norms"])
@pytest.mark.parametrize(
    ("method", "labelled"), [("taylor", True), ("taylor", False), ("magnitude", True)], ids=str
)
def test_what_hardly_matters_comes_last(model, method, labelled):
    network = a_network(model)
    faint(network)
    order = measure(network, batches(labelled), method).order
    assert order.num_heads[0][-1] == 1
    assert order.hidden[0][-1] == 5
    assert order.embed_dim[-1] == 7


@pytest.mark.parametrize("method", ["taylor", "magnitude"])
def test_padding_comes_last_in_its_own_order(network, method):
    with torch.no_grad():
        network.blocks[0].attn.proj.weight[:, :64] = 0
        network.blocks[1].mlp.fc2.weight[:, [2, 9]] = 0
    order = measure(network, batches(), method).order
    assert order.num_heads[0][-1] == 0
    assert order.hidden[1][-2:] == (2, 9)


def test_padding_comes_behind_what_does_not_matter_for_these_images(network):
    """A network whose head is zero: no score says anything, what is read stands first nevertheless."""
    with torch.no_grad():
        network.head.weight.zero_()
        network.blocks[0].mlp.fc2.weight[:, 3] = 0
    found = measure(network, batches(), "taylor")
    assert set(found.hidden[0]) == {0.0}
    assert found.order.hidden[0] == (*range(3), *range(4, 24), 3)
    assert found.order.embed_dim == tuple(range(16))


def test_a_score_is_the_squared_change_when_its_gate_closes_a_little(network):
    """The first order of closing head 2 of layer 0, image by image, against finite differences."""
    found, step = measure(network, batches(), "taylor"), 1e-5
    network.eval()
    inputs, labels = (torch.cat(parts) for parts in zip(*batches()))

    def losses(factor):
        changed = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        changed["blocks.0.attn.proj.weight"][:, 128:] *= factor
        logits = torch.func.functional_call(network, changed, (inputs,))
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    slopes = (losses(1 + step) - losses(1 - step)) / (2 * step)
    assert found.num_heads[0][2] == pytest.approx(slopes.square().mean().item(), rel=1e-6)


def test_labels_or_not_the_head_counts_only_with_labels(network):
    before = measure(network, batches(False), "taylor")
    labelled = measure(network, batches(), "taylor")
    with torch.no_grad():
        network.head.weight.normal_(std=3.0)
    assert measure(network, batches(False), "taylor") == before
    assert measure(network, batches(), "taylor") != labelled


def test_the_seed_gives_the_directions(network):
    found = [measure(network, batches(False), "taylor", seed) for seed in (1, 2)]
    assert found[0] != found[1]


@pytest.mark.parametrize("labelled", LABELLED)
def test_the_same_arguments_give_the_same_order(network, labelled):
    found = measure(network, batches(labelled), "taylor", seed=3)
    assert measure(network, batches(labelled), "taylor", seed=3) == found
    split = measure(network, batches(labelled, size=5), "taylor", seed=3)  # whatever the batch size
    assert split.order == found.order
    assert split.embed_dim == pytest.approx(found.embed_dim, rel=1e-9)


@pytest.mark.parametrize("method", IMPORTANCE)
def test_the_network_is_left_as_it_was(network, method):
    network.blocks[1].eval()
    kept = torch.ones_like(network.head.weight)
    network.head.weight.grad = kept.clone()
    network.patch_embed.requires_grad_(False)
    modes = {name: module.training for name, module in network.named_modules()}
    tensors = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    stream = torch.get_rng_state()
    with torch.no_grad():  # as a caller may have it
        measure(network, batches(), method)
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert torch.equal(network.head.weight.grad, kept)
    assert all(p.grad is None for name, p in network.named_parameters() if name != "head.weight")
    assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in tensors.items())
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert torch.equal(torch.get_rng_state(), stream)


def test_a_frozen_network_can_be_measured(network):
    found = measure(network, batches(), "taylor")
    assert measure(network.requires_grad_(False), batches(), "taylor") == found


def test_none_leaves_the_order(network):
    found = measure(network, [], "none")
    assert found.order == Order.identity(SIZES)
    assert (found.embed_dim, found.num_heads, found.hidden, found.images) == ([], [], [], 0)


def test_the_report_is_json_in_the_networks_own_order(network):
    found = measure(network, batches(), "taylor")
    report = json.loads(json.dumps(found.to_dict()))
    assert report["method"] == "taylor"
    assert report["images"] == 24
    assert report["order"] == found.order.to_dict()
    scores = report["scores"]
    assert (len(scores["embed_dim"]), *map(len, scores["num_heads"])) == (16, 3, 2)
    assert [len(values) for values in scores["hidden"]] == [24, 16]
    ranked = [scores["hidden"][0][place] for place in report["order"]["hidden"][0]]
    assert ranked == sorted(scores["hidden"][0], reverse=True)


def test_scores_that_are_not_finite_are_refused(network):
    with torch.no_grad():
        network.blocks[1].mlp.fc2.weight[0, 0] = torch.nan
    with pytest.raises(ConfigError, match=r"--importance taylor: the scores of the .* are not finite"):
        measure(network, batches(), "taylor")
    with pytest.raises(ConfigError, match="--importance magnitude: the scores of the embedding channels"):
        measure(network, [], "magnitude")


def test_a_method_that_does_not_exist_and_images_that_are_not_there(network):
    with pytest.raises(ConfigError, match="--importance tailor: it should be one of taylor, magnitude, none"):
        measure(network, batches(), "tailor")
    with pytest.raises(ConfigError, match="there are no images"):
        measure(network, [], "taylor")
    assert network.training

"""A network in another order of its channels, heads and neurons is the same function."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_autoformer import Architecture, ModelConfig
from nni_autoformer.nn.reorder import Order, reordered
from nni_autoformer.nn.subnet import Subnet

SMALL = Architecture(12, (2, 1), (1.5, 2.0))


def a_network(architecture, model, seed):
    """Of random weights in float64, norms, biases and position tables too."""
    torch.manual_seed(seed)
    network = Subnet(architecture, model).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def a_model(**values):
    return ModelConfig(
        img_size=(8, 12), patch_size=4, in_chans=1, num_classes=5, max_relative_position=2, **values
    )


def an_order(architecture, draw=lambda n: tuple(reversed(range(n)))):
    return Order(
        draw(architecture.embed_dim),
        tuple(draw(heads) for heads in architecture.num_heads),
        tuple(draw(hidden) for hidden in architecture.hidden_features),
    )


@st.composite
def cases(draw):
    """An architecture, the network around it, and an order of everything."""
    layers = draw(st.integers(1, 3))
    architecture = Architecture(
        draw(st.integers(1, 20)),
        tuple(draw(st.integers(1, 3)) for _ in range(layers)),
        tuple(draw(st.sampled_from((1.0, 1.5, 2.0))) for _ in range(layers)),
    )
    pool = draw(st.sampled_from(("avg", "token")))
    model = a_model(
        global_pool=pool,
        relative_position=draw(st.booleans()),
        absolute_position=draw(st.booleans()),
        pre_norm=draw(st.booleans()),
        fc_norm=draw(st.booleans()) and pool == "avg",
        norm_eps=draw(st.sampled_from((1e-5, 1e-6))),
    )
    order = an_order(architecture, lambda n: tuple(draw(st.permutations(range(n)))))
    return architecture, model, order, draw(st.integers(0, 1000))


@given(cases())
@settings(max_examples=40, deadline=None)
def test_any_order_computes_the_same(case):
    architecture, model, order, seed = case
    network = a_network(architecture, model, seed)
    images = torch.randn(2, 1, *model.img_size, dtype=torch.float64)
    other = Subnet.from_tensors(architecture, model, reordered(network.state_dict(), order)).eval()
    torch.testing.assert_close(other(images), network(images), rtol=0, atol=1e-12)


def test_an_entry_is_the_old_place_of_what_stands_there_afterwards():
    network = a_network(SMALL, a_model(), 0)
    before, order = (
        network.state_dict(),
        Order((*range(1, 12), 0), ((1, 0), (0,)), ((*range(1, 18), 0), (*range(24),))),
    )
    after = reordered(before, order)
    assert torch.equal(after["patch_embed.proj.weight"][0], before["patch_embed.proj.weight"][1])
    assert torch.equal(after["head.weight"][:, 11], before["head.weight"][:, 0])
    assert torch.equal(after["blocks.0.mlp.fc1.bias"][0], before["blocks.0.mlp.fc1.bias"][1])
    for part in range(3):  # queries, keys, values: the second head of each stands first
        own, old = (slice(128 * part + start, 128 * part + start + 64) for start in (0, 64))
        assert torch.equal(after["blocks.0.attn.qkv.bias"][own], before["blocks.0.attn.qkv.bias"][old])
    table = "blocks.0.attn.rel_pos_embed_k.embeddings_table_v"
    assert torch.equal(after[table], before[table])


def test_the_identity_leaves_everything_as_it_is():
    tensors = a_network(SMALL, a_model(), 0).state_dict()
    after = reordered(tensors, Order.identity(SMALL))
    assert after.keys() == tensors.keys()
    assert all(torch.equal(after[key], tensor) for key, tensor in tensors.items())
    assert Order(**{"embed_dim": (0, 1), "num_heads": ((0,),), "hidden": ((1, 0),)}).to_dict() == {
        "embed_dim": [0, 1],
        "num_heads": [[0]],
        "hidden": [[1, 0]],
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"embed_dim": (0, 0, 1)}, "the order's embed_dim is no permutation"),
        ({"num_heads": ((0, 1), (1,))}, "the order's num_heads of layer 1 is no permutation"),
        ({"hidden": ((0, 2), (0,))}, "the order's hidden of layer 0 is no permutation"),
        ({"num_heads": ((0, 1),)}, "num_heads for 1 layers and hidden for 2"),
    ],
)
def test_what_is_no_order_is_refused(change, sentence):
    values = {"embed_dim": (0,), "num_heads": ((0,), (0,)), "hidden": ((0,), (0,))}
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Order(**values | change)


@pytest.mark.parametrize(
    ("key", "shape", "sentence"),
    [
        ("blocks.0.ls1.gamma", (12,), "blocks.0.ls1.gamma is no tensor of a subnet"),
        ("reg_token", (1, 1, 12), "reg_token is no tensor of a subnet"),
        ("blocks.2.norm1.weight", (12,), "blocks.2.norm1.weight is of a layer beyond the order's 2"),
        ("blocks.0.mlp.fc1.bias", (19,), "blocks.0.mlp.fc1.bias has the shape (19,); the order is for 18"),
        ("cls_token", (1, 12), "cls_token has the shape (1, 12); the order is for 12 entries"),
    ],
)
def test_tensors_of_another_network_are_refused(key, shape, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        reordered({key: torch.zeros(shape)}, an_order(SMALL))

"""Every entangled layer equals the plain layer of the sampled sizes with the slices copied in."""

import nni
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.mutable import MutableExpression
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.strategy import RandomOneShot
from torch.nn.attention import SDPBackend, sdpa_kernel

from nni_autoformer.nn import block, entangled, layers, slicing
from nni_autoformer.nn.relative_position import TokenGrid, attention_kernel

EMBED, HEADS, RATIOS = [24, 40, 48], [1, 2, 3], [1.0, 1.5, 2.0]
GRID = TokenGrid((2, 3), 2)


class OneLayer(ModelSpace):
    def __init__(self, kind):
        super().__init__()
        embed = nni.choice("embed_dim", EMBED)
        heads = nni.choice("num_head_0", HEADS)
        hidden = MutableExpression.to_int(embed * nni.choice("mlp_ratio_0", RATIOS))
        self.layer = {
            "patches": lambda: entangled.MutablePatchEmbed(embed, 2, 3),
            "tokens": lambda: entangled.MutableTokens(embed, 6),
            "tokens without position": lambda: entangled.MutableTokens(embed, 6, False),
            "norm": lambda: entangled.MutableLayerNorm(embed),
            "attention": lambda: entangled.MutableAttention(embed, heads, 2, GRID),
            "attention without position": lambda: entangled.MutableAttention(embed, heads),
            "mlp": lambda: entangled.MutableMlp(embed, hidden),
            "head": lambda: entangled.MutableHead(embed, 5),
        }[kind]()

    def forward(self, x):
        return self.layer(x)

    @classmethod
    def extra_oneshot_hooks(cls, strategy):
        return [layer.mutate for layer in entangled.ENTANGLED_LAYERS]


def plain_layer(kind, embed, heads, ratio):
    return {
        "patches": lambda: layers.PatchEmbed(embed, 2, 3),
        "tokens": lambda: layers.Tokens(embed, 6),
        "tokens without position": lambda: layers.Tokens(embed, 6, False),
        "norm": lambda: torch.nn.LayerNorm(embed),
        "attention": lambda: block.Attention(embed, heads, 2, GRID),
        "attention without position": lambda: block.Attention(embed, heads),
        "mlp": lambda: block.Mlp(embed, int(embed * ratio)),
        "head": lambda: layers.Head(embed, 5),
    }[kind]()


def copied_in(kind, plain, big, embed, heads, ratio):
    """Fill the plain layer by the published rule, written out here with loops and named positions."""
    width, hidden = 64 * heads, int(embed * ratio)
    with torch.no_grad():
        if kind == "patches":
            plain.proj.weight.copy_(big["proj.weight"][:embed])
            plain.proj.bias.copy_(big["proj.bias"][:embed])
        elif kind.startswith("tokens"):
            for name, tensor in plain.named_parameters():
                tensor.copy_(big[name][..., :embed])
        elif kind == "norm":
            plain.weight.copy_(big["weight"][:embed])
            plain.bias.copy_(big["bias"][:embed])
        elif kind == "head":
            plain.weight.copy_(big["weight"][:, :embed])
            plain.bias.copy_(big["bias"])
        elif kind == "mlp":
            plain.fc1.weight.copy_(big["fc1.weight"][:hidden, :embed])
            plain.fc1.bias.copy_(big["fc1.bias"][:hidden])
            plain.fc2.weight.copy_(big["fc2.weight"][:embed, :hidden])
            plain.fc2.bias.copy_(big["fc2.bias"][:embed])
        else:
            for part in range(3):  # query, key, value
                for channel in range(width):
                    row = big["qkv.weight"][3 * channel + part, :embed]
                    plain.qkv.weight[part * width + channel].copy_(row)
            plain.qkv.bias.copy_(big["qkv.bias"][: 3 * width])
            plain.proj.weight.copy_(big["proj.weight"][:embed, :width])
            plain.proj.bias.copy_(big["proj.bias"][:embed])
            for name, tensor in plain.named_parameters():
                if "table" in name:
                    tensor.copy_(big[name])


def example_input(kind, embed):
    if kind == "patches":
        return torch.randn(2, 3, 4, 6, dtype=torch.float64)
    tokens = 6 if kind.startswith("tokens") else 7
    return torch.randn(2, tokens, embed, dtype=torch.float64)


KINDS = [
    "patches",
    "tokens",
    "tokens without position",
    "norm",
    "attention",
    "attention without position",
    "mlp",
    "head",
]
SUPERNETS = {}


def supernet(kind):
    if kind not in SUPERNETS:
        torch.manual_seed(0)
        space = RandomOneShot().mutate_model(OneLayer(kind)).double()
        for parameter in space.parameters():  # zero biases and unit norms would hide a wrong slice
            torch.nn.init.normal_(parameter)
            parameter.data = parameter.data.float().double()  # NNI freezes to float32
        SUPERNETS[kind] = space
    return SUPERNETS[kind]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(st.sampled_from(EMBED), st.sampled_from(HEADS), st.sampled_from(RATIOS))
def test_equals_the_plain_layer_with_the_slices_copied_in(kind, embed, heads, ratio):
    space = supernet(kind)
    sample = {"embed_dim": embed, "num_head_0": heads, "mlp_ratio_0": ratio}
    assert isinstance(space.layer, entangled.Entangled)
    space.layer.resample(sample)
    space.zero_grad()
    plain = plain_layer(kind, embed, heads, ratio).double()
    copied_in(kind, plain, dict(space.layer.named_parameters()), embed, heads, ratio)

    x = example_input(kind, embed).requires_grad_()
    theirs = plain(x)
    (theirs * torch.arange(theirs.numel()).view_as(theirs)).sum().backward()
    x_gradient, x.grad = x.grad, None
    ours = space(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    (ours * torch.arange(ours.numel()).view_as(ours)).sum().backward()
    torch.testing.assert_close(x.grad, x_gradient, rtol=1e-10, atol=1e-9)

    # the same rule slices a gradient: what is outside of the subnet has none
    expected = plain_layer(kind, embed, heads, ratio).double()
    gradients = {name: parameter.grad for name, parameter in space.layer.named_parameters()}
    copied_in(kind, expected, gradients, embed, heads, ratio)
    for (name, gradient), parameter in zip(expected.named_parameters(), plain.parameters()):
        torch.testing.assert_close(gradient.data, parameter.grad, rtol=1e-10, atol=1e-8, msg=name)
    outside = sum(gradient.abs().sum() for gradient in gradients.values())
    inside = sum(parameter.grad.abs().sum() for parameter in plain.parameters())
    torch.testing.assert_close(outside, inside, rtol=1e-10, atol=1e-6)


@pytest.mark.parametrize("sizes", [(2, 3), (4, 3), (2, 5), (4, 5), (3,)])
def test_a_slice_has_second_derivatives(sizes):
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: slicing.leading(x, *sizes).pow(3), x)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_are_the_plain_layers(kind):
    """Of the layer's own parameters and its input, where the plain layer runs no kernel of its own."""
    space = supernet(kind)
    space.layer.resample({"embed_dim": 40, "num_head_0": 2, "mlp_ratio_0": 1.5})
    plain = plain_layer(kind, 40, 2, 1.5).double()
    copied_in(kind, plain, dict(space.layer.named_parameters()), 40, 2, 1.5)
    x = example_input(kind, 40).requires_grad_()
    results = []
    for layer in (space, plain):
        with sdpa_kernel(SDPBackend.MATH), attention_kernel("auto" if layer is space else "fused"):
            [first] = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
            results.append(torch.autograd.grad(first.square().sum(), x)[0] if first.requires_grad else first)
    # sums of large terms that cancel: as exact as the largest entry allows
    scale = max(1.0, float(results[1].abs().max()))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_freezing_by_nni_gives_the_plain_layer(kind):
    space = supernet(kind)
    sample = {"embed_dim": 40, "num_head_0": 2, "mlp_ratio_0": 1.5}
    frozen = space.freeze(sample).layer.double()
    assert not isinstance(frozen, entangled.Entangled)
    assert type(frozen).__module__.split(".")[0] in ("nni_autoformer", "torch")
    space.layer.resample(sample)
    x = example_input(kind, 40)
    torch.testing.assert_close(frozen(x), space(x), rtol=0, atol=1e-10)

"""Sizes that are weights over sizes, as NNI's differentiable strategies set them."""

import random

import nni.nas.evaluator.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.oneshot.pytorch.supermodule._operation_utils import MaybeWeighted, Slicable
from nni.nas.space import RawFormatModelSpace
from nni.nas.strategy import DARTS, GumbelDARTS, RandomOneShot
from torch.func import functional_call
from torch.utils.data import TensorDataset

from nni_autoformer import Architecture, AutoFormer, SearchSpace
from nni_autoformer.nn import block, entangled, layers
from nni_autoformer.nn.compiling import compile_blocks
from nni_autoformer.nn.mixture import Mixture, mixed
from nni_autoformer.nn.relative_position import TokenGrid
from nni_autoformer.nn.slicing import RELATIVE_TABLES

GRID = TokenGrid((2, 3), 2)
CHOICES = {"embed_dim": [8, 12, 16], "num_heads": [1, 3], "hidden_features": [8, 16, 24, 32]}


def test_an_entry_has_the_weight_of_the_sizes_that_reach_it():
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64, requires_grad=True)
    size = Mixture(dict(zip((1, 3, 4), weights)))
    tensor = torch.arange(1.0, 9, dtype=torch.float64).view(2, 4)
    expected = tensor * torch.tensor([1.0, 0.8, 0.8, 0.3])
    torch.testing.assert_close(mixed(tensor, 1, size), expected)
    torch.testing.assert_close(mixed(tensor.t(), 0, size), expected.t())
    torch.testing.assert_close(mixed(tensor[None], -1, 1 * size), expected[None])
    mixed(tensor, 1, size).sum().backward()
    assert weights.grad.tolist() == [6, 24, 36]  # the sums of the three slices
    assert torch.equal(mixed(tensor, 1, 3), tensor[:, :3])


def slices(kind, big, embed, heads, hidden):
    """The plain layer's tensors by the published rule, written out with positions."""
    width = 64 * heads
    if kind == "patches":
        return {"proj.weight": big["proj.weight"][:embed], "proj.bias": big["proj.bias"][:embed]}
    if kind == "tokens":
        return {key: big[key][..., :embed] for key in ("cls_token", "pos_embed")}
    if kind == "head":
        return {"weight": big["weight"][:, :embed], "bias": big["bias"]}
    if kind == "mlp":
        return {
            "fc1.weight": big["fc1.weight"][:hidden, :embed],
            "fc1.bias": big["fc1.bias"][:hidden],
            "fc2.weight": big["fc2.weight"][:embed, :hidden],
            "fc2.bias": big["fc2.bias"][:embed],
        }
    rows = [3 * channel + part for part in range(3) for channel in range(width)]
    return {
        "qkv.weight": big["qkv.weight"][rows][:, :embed],
        "qkv.bias": big["qkv.bias"][: 3 * width],
        "proj.weight": big["proj.weight"][:embed, :width],
        "proj.bias": big["proj.bias"][:embed],
        **{key: big[key] for key in RELATIVE_TABLES if key in big},
    }


def padded(key, part, whole):
    """With zeros to the largest plain layer's shape; queries, keys and values each for themselves."""
    runs = 3 if key.startswith("qkv") else 1
    part = part.reshape(runs, part.shape[0] // runs, *part.shape[1:])
    missing = [whole[0] // runs - part.shape[1], *(n - m for n, m in zip(whole[1:], part.shape[2:]))]
    return F.pad(part, [side for size in reversed(missing) for side in (0, size)]).reshape(whole)


LARGEST = {
    "patches": (entangled.EntangledPatchEmbed, lambda: layers.PatchEmbed(16, 2, 3), (2, 3, 4, 6)),
    "tokens": (entangled.EntangledTokens, lambda: layers.Tokens(16, 6), (2, 6, 16)),
    "norm": (entangled.EntangledLayerNorm, lambda: torch.nn.LayerNorm(16), (2, 7, 16)),
    "attention": (entangled.EntangledAttention, lambda: block.Attention(16, 3, 2, GRID), (2, 7, 16)),
    "attention without position": (entangled.EntangledAttention, lambda: block.Attention(16, 3), (2, 7, 16)),
    "mlp": (entangled.EntangledMlp, lambda: block.Mlp(16, 32), (2, 7, 16)),
    "head": (entangled.EntangledHead, lambda: layers.Head(16, 5), (2, 16)),
}


def explicit(kind, plain, big, sizes, x):
    """The mixture over all sizes, one after the other."""
    if kind == "norm":
        outputs = 0
        for embed, weight in sizes["embed_dim"].items():
            normed = F.layer_norm(x[..., :embed], (embed,), big["weight"][:embed], big["bias"][:embed])
            outputs = outputs + weight * F.pad(normed, (0, 16 - embed))
        return outputs
    tensors = {key: torch.zeros_like(tensor) for key, tensor in plain.named_parameters()}
    for embed, p in sizes["embed_dim"].items():
        for heads, q in sizes["num_heads"].items():
            for hidden, r in sizes["hidden_features"].items():
                for key, part in slices(kind, big, embed, heads, hidden).items():
                    tensors[key] = tensors[key] + p * q * r * padded(key, part, tensors[key].shape)
    return functional_call(plain, tensors, (x,))


class Fixed:
    """A sampling policy of NNI that always gives the same sizes."""

    def __init__(self, sizes):
        self.sizes = {**sizes, "normalized_shape": sizes["embed_dim"], "in_features": sizes["embed_dim"]}

    def forward_argument(self, operation, name):
        return self.sizes[name]


def entangled_layer(kind, plain):
    """The supernet's layer of the plain one's sizes, with weights of its own."""
    layer_type, _, _ = LARGEST[kind]
    arguments = {
        "patches": {"embed_dim": 16, "patch_size": 2, "in_chans": 3},
        "tokens": {"embed_dim": 16, "num_patches": 6},
        "norm": {"normalized_shape": 16},
        "attention": {"embed_dim": 16, "num_heads": 3, "max_relative_position": 2, "token_grid": GRID},
        "attention without position": {"embed_dim": 16, "num_heads": 3},
        "mlp": {"embed_dim": 16, "hidden_features": 32},
        "head": {"in_features": 16, "out_features": 5},
    }[kind]
    return layer_type(arguments).double()


def gradients(output, leaves):
    factors = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    found = torch.autograd.grad((output * factors).sum(), leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(leaf) if gradient is None else gradient for leaf, gradient in zip(leaves, found)]


@pytest.mark.parametrize("kind", LARGEST)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_layer_is_the_explicit_mixture_with_all_gradients(kind, seed):
    torch.manual_seed(seed)
    _, build, shape = LARGEST[kind]
    plain = build().double()
    layer = entangled_layer(kind, plain)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    alphas = {name: torch.randn(len(choices)).double().requires_grad_() for name, choices in CHOICES.items()}
    sizes = {name: dict(zip(CHOICES[name], alpha.softmax(0))) for name, alpha in alphas.items()}
    layer.sampling_policy = Fixed(sizes)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    everything = [x, *layer.parameters(), *alphas.values()]
    theirs = explicit(kind, plain, dict(layer.named_parameters()), sizes, x)
    ours = layer(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = [layer.sampling_policy.sizes[name] for name in layer.argument_list]  # as NNI's layers take them
    assert torch.equal(layer.forward_with_args(*weights, x), ours)
    for mine, other in zip(gradients(ours, everything), gradients(theirs, everything)):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
    choices = sum(bool(gradient.any()) for gradient in gradients(ours, list(alphas.values())))
    assert choices == (2 if kind in ("attention", "attention without position", "mlp") else 1)


@pytest.mark.parametrize("kind", LARGEST)
def test_frozen_weights_are_what_nnis_slices_are(kind):
    """NNI's `Slicable` cuts the published layout; the plain layer's own is re-ordered only afterwards."""
    torch.manual_seed(0)
    layer = entangled_layer(kind, None)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    given = Fixed({name: dict(zip(sizes, (0.2, 0.5, 0.3, 0.1))) for name, sizes in CHOICES.items()}).sizes
    frozen = layer.freeze_weight(**{name: given[name] for name in layer.argument_list})
    embed, heads, hidden = (MaybeWeighted(given[name]) for name in CHOICES)
    big = {key: Slicable(tensor) for key, tensor in layer.named_parameters()}
    if kind == "norm":  # its frozen tensors are cut; its forward pass mixes outputs, as the layer says
        expected = {key: big[key][:embed] for key in ("weight", "bias")}
    elif kind.startswith("attention"):
        width = heads * 64
        rows = Slicable(big["qkv.weight"][: width * 3])[:, :embed]
        expected = {
            "qkv.weight": rows.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1),
            "proj.weight": Slicable(big["proj.weight"][:embed])[:, :width],
            "proj.bias": big["proj.bias"][:embed],
        }
    else:
        cuts = {"proj.weight": (embed,), "proj.bias": (embed,), "fc1.weight": (hidden, embed)}
        cuts |= {"fc1.bias": (hidden,), "fc2.weight": (embed, hidden), "fc2.bias": (embed,)}
        cuts |= {"cls_token": (None, None, embed), "pos_embed": (None, None, embed), "weight": (None, embed)}
        expected = {}
        for key in frozen.keys() & cuts.keys():
            part = layer.get_parameter(key)
            for dimension, size in enumerate(cuts[key]):
                part = Slicable(part)[(slice(None),) * dimension + (slice(size),)]
            expected[key] = part
    assert expected
    for key, tensor in expected.items():
        torch.testing.assert_close(frozen[key], tensor, rtol=1e-12, atol=1e-12)


SPACE = SearchSpace.from_dict(
    {
        "name": "toy",
        "choices": {"embed_dim": [8, 16], "depth": [1, 2], "num_heads": [1, 2], "mlp_ratio": [1, 1.5]},
        "model": {
            "img_size": 8,
            "patch_size": 4,
            "in_chans": 1,
            "num_classes": 3,
            "max_relative_position": 1,
        },
    }
)
IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def differentiable_supernet():
    """A supernet of DARTS whose biases and norms are not at their neutral start, and its alphas by label."""
    torch.manual_seed(0)
    strategy = DARTS()
    supernet = strategy.mutate_model(AutoFormer(SPACE)).double().eval()
    alphas = {}
    for name, parameter in supernet.named_parameters():
        if "_arch_alpha" in name:
            alphas[name.rpartition(".")[2]] = parameter
        else:
            torch.nn.init.normal_(parameter, std=0.2)
    return supernet, alphas


def test_all_weight_on_one_choice_is_the_subnet():
    supernet, alphas = differentiable_supernet()
    choices = SPACE.to_nni()
    rng = random.Random(0)
    for architecture in (SPACE.smallest, SPACE.largest, *(SPACE.sample(rng) for _ in range(6))):
        sample = architecture.to_sample(SPACE.max_depth)
        with torch.no_grad():
            for label, alpha in alphas.items():
                alpha.fill_(-1e4)[choices[label]["_value"].index(sample[label])] = 0
            subnet = supernet.extract(architecture)
            x = IMAGES.double()
            torch.testing.assert_close(supernet(x), subnet(x), rtol=0, atol=1e-12)
            frozen = supernet.freeze(sample).double()
            torch.testing.assert_close(frozen(x), subnet(x), rtol=1e-4, atol=1e-5)  # frozen in float32


def test_every_choice_has_a_gradient_and_compiled_blocks_stand_back():
    supernet, alphas = differentiable_supernet()
    expected = supernet(IMAGES.double())
    expected.square().sum().backward()
    for label, alpha in alphas.items():
        assert alpha.grad.abs().min() > 0, label
    blocks = compile_blocks(supernet, print, "eager")
    assert torch.equal(supernet(IMAGES.double()), expected)
    assert not blocks.shapes


def test_a_single_architecture_cannot_be_set():
    supernet, _ = differentiable_supernet()
    with pytest.raises(RuntimeError, match="it runs a mixture of all subnets"):
        supernet.set_architecture(SPACE.smallest)


@pytest.mark.parametrize("strategy_type", [DARTS, GumbelDARTS, RandomOneShot])
def test_nnis_own_strategies_train_the_space(strategy_type):
    torch.manual_seed(0)
    data = TensorDataset(IMAGES, torch.arange(4) % 3)
    evaluator = pl.Classification(
        train_dataloaders=pl.DataLoader(data, batch_size=2),
        val_dataloaders=pl.DataLoader(data, batch_size=2),
        max_epochs=1,
        num_classes=3,
        export_onnx=False,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    strategy = strategy_type()
    strategy(RawFormatModelSpace(AutoFormer(SPACE), evaluator), SequentialExecutionEngine())
    architecture = Architecture.from_sample(next(iter(strategy.list_models())).sample)
    assert architecture in SPACE
    supernet = strategy.supernet
    assert strategy.oneshot_module.trainer.global_step >= 2
    first = supernet.blocks.blocks[0]
    for bias in (supernet.head.bias, first.attn.proj.bias, first.mlp.fc1.bias, first.norm1.bias):
        assert bias.any()  # they start as zeros
    assert supernet.extract(architecture)(IMAGES).isfinite().all()

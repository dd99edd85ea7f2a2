"""One block: the plain layer, the one on given tensors, and the compiled one are the same numbers."""

import pytest
import torch

from nni_autoformer import Architecture
from nni_autoformer.nn.block import PLAIN, Attention, Block, TensorBlock, build_block, build_blocks
from nni_autoformer.nn.compiling import PARTS, compile_blocks
from nni_autoformer.nn.relative_position import TokenGrid

GRIDS = {"relative position": TokenGrid((2, 3), 2), "none": None}


def a_block(grid, drop_path=0.0):
    block = build_block(24, 2, 36, 2, grid, drop_path).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return block


def results(function, block, x):
    """Outputs, and the gradients of input and parameters."""
    x = x.clone().requires_grad_()
    output = function(x)
    weighted = (output * torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output)).sum()
    return [output, *torch.autograd.grad(weighted, [x, *block.parameters()], allow_unused=True)]


@pytest.mark.parametrize("position", GRIDS)
def test_one_arithmetic_whichever_way_a_block_runs(position):
    grid = GRIDS[position]
    block, x = a_block(grid), torch.randn(3, 7, 24, dtype=torch.float64)
    parts = {name: dict(getattr(block, name).named_parameters()) for name in PARTS}
    expected = results(block, block, x)
    for mine, theirs in zip(results(TensorBlock(parts, 1e-5, grid), block, x), expected):
        assert torch.equal(mine, theirs)
    halves = TensorBlock({name: parts[name] for name in ("norm1", "attn")}, 1e-5, grid).attention_half
    assert torch.equal(halves(x), block.attention_half(x))
    shapes = compile_blocks(block, print, "eager").shapes
    for mine, theirs in zip(results(block, block, x), expected):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    assert len(shapes) == 1


def test_blocks_of_an_architecture_have_its_sizes_and_a_rising_drop_path():
    architecture = Architecture(24, (1, 2, 1), (1.0, 1.5, 2.0))
    blocks = build_blocks(architecture, 2, TokenGrid((2, 3), 2), drop_path_rate=0.3, supernet_depth=4)
    assert [block.attn.num_heads for block in blocks] == [1, 2, 1]
    assert [block.mlp.fc1.out_features for block in blocks] == [24, 36, 48]
    assert [block.drop_path.rate for block in blocks] == pytest.approx([0.0, 0.1, 0.2])


def test_a_block_is_made_of_the_layers_that_it_is_given():
    """So model space, subnet and timm's model have one construction."""
    asked = []

    def attention(*sizes):
        asked.append(sizes)
        return Attention(*sizes)

    grid = TokenGrid((2, 3), 2)
    block = build_block(24, 2, 36, 2, grid, layers=PLAIN._replace(attention=attention))
    assert isinstance(block, Block)
    assert asked == [(24, 2, 2, grid)]


def test_masks_reach_the_attention():
    block, x = a_block(None), torch.randn(1, 5, 24, dtype=torch.float64)
    changed = x.clone()
    changed[:, -1] += 1
    assert torch.equal(block(x, is_causal=True)[:, :-1], block(changed, is_causal=True)[:, :-1])
    assert not torch.equal(block(x)[:, :-1], block(changed)[:, :-1])

"""Relative position in one attention call against the formula written out pair by pair."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_autoformer import ConfigError
from nni_autoformer.nn.relative_position import (
    RelativePosition2D,
    TokenGrid,
    attention_kernel,
    rearranged,
    relative_attention,
)

KERNELS = ("fused", "explicit")


def attend(kernel, tensors, positions, grid, *mask):
    """(batch, heads, tokens, 64) from three tensors of that shape."""
    qkv = torch.stack([tensor.transpose(1, 2) for tensor in tensors], dim=2)
    with attention_kernel(kernel):
        tables = grid.tables()
        result = relative_attention(qkv, positions[0](tables), positions[1](tables), tables, *mask)
    return result.unflatten(2, (tensors[0].shape[1], 64)).transpose(1, 2)


def plain_attention(query, key, value, keys, values, rows, columns, maximum, mask=0):
    """softmax((q k + q r_k) / 8 + mask) (v + r_v) with the (N, N, 64) tables of the published rule."""

    def table(position):
        n = 1 + rows * columns
        pairs = torch.zeros(n, n, 64, dtype=query.dtype)
        vertical, horizontal = position.embeddings_table_v, position.embeddings_table_h
        for i in range(n):
            for j in range(n):
                if i == 0 or j == 0:
                    pairs[i, j] = vertical[0] + horizontal[0]
                else:
                    down = (j - 1) // columns - (i - 1) // columns
                    right = (j - 1) % columns - (i - 1) % columns
                    down = max(-maximum, min(maximum, down))
                    right = max(-maximum, min(maximum, right))
                    pairs[i, j] = vertical[down + maximum + 1] + horizontal[right + maximum + 1]
        return pairs

    logits = query @ key.transpose(-2, -1) + torch.einsum("bhid,ijd->bhij", query, table(keys))
    weights = (logits * 64**-0.5 + mask).softmax(-1)
    return weights @ value + torch.einsum("bhij,ijd->bhid", weights, table(values))


def setup(rows, columns, maximum, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    tensors = [torch.randn(2, 2, 1 + rows * columns, 64, dtype=dtype).requires_grad_() for _ in range(3)]
    positions = [RelativePosition2D(maximum).to(dtype) for _ in range(2)]
    for position in positions:
        for table in position.parameters():
            torch.nn.init.normal_(table)
    return tensors, positions


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 5), maximum=st.integers(1, 6), seed=st.integers(0, 100))
def test_equals_the_plain_formula_with_all_gradients(kernel, rows, columns, maximum, seed):
    tensors, positions = setup(rows, columns, maximum, seed=seed)
    grid = TokenGrid((rows, columns), maximum)
    leaves = [*tensors, *positions[0].parameters(), *positions[1].parameters()]
    ours = attend(kernel, tensors, positions, grid)
    plain = plain_attention(*tensors, *positions, rows, columns, maximum)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    weight = torch.randn_like(ours)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weight).sum(), leaves),
        torch.autograd.grad((plain * weight).sum(), leaves),
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("rows", "columns", "maximum"), [(14, 14, 14), (6, 11, 3), (16, 8, 14)])
def test_equals_the_plain_formula_on_the_grids_of_real_images(kernel, rows, columns, maximum):
    tensors, positions = setup(rows, columns, maximum)
    grid = TokenGrid((rows, columns), maximum)
    with torch.no_grad():
        ours = attend(kernel, tensors, positions, grid)
        plain = plain_attention(*tensors, *positions, rows, columns, maximum)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)


def test_float32_and_bfloat16_stay_close():
    tensors, positions = setup(4, 4, 3)
    grid = TokenGrid((4, 4), 3)
    with torch.no_grad():
        exact = attend("fused", tensors, positions, grid)
        for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 0.3)):
            low = [position.to(dtype) for position in positions]
            result = attend("auto", [tensor.to(dtype) for tensor in tensors], low, grid)
            assert result.dtype == dtype
            assert (result.double() - exact).abs().max() < tolerance
            [position.double() for position in positions]


def test_the_width_suits_fused_kernels_and_the_tables_are_no_state():
    for rows, columns, width in ((8, 8, 88), (14, 14, 96), (24, 24, 120)):
        grid = TokenGrid((rows, columns), 14)
        assert 64 + grid.one_hot.shape[1] == width
        assert grid.state_dict() == {}
        assert grid.one_hot[:, : rows + columns + 1].sum(1).tolist() == [1] + [2] * (rows * columns)


def test_the_choice_of_a_kernel_is_for_its_block_only():
    tensors, positions = setup(3, 2, 1)
    grid = TokenGrid((3, 2), 1)
    explicit = attend("auto", tensors, positions, grid)
    assert "ExplicitAttention" in names_of(explicit)
    with attention_kernel("fused"):
        qkv = torch.stack([tensor.transpose(1, 2) for tensor in tensors], dim=2)
        tables = grid.tables()
        fused = relative_attention(qkv, positions[0](tables), positions[1](tables), tables)
    assert "ExplicitAttention" not in names_of(fused)
    assert "ExplicitAttention" in names_of(attend("auto", tensors, positions, grid))
    with pytest.raises(ConfigError, match="known are auto, fused, explicit"), attention_kernel("flash"):
        pass


def names_of(tensor):
    """The operations in the graph behind a tensor."""
    names, todo = [], [tensor.grad_fn]
    while todo:
        function = todo.pop()
        names.append(function.name())
        todo += [before for before, _ in function.next_functions if before is not None]
    return " ".join(names)


@pytest.mark.parametrize("kernel", KERNELS)
def test_masks(kernel):
    tensors, positions = setup(2, 3, 2)
    grid = TokenGrid((2, 3), 2)
    allowed = torch.rand(2, 1, 7, 7) < 0.7
    allowed[..., 0] = True
    added = torch.randn(7, 7, dtype=torch.float64)
    below = torch.ones(7, 7, dtype=torch.bool).tril()
    for options, mask in (((allowed,), allowed.log()), ((added,), added), ((None, True), below.log())):
        ours = attend(kernel, tensors, positions, grid, *options)
        plain = plain_attention(*tensors, *positions, 2, 3, 2, mask)
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), linear=st.booleans(), seed=st.integers(0, 100))
def test_second_derivatives_equal_those_of_the_plain_formula(rows, columns, linear, seed):
    tensors, positions = setup(rows, columns, 2, seed=seed)
    grid = TokenGrid((rows, columns), 2)
    leaves = [*tensors, *positions[0].parameters(), *positions[1].parameters()]
    results = (
        attend("explicit", tensors, positions, grid),
        plain_attention(*tensors, *positions, rows, columns, 2),
    )
    weight = torch.randn_like(results[0])
    second = []
    for result in results:
        # of a linear function the kernel is given a gradient that depends on nothing
        total = (result * weight).sum() if linear else result.pow(3).sum()
        first = torch.autograd.grad(total, leaves, create_graph=True)
        square = sum(gradient.square().sum() for gradient in first)
        second.append(torch.autograd.grad(square, leaves))
    for mine, theirs in zip(*second):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_second_derivatives_where_some_tensors_have_none():
    tensors, positions = setup(2, 2, 1)
    grid = TokenGrid((2, 2), 1)
    for table in positions[0].parameters():
        table.requires_grad_(False)
    query = tensors[0].detach().requires_grad_()
    values = list(positions[1].parameters())
    results = []
    for kernel in ("explicit", "plain"):
        if kernel == "plain":
            result = plain_attention(query, *tensors[1:], *positions, 2, 2, 1)
        else:
            result = attend(kernel, [query, *tensors[1:]], positions, grid)
        [first] = torch.autograd.grad(result.sum(), query, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), [query, *values]))
    for mine, theirs in zip(*results):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_second_derivatives_of_the_reordering():
    grid = TokenGrid((2, 3), 2).tables()
    x = torch.randn(1, 2, 7, grid.channel_of.shape[1], dtype=torch.float64)
    x[..., -1] = 0
    inside = torch.ones_like(x)
    inside[..., -1] = 0  # that channel is always 0, so it is no variable
    x.requires_grad_()

    def cube(x):
        return rearranged(x * inside, grid.offset_of, grid.channel_of).pow(3)

    assert torch.autograd.gradcheck(cube, x) and torch.autograd.gradgradcheck(cube, x)


def test_transforms_take_the_fused_kernel():
    tensors, positions = setup(2, 3, 2)
    grid = TokenGrid((2, 3), 2)

    def total(query):
        return attend("auto", [query, *tensors[1:]], positions, grid).square().sum()

    gradient = torch.func.grad(total)(tensors[0])
    torch.testing.assert_close(gradient, torch.autograd.grad(total(tensors[0]), tensors[0])[0])
    assert torch.func.vmap(total)(torch.stack([tensors[0]] * 2)).shape == (2,)

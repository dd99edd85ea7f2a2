"""Compiled blocks give what the blocks give, one compilation per shape."""

import pytest
import torch

from nni_autoformer import SearchSpace, build_supernet
from nni_autoformer.nn import compiling
from nni_autoformer.nn.compiling import compile_blocks


def loss_and_gradients(network, images):
    network.zero_grad()
    torch.manual_seed(0)  # of drop path
    loss = network(images).square().mean()
    loss.backward()
    return loss, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def check(backend, relative_position=True):
    space = SearchSpace.load("digits").with_model(relative_position=relative_position)
    images = torch.randn(4, space.model.in_chans, *space.model.img_size)
    supernet = build_supernet(space, drop_path_rate=0.3).train()
    sentences = []
    expected = {}
    for architecture in (space.smallest, space.largest):
        supernet.set_architecture(architecture)
        expected[architecture] = loss_and_gradients(supernet, images)
    compiled = compile_blocks(supernet, sentences.append, backend)
    for architecture, (loss, gradients) in expected.items():
        supernet.set_architecture(architecture)
        ours, our_gradients = loss_and_gradients(supernet, images)
        torch.testing.assert_close(ours, loss)
        assert our_gradients.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert compiled.failure is None
    return supernet, compiled, sentences


@pytest.mark.parametrize("relative_position", [True, False])
def test_equals_the_blocks_with_all_gradients_and_compiles_each_shape_once(relative_position):
    supernet, compiled, sentences = check("aot_eager", relative_position)
    # two shapes, each without drop path in the first layer and with it in the others
    assert len(compiled.shapes) == len(sentences) == 4
    assert "compiled block shape 4: 80 channels, 3 heads" in sentences[-1]

    model = supernet.space.model
    subnet = supernet.extract(supernet.space.smallest).eval()
    images = torch.randn(2, model.in_chans, *model.img_size)
    before = subnet(images)
    of_subnet = compile_blocks(subnet, sentences.append, "aot_eager")
    torch.testing.assert_close(subnet(images), before)
    assert len(of_subnet.shapes) == 1


@pytest.mark.slow
def test_equals_the_blocks_with_the_real_compiler():
    check("inductor")


def test_falls_back_with_a_message(monkeypatch):
    space = SearchSpace.load("digits")
    subnet = build_supernet(space).extract(space.smallest).eval()
    images = torch.randn(2, space.model.in_chans, *space.model.img_size)
    before = subnet(images)
    sentences = []
    # a compiler that does not work at all
    assert compile_blocks(subnet, sentences.append, "no such backend").failure is not None
    assert torch.equal(subnet(images), before)
    # one that works until it sees the block
    monkeypatch.setattr(compiling, "_try_compiler", lambda device, backend: None)
    later = compile_blocks(subnet, sentences.append, "aot_eager")
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda *arguments: 1 / 0)
    torch.testing.assert_close(subnet(images), before)
    assert later.failure == "ZeroDivisionError: division by zero"
    assert len(sentences) == 2
    assert all("the blocks run uncompiled" in sentence for sentence in sentences)

"""The closed form of memory against what torch holds alive, operation by operation."""

import random
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nni_autoformer import SearchSpace, Subnet
from nni_autoformer.costs import COSTS
from nni_autoformer.deployment import Deployment, Target
from nni_autoformer.memory import BYTES, LONGEST_EXPLICIT, activations, memory
from nni_autoformer.nn import relative_position

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Alive(TorchDispatchMode):
    """The most bytes of tensors that were alive after an operation, those of `others` not among them."""

    def __init__(self, held, others):
        super().__init__()
        self.now = self.most = held
        self.seen = {tensor.untyped_storage()._cdata for tensor in others}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.seen:
                self.seen.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._end, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.now)
        return result

    def _end(self, key, size):
        self.seen.discard(key)
        self.now -= size


def alive(architecture, model, batch_size, precision):
    network = Subnet(architecture, model).eval().to(DTYPES[precision])
    images = torch.zeros(batch_size, model.in_chans, *model.img_size, dtype=DTYPES[precision])
    others = [images, *network.parameters(), *network.buffers()]
    with torch.no_grad(), Alive(images.nbytes, others) as counted:
        network(images)
    return counted.most


def same(space, batch_size, precision, architectures):
    """To the byte in relative attention; without it the kernel's own order of channels may cost one copy."""
    for architecture in architectures:
        measured = alive(architecture, space.model, batch_size, precision)
        expected = activations(architecture, space.model, batch_size, precision)
        assert expected == pytest.approx(measured, rel=0.01), architecture


OPTIONS = (
    {},
    {"relative_position": False},
    {"absolute_position": False, "global_pool": "token"},
    {"max_relative_position": 2, "num_classes": 3},
    {"img_size": (64, 24), "in_chans": 3},
    {"img_size": 168},  # more tokens than the explicit kernel takes
)


@pytest.mark.parametrize("precision", BYTES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_largest_activations_are_those_that_torch_holds(options, precision):
    model = dict(options)
    if isinstance(model.get("img_size"), int):
        model["img_size"] = (model["img_size"],) * 2
    space, rng = SearchSpace.load("digits").with_model(**model), random.Random(0)
    several = (space.smallest, space.largest, space.sample(rng))
    for batch_size, architectures in ((1, several[:1]), (3, several[1:])):
        same(space, batch_size, precision, architectures)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_so_they_are_in_the_papers_space(precision):
    space = SearchSpace.load("tiny")
    same(space, 2, precision, (space.smallest, space.architectures["published"]))


def test_memory_is_weights_and_activations():
    space = SearchSpace.load("digits")
    for precision, size in BYTES.items():
        network = Subnet(space.middle, space.model)
        weights = size * sum(parameter.numel() for parameter in network.parameters())
        whole = memory(space.middle, space.model, 4, precision)
        assert whole == weights + activations(space.middle, space.model, 4, precision)
        target = Target(Deployment(deploy_batch_size=4, deploy_precision=precision))
        cost = target.costs(space)["memory"]
        assert cost.value(space.middle, space.model) == whole
    assert COSTS["memory"].value(space.middle, space.model) == memory(space.middle, space.model, 1, "fp32")


def test_the_kernel_is_the_one_that_attention_runs():
    assert LONGEST_EXPLICIT == relative_position.LONGEST_EXPLICIT

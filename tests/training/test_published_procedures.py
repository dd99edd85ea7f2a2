"""The published schedule and sampler against the parts that the recipe is made of."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.data.distributed_sampler import RepeatAugSampler

from nni_autoformer.training.module import ImageClassification
from nni_autoformer.training.recipe import Recipe

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "procedures.json").read_text())


def rate_of(recipe, updates_per_epoch):
    module = ImageClassification(recipe, (0.5,), (0.5,), 10)
    module.set_model(torch.nn.Linear(3, 10))
    steps = recipe.epochs * updates_per_epoch
    module._trainer = SimpleNamespace(world_size=8, estimated_stepping_batches=steps)
    module.configure_optimizers()
    return module.set_rate


RUNS = [
    ("epochs500_warmup20_base0.001", Recipe()),
    ("epochs300_warmup5_base6.25e-05", Recipe(epochs=300, warmup_epochs=5, lr=6.25e-5)),
]


@pytest.mark.parametrize(("name", "recipe"), RUNS)
def test_the_rate_per_epoch_is_the_published_one(name, recipe):
    """With its quirk: the first two epochs run at the warm-up's start."""
    rate = rate_of(recipe, updates_per_epoch=7)
    for epoch, published in GOLDEN["lr_used_per_epoch"][name].items():
        assert rate(int(epoch), 7 * int(epoch) + 3) == pytest.approx(published, rel=1e-12)


@pytest.mark.parametrize(("name", "recipe"), RUNS)
def test_the_rate_per_step_is_the_published_one_of_an_epoch_later(name, recipe):
    rate = rate_of(recipe.changed(sched_on_updates=True), updates_per_epoch=7)
    for epoch, published in GOLDEN["lr_used_per_epoch"][name].items():
        before = max(int(epoch) - 1, 0)
        assert rate(before, 7 * before) == pytest.approx(published, rel=1e-12)
    assert rate(1, 7 * 1 + 3) > rate(1, 7 * 1)


@pytest.mark.parametrize("name", list(GOLDEN["ra_sampler"]))
def test_timms_repeated_augmentation_is_the_published_one(name):
    length, replicas, rank, epoch = (int("".join(filter(str.isdigit, part))) for part in name.split("_"))
    sampler = RepeatAugSampler(range(length), num_replicas=replicas, rank=rank)
    sampler.set_epoch(epoch)
    indices = np.array(list(sampler), dtype="<i8")
    golden = GOLDEN["ra_sampler"][name]
    assert len(indices) == golden["n"]
    assert indices[:12].tolist() == golden["first12"]
    assert hashlib.sha256(indices.tobytes()).hexdigest() == golden["sha256"]

"""The published schedule and sampler against the parts that the recipe is made of."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.data.distributed_sampler import RepeatAugSampler
from timm.scheduler import create_scheduler_v2

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "procedures.json").read_text())


def schedule(epochs, warmup, peak, updates):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=peak)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=epochs,
        warmup_epochs=warmup,
        warmup_lr=1e-6,
        min_lr=1e-5,
        step_on_epochs=False,
        updates_per_epoch=updates,
    )

    def rate(step):
        scheduler.step_update(step)
        return optimizer.param_groups[0]["lr"]

    return rate


@pytest.mark.parametrize(
    ("name", "epochs", "warmup", "peak"),
    [("epochs500_warmup20_base0.001", 500, 20, 1e-3), ("epochs300_warmup5_base6.25e-05", 300, 5, 6.25e-5)],
)
def test_the_published_rate_is_ours_of_one_epoch_before(name, epochs, warmup, peak):
    """A documented difference: the published code steps its schedule after an epoch with that epoch's own
    number, so two epochs run at the warm-up start. Ours has moved on at the start of each epoch, and moves
    within it.
    """
    rate = schedule(epochs, warmup, peak, updates=7)
    for epoch, published in GOLDEN["lr_used_per_epoch"][name].items():
        before = max(int(epoch) - 1, 0)
        assert rate(7 * before) == pytest.approx(published, rel=1e-12)
    assert rate(7 * 1 + 3) > rate(7 * 1)


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

"""Random erasing and mixing of whole batches."""

import pytest
import torch
from timm.data import Mixup

from nni_autoformer.training.augment import BatchAugmentation, seed_streams
from nni_autoformer.training.recipe import Recipe

CPU = torch.device("cpu")
PLAIN = {"reprob": 0.0, "mixup": 0.0, "cutmix": 0.0}


def batch(count=8, side=16):
    stream = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, side, side, generator=stream), torch.arange(count) % 4


def augmented(recipe, images, targets, seed=1, epoch=0):
    seed_streams(seed)
    return BatchAugmentation(recipe, 4, CPU)(images.clone(), targets, epoch)


def test_nothing_is_changed_with_everything_off():
    images, targets = batch()
    changed, same = augmented(Recipe(**PLAIN), images, targets)
    assert torch.equal(changed, images) and torch.equal(same, targets)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_mixing_is_timm_s_and_a_function_of_the_seed(mode):
    images, targets = batch()
    recipe = Recipe(reprob=0.0, mixup_mode=mode)
    mixed, labels = augmented(recipe, images, targets)
    again, labels_again = augmented(recipe, images, targets)
    assert torch.equal(mixed, again) and torch.equal(labels, labels_again)
    assert not torch.equal(augmented(recipe, images, targets, seed=2)[0], mixed)
    seed_streams(1)
    expected = Mixup(0.8, 1.0, mode=mode, label_smoothing=0.1, num_classes=4)(images.clone(), targets)
    assert torch.equal(mixed, expected[0]) and torch.equal(labels, expected[1])
    assert torch.allclose(labels.sum(dim=1), torch.ones(8))


def test_the_last_of_an_odd_batch_stays_unmixed():
    images, targets = batch(count=7)
    mixed, labels = augmented(Recipe(reprob=0.0), images, targets)
    assert torch.equal(mixed[-1], images[-1]) and not torch.equal(mixed[0], images[0])
    assert labels.shape == (7, 4)
    assert labels[-1, targets[-1]] == pytest.approx(0.9 + 0.1 / 4)


def test_mixing_ends_at_an_epoch():
    images, targets = batch()
    recipe = Recipe(reprob=0.0, mixup_off_epoch=5)
    assert not torch.equal(augmented(recipe, images, targets, epoch=4)[0], images)
    mixed, labels = augmented(recipe, images, targets, epoch=5)
    assert torch.equal(mixed, images)
    assert labels[0, targets[0]] == pytest.approx(0.9 + 0.1 / 4)


def test_erasing_puts_noise_into_a_part_of_as_many_images_as_it_should():
    images, targets = batch(count=400)
    recipe = Recipe(**{**PLAIN, "reprob": 0.25})
    erased, _ = augmented(recipe, images, targets)
    changed = (erased != images).flatten(1)
    hit = changed.any(dim=1)
    assert 0.15 < hit.float().mean() < 0.35
    share = changed[hit].float().mean(dim=1)
    assert share.min() > 0.01 and share.max() < 0.4
    assert torch.equal(erased, augmented(recipe, images, targets)[0])


def test_mixing_needs_the_number_of_classes():
    with pytest.raises(ValueError, match="number of classes"):
        BatchAugmentation(Recipe(), None, CPU)

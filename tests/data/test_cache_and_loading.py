"""Images decoded once; batches that depend on the seed, the epoch and the image alone."""

import random

import numpy as np
import pytest
import torch
from timm.data.distributed_sampler import RepeatAugSampler

from nni_autoformer import ConfigError, ModelConfig
from nni_autoformer.data import (
    EpochSampler,
    TrainImages,
    decode,
    eval_transform,
    open_data,
    train_loader,
    train_transform,
)

MODEL = ModelConfig(img_size=(16, 16), patch_size=4)


@pytest.mark.parametrize("progress", [None, "decode"])
def test_decoding_equals_the_transform_of_each_image(image_folder, make_image_folder, tmp_path, progress):
    big = make_image_folder(tmp_path / "many", per_class={"train": 50, "val": 3})
    source, transform = open_data("folder", big).train, eval_transform(MODEL)
    decoded = decode(source, transform, progress)
    assert decoded.images.shape == (150, 3, 16, 16)
    assert decoded.images.dtype == torch.uint8
    for i in (0, 63, 64, 149):
        assert np.array_equal(decoded.images[i].numpy(), transform(source.load(i)))
    assert decoded.targets.tolist() == source.targets.tolist()
    sizes = [len(targets) for _, targets in decoded.batches(64)]
    assert sizes == [64, 64, 22]
    assert torch.equal(torch.cat([images for images, _ in decoded.batches(64)]), decoded.images)


def test_workers_decode_the_same(image_folder):
    source, transform = open_data("folder", image_folder).train, eval_transform(MODEL)
    assert torch.equal(decode(source, transform).images, decode(source, transform, workers=2).images)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_named(image_folder, workers):
    (image_folder / "train" / "two" / "07.png").write_bytes(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"train/two/07.png: the file cannot be read as an image"):
        decode(open_data("folder", image_folder).train, eval_transform(MODEL), workers=workers)


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return [(images, targets.tolist()) for images, targets in loader]


def same(one, other):
    return all(torch.equal(a, b) and s == t for (a, s), (b, t) in zip(one, other, strict=True))


def test_batches_do_not_depend_on_workers_or_on_earlier_epochs(image_folder):
    source = open_data("folder", image_folder).train
    alone, helped, late = (
        train_loader(source, train_transform(MODEL), 8, seed=5, workers=workers) for workers in (0, 2, 0)
    )
    epochs = [epoch(alone, number) for number in range(3)]
    for number in range(3):
        assert same(epochs[number], epoch(helped, number))
    assert same(epochs[2], epoch(late, 2))
    assert not same(epochs[0], epochs[1])
    other_seed = train_loader(source, train_transform(MODEL), 8, seed=6)
    assert not same(epochs[0], epoch(other_seed, 0))


def test_an_image_is_augmented_anew_in_every_epoch_but_not_by_its_place(image_folder):
    images = TrainImages(open_data("folder", image_folder).train, train_transform(MODEL), seed=1)
    first, again, next_epoch = images[0, 9], images[0, 9], images[1, 9]
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], next_epoch[0])
    assert first[1] == next_epoch[1]


def test_loading_leaves_the_global_streams_alone(image_folder):
    images = TrainImages(open_data("folder", image_folder).train, train_transform(MODEL))

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = draw()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    images[0, 0]
    assert draw() == expected


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_each_global_batch(world_size):
    reference = EpochSampler(103, 16, seed=2)
    reference.set_epoch(3)
    whole = [index for _, index in reference]
    assert len(whole) == 96 == len(set(whole))
    ranks = [EpochSampler(103, 16 // world_size, 2, rank, world_size) for rank in range(world_size)]
    for sampler in ranks:
        sampler.set_epoch(3)
    parts = [list(sampler) for sampler in ranks]
    together = [index for items in zip(*parts, strict=True) for _, index in items]
    assert together == whole
    assert {number for part in parts for number, _ in part} == {3}


@pytest.mark.parametrize(
    ("length", "world_size", "batch_size"), [(2560, 4, 64), (1000, 4, 64), (5000, 8, 32)]
)
def test_repeats_are_the_published_ones_of_another_order(length, world_size, batch_size):
    """Rank for rank the published sampler's images (tests/training/test_published_procedures.py holds timm's
    to the published numbers), when its order is replaced by ours.
    """
    once = EpochSampler(length, 1, seed=4)
    once.set_epoch(2)
    order = [index for _, index in once]
    for rank in range(world_size):
        ours = EpochSampler(length, batch_size, 4, rank, world_size, num_repeats=3)
        ours.set_epoch(2)
        published = RepeatAugSampler(range(length), world_size, rank, shuffle=False, num_repeats=3)
        expected = [order[place] for place in published]
        whole = len(expected) - len(expected) % batch_size  # the published loader drops a part of a batch
        assert [index for _, index, _ in ours] == expected[:whole]
        assert len(ours) == whole


@pytest.mark.parametrize("world_size", [1, 2, 6])
def test_copies_of_an_image_are_told_apart_and_share_a_batch(world_size):
    ranks = [
        EpochSampler(100, 12 // world_size, 1, rank, world_size, num_repeats=3) for rank in range(world_size)
    ]
    together = [item for items in zip(*ranks, strict=True) for item in items]
    assert together == list(EpochSampler(100, 12, 1, num_repeats=3))
    assert len(set(together)) == len(together) == 96
    for start in range(0, 96, 3):
        copies = together[start : start + 3]
        assert len({(epoch, index) for epoch, index, _ in copies}) == 1
        assert [repeat for _, _, repeat in copies] == [0, 1, 2]


def test_copies_of_an_image_are_augmented_apart(image_folder):
    source = open_data("folder", image_folder).train
    loader = train_loader(source, train_transform(MODEL), 6, num_repeats=3)
    images, targets = next(iter(loader))
    assert targets.view(2, 3).unique(dim=1).shape == (2, 1)
    assert len(images[:3].unique(dim=0)) == 3
    helped = train_loader(source, train_transform(MODEL), 6, num_repeats=3, workers=2)
    assert same(epoch(loader, 1), epoch(helped, 1))


@pytest.mark.parametrize("repeats", [0, 1])
def test_no_repeats_are_pairs(repeats):
    assert list(EpochSampler(9, 4, num_repeats=repeats)) == list(EpochSampler(9, 4))


def test_repeats_below_nothing_are_a_sentence():
    with pytest.raises(ConfigError, match="--aug-repeats is -1"):
        EpochSampler(9, 4, num_repeats=-1)


def test_fewer_images_than_a_batch_make_one_small_batch():
    sampler = EpochSampler(5, 64)
    assert len(sampler) == 5 == len(list(sampler))

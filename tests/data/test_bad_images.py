"""Images that cannot be read: fatal, or left out by a rule that no worker has a say in."""

import pytest
import torch

from nni_autoformer import ConfigError, ModelConfig
from nni_autoformer.data import BadImages, TrainImages, default_workers, open_data, readable, train_transform
from nni_autoformer.data import train_loader as loader_of

MODEL = ModelConfig(img_size=(8, 8), patch_size=4)
BAD = ["train/one/03.png", "train/six/00.png", "train/two/11.png"]


@pytest.fixture
def spoilt(image_folder):
    for name in BAD:
        (image_folder / name).write_bytes((image_folder / name).read_bytes()[:40])
    return open_data("folder", image_folder).train


def batches(source, bad, workers=0, **more):
    loader = loader_of(source, train_transform(MODEL), 9, 3, workers, bad_images=bad, **more)
    found = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        found += list(loader)
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_fatal(spoilt, workers):
    with pytest.raises(ConfigError, match=r"train/(one/03|six/00|two/11)\.png: the file cannot be read"):
        batches(spoilt, None, workers)


@pytest.mark.parametrize("repeats", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_what_takes_its_place_does_not_depend_on_workers(spoilt, capfd, log_to_stderr, repeats):
    alone, helped = BadImages(), BadImages()
    for (images, targets), (others, labels) in zip(
        batches(spoilt, alone, num_repeats=repeats),
        batches(spoilt, helped, 2, num_repeats=repeats),
        strict=True,
    ):
        assert torch.equal(images, others) and torch.equal(targets, labels)
    assert alone.names == helped.names
    if repeats == 1:
        assert alone.names == BAD
        assert alone.report() == f"3 bad images were left out: {', '.join(BAD)}."
        assert capfd.readouterr().err.count("six/00.png: the file cannot be read as an image") == 2


def test_the_other_images_are_as_if_nothing_were_bad(image_folder):
    whole = TrainImages(open_data("folder", image_folder).train, train_transform(MODEL), 5)
    expected = [whole[1, index] for index in range(36)]
    for name in BAD:
        (image_folder / name).write_bytes(b"")
    source = open_data("folder", image_folder).train
    spoilt = TrainImages(source, train_transform(MODEL), 5, BadImages())
    for index, (image, target) in enumerate(expected):
        if source.identifiers[index] not in BAD:
            assert torch.equal(spoilt[1, index][0], image) and spoilt[1, index][1] == target


def test_the_substitute_brings_its_own_class(spoilt):
    position = spoilt.identifiers.index(BAD[0])
    images = TrainImages(spoilt, train_transform(MODEL), 0, BadImages())
    drawn = [images[epoch, position][1] for epoch in range(40)]
    assert set(drawn) == {0, 1, 2}


def test_nothing_readable_ends_the_run(image_folder):
    for path in image_folder.glob("train/*/*.png"):
        path.write_bytes(b"")
    source = open_data("folder", image_folder).train
    with pytest.raises(ConfigError, match="100 images in a row cannot be read"):
        TrainImages(source, train_transform(MODEL), 0, BadImages())[0, 0]
    with pytest.raises(
        ConfigError, match=r"none of the 36 images can be read, the first is train/one/00\.png"
    ):
        readable(source, BadImages())


@pytest.mark.parametrize("workers", [0, 2])
def test_readable_leaves_the_bad_ones_out(spoilt, workers, capsys, log_to_stderr):
    bad = BadImages()
    left = readable(spoilt, bad, workers)
    assert [name for name in spoilt.identifiers if name not in left.identifiers] == bad.names == BAD
    assert capsys.readouterr().err.count("It is left out.") == 3
    again = BadImages()
    assert readable(left, again) is left
    assert again.names == [] and again.report() == ""


def test_long_reports_are_cut_short(spoilt):
    bad = BadImages()
    bad.watch(spoilt)[:36] = True
    assert bad.report() == (
        "36 bad images were left out: train/one/00.png, train/one/01.png, train/one/02.png and 33 more."
    )


def test_the_default_number_of_workers(monkeypatch):
    import os

    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for cores, images, expected in ((64, 10**6, 8), (4, 10**6, 4), (1, 10**6, 0), (64, 1999, 0)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert default_workers(images) == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)))
    assert default_workers(10**6) == 4


def test_a_class_of_bad_images_alone_is_named(image_folder, capsys, log_to_stderr):
    for path in image_folder.glob("train/six/*.png"):
        path.write_bytes(b"")
    left = readable(open_data("folder", image_folder).train, BadImages())
    assert set(left.targets) == {0, 2}
    assert "No image that can be read is left of 1 classes: six." in capsys.readouterr().err

"""The paper's per-image augmentation, timm's: whole, crash-free, and 8 bits at the end."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data import auto_augment, create_transform

from nni_autoformer import ConfigError, ModelConfig
from nni_autoformer.data import timm_fixes, train_transform

PAPER = "rand-m9-mstd0.5-inc1"
SMALL = ModelConfig(img_size=(32, 32), patch_size=4)
BIG = ModelConfig(img_size=(48, 48), patch_size=8)


@pytest.fixture(scope="module")
def photographs():
    """Photographs of 32 x 32 pixels, cut from scikit-learn's two."""
    tiles = []
    for image in load_sample_images().images:
        for top in range(0, image.shape[0] - 31, 32):
            for left in range(0, image.shape[1] - 31, 32):
                tiles.append(Image.fromarray(image[top : top + 32, left : left + 32]))
    return tiles


def seed(number):
    random.seed(number), np.random.seed(number), torch.manual_seed(number)


def test_thousands_of_images_pass_the_papers_policy(photographs, monkeypatch):
    asked = []
    whole = timm_fixes.posterize
    monkeypatch.setattr(
        timm_fixes, "posterize", lambda image, bits, **_: asked.append(bits) or whole(image, bits)
    )
    monkeypatch.setattr(auto_augment, "NAME_TO_OP", dict(auto_augment.NAME_TO_OP))
    for name in ("Posterize", "PosterizeIncreasing", "PosterizeOriginal"):
        monkeypatch.setitem(auto_augment.NAME_TO_OP, name, auto_augment.posterize)
    transform = train_transform(SMALL, auto_augment=PAPER)
    seed(0)
    for turn in range(6000):
        result = transform(photographs[turn % len(photographs)])
        assert result.shape == (3, 32, 32) and result.dtype == torch.uint8
    assert asked.count(0) > 3  # so the place that raised was passed


def test_the_correction_is_still_needed(photographs):
    with pytest.raises(ValueError, match="bits"):
        auto_augment.posterize(photographs[0], 0)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_correction_changes_nothing_else(photographs, bits):
    ours, theirs = (f(photographs[0], bits) for f in (timm_fixes.posterize, auto_augment.posterize))
    assert np.array_equal(ours, theirs)


def test_no_bits_are_a_black_image(photographs):
    for bits in (0, -8):
        for mode in ("RGB", "L"):
            image = photographs[0].convert(mode)
            black = timm_fixes.posterize(image, bits)
            assert (black.mode, black.size) == (mode, image.size)
            assert not np.asarray(black).any()


def test_the_policy_is_timms_own(photographs):
    """The same draws, so the same pixels, as timm's transform of the same arguments."""
    timm_fixes.apply()
    ours = train_transform(BIG, auto_augment=PAPER, vflip=0.3, color_jitter=0.4)
    theirs = create_transform(
        48,
        is_training=True,
        use_prefetcher=True,
        auto_augment=PAPER,
        vflip=0.3,
        color_jitter=0.4,
        interpolation="bicubic",
    )
    for i, image in enumerate(photographs[:40]):
        seed(i)
        result = ours(image)
        seed(i)
        assert np.array_equal(result, theirs(image))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "values",
    [
        {"auto_augment": PAPER},
        {"auto_augment": "rand-m7-n3-p0.9-tweights"},
        {"auto_augment": "rand-m9-mstd0.5-t3a", "color_jitter": 0.3},
        {"auto_augment": "augmix-m5-w4-d2"},
        {"auto_augment": "original-mstd0.5"},
        {"auto_augment": "3a", "color_jitter": (0.3, 0.3, 0.3)},
        {"color_jitter": (0.4, 0.4, 0.4, 0.1), "color_jitter_prob": 0.8, "grayscale_prob": 0.2},
        {"gaussian_blur_prob": 1.0, "vflip": 1.0},
        {"train_interpolation": "random", "auto_augment": PAPER},
        {"train_interpolation": "bilinear"},
    ],
)
def test_every_knob_gives_8_bits_and_changes_the_image(photographs, channels, values):
    for size in (SMALL, BIG):
        model = ModelConfig(img_size=size.img_size, patch_size=size.patch_size, in_chans=channels)
        transform, plain = train_transform(model, **values), train_transform(model)
        changed = 0
        for i, image in enumerate(photographs[:30]):
            image = image.convert("RGB" if channels == 3 else "L")
            seed(i)
            result = transform(image)
            assert result.shape == (channels, *model.img_size) and result.dtype == torch.uint8
            seed(i)
            changed += not torch.equal(result, plain(image))
        if "train_interpolation" not in values or size is BIG:
            assert changed > 10


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"auto_augment": "randaug-m9"}, "--aa randaug-m9: 'randaug' is no policy; known are rand, augmix"),
        ({"auto_augment": "rand-m9-msdt0.5"}, "'msdt0.5' is no section of the policy 'rand'"),
        ({"auto_augment": "rand-m"}, "'m' is no section"),
        ({"auto_augment": "rand-m9-tall"}, "'tall' is no section"),
        ({"auto_augment": ""}, "'' is no policy"),
        ({"vflip": -0.1}, "--vflip is -0.1"),
        ({"color_jitter": (0.1, 0.2)}, "--color-jitter is 0.1 0.2"),
        ({"color_jitter": -1.0}, "--color-jitter is -1.0"),
        ({"color_jitter": (0.1, 0.1, 0.1, 0.9)}, "--color-jitter is .* up to 0.5 for hue"),
        ({"color_jitter": 0.4, "color_jitter_prob": 2}, "--color-jitter-prob is 2"),
        ({"grayscale_prob": 7}, "--grayscale-prob is 7"),
        ({"train_interpolation": "cubic"}, "--train-interpolation cubic: known are bicubic.*random"),
    ],
)
def test_bad_flags_are_sentences(values, words):
    with pytest.raises(ConfigError, match=words):
        train_transform(SMALL, **values)


def test_the_blur_needs_images_that_hold_it():
    tiny = ModelConfig(img_size=(8, 8), patch_size=4)
    with pytest.raises(ConfigError, match=r"more than 11 pixels a side, and the space's are 8 x 8"):
        train_transform(tiny, gaussian_blur_prob=0.5)

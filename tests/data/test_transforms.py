"""Transforms give the pixels of torchvision's parts, as 8-bit numbers."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from nni_autoformer import ConfigError, ModelConfig
from nni_autoformer.data import eval_transform, normalise, train_transform

BIG, SMALL = ModelConfig(), ModelConfig(img_size=(32, 32), patch_size=4)


def picture(width, height, mode="RGB"):
    rng = np.random.default_rng(width)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("size", [(500, 375), (300, 600), (100, 100)])
def test_evaluation_is_the_published_crop(size):
    image = picture(*size)
    expected = F.center_crop(F.resize(image, 256, F.InterpolationMode.BICUBIC), 224)
    result = eval_transform(BIG)(image)
    assert result.dtype == torch.uint8
    assert np.array_equal(result, np.asarray(expected).transpose(2, 0, 1))


def test_small_images_are_evaluated_whole():
    image = picture(32, 32)
    assert np.array_equal(eval_transform(SMALL)(image), np.asarray(image).transpose(2, 0, 1))
    grey = ModelConfig(img_size=(8, 8), patch_size=2, in_chans=1)
    assert eval_transform(grey)(picture(8, 8, "L")).shape == (1, 8, 8)


def test_wide_images():
    wide = ModelConfig(img_size=(64, 96), patch_size=16)
    assert eval_transform(wide)(picture(300, 200)).shape == (3, 64, 96)
    assert train_transform(wide)(picture(300, 200)).shape == (3, 64, 96)


def test_the_random_crop_of_small_images_moves_and_pads():
    image = Image.fromarray(np.full((32, 32, 3), 255, dtype=np.uint8))
    torch.manual_seed(0)
    results = [train_transform(SMALL, hflip=0.0)(image) for _ in range(60)]
    blank = [int((result == 0).all(axis=(0, 1)).sum()) for result in results]
    assert max(blank) == 4  # an eighth of the side
    assert len(set(blank)) > 2
    still = [train_transform(SMALL, hflip=0.0, crop_padding=0)(image) for _ in range(5)]
    assert all((result == 255).all() for result in still)


def test_the_flip_and_the_crop_follow_their_flags():
    image = picture(224, 224)
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    straight = np.asarray(image).transpose(2, 0, 1)
    assert np.array_equal(train_transform(BIG, hflip=0.0, **whole)(image), straight)
    assert np.array_equal(train_transform(BIG, hflip=1.0, **whole)(image), straight[:, :, ::-1])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hflip": 1.5}, "--hflip is 1.5"),
        ({"scale": (0.5, 0.1)}, "--scale is 0.5 0.1"),
        ({"scale": (0.0, 1.0)}, "--scale is 0.0 1.0"),
        ({"ratio": (2.0, 1.0)}, "--ratio is 2.0 1.0"),
        ({"crop_padding": -1}, "--crop-padding is -1"),
        ({"interpolation": "cubic"}, "--interpolation cubic: known are bicubic"),
    ],
)
def test_bad_training_flags(values, words):
    with pytest.raises(ConfigError, match=words):
        train_transform(BIG, **values)


def test_bad_evaluation_flags():
    with pytest.raises(ConfigError, match="--crop-pct is 0"):
        eval_transform(BIG, crop_pct=0)
    with pytest.raises(ConfigError, match="--interpolation"):
        eval_transform(BIG, interpolation="")


def test_normalise():
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = torch.stack([F.normalize(image / 255, mean, std) for image in images])
    torch.testing.assert_close(normalise(images, mean, std), expected, rtol=1e-5, atol=1e-6)
    assert normalise(images, mean, std, torch.float64).dtype == torch.float64

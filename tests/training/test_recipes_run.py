"""Each recipe for supernets runs for a few steps, on generated images of the right shape."""

import numpy as np
import pytest
from PIL import Image

from nni_autoformer.checkpoints import read_header
from nni_autoformer.cli import main

SPACE = """
name: short
choices: {embed_dim: [16, 32], depth: [1, 2], num_heads: [1], mlp_ratio: [1]}
model: {img_size: 224, patch_size: 32}
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise of 240 x 260 pixels in three classes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 2)):
        for name in ("a", "b", "c"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (24, 26, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((260, 240)).save(root / split / name / f"{i}.jpg")
    (root / "space.yaml").write_text(SPACE)
    return root


@pytest.mark.parametrize("name", ["paper", "small-data", "elastic"])
def test_a_recipe_runs(photos, tmp_path, name):
    command = f"train --space {photos}/space.yaml --data {photos} --output {tmp_path / 'run'} --device cpu"
    few = "--epochs 2 --warmup-epochs 1 --batch-size 6 --val-interval 1"
    if name == "elastic":  # else it needs an original
        few += " --teacher none"
    assert main([*command.split(), "--recipe", name, *few.split()]) == 0
    header = read_header(tmp_path / "run" / "supernet.safetensors")
    assert header.run["epoch"] == 2 and header.run["recipe"]["mixup"] == 0.8
    assert (tmp_path / "run" / "supernet-ema.safetensors").exists() == (name == "small-data")

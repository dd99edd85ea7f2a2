"""``space --from`` and ``train --from``: what a user types, and what goes wrong."""

import re

import pytest
import safetensors.torch
from timm.models.vision_transformer import VisionTransformer

from nni_autoformer import SearchSpace
from nni_autoformer.cli import main


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    path = tmp_path_factory.mktemp("vit") / "vit.safetensors"
    network = VisionTransformer(img_size=8, patch_size=4, embed_dim=64, depth=4, num_heads=1, num_classes=3)
    safetensors.torch.save_file(network.state_dict(), path)
    return path


def test_a_space_around_a_model_of_timm(tmp_path, capsys):
    assert main(["space", "--from", "deit_small_patch16_224", "--output", str(tmp_path / "small.yaml")]) == 0
    space = SearchSpace.load(tmp_path / "small.yaml")
    assert (space.embed_dim, space.depth) == ((192, 240, 288, 336, 384), (9, 10, 11, 12))
    assert (space.num_heads, space.mlp_ratio) == ((3, 4, 5, 6), (2.0, 2.5, 3.0, 3.5, 4.0))
    assert (space.model.norm_eps, space.model.global_pool) == (1e-6, "token")
    assert "22.051 M parameters" in capsys.readouterr().out  # DeiT-S has 22,050,664


def test_a_space_around_a_file_for_other_images(vit, tmp_path):
    words = ["--from", str(vit), "--img-size", "16", "12", "--relative-position"]
    assert main(["space", *words, "--output", str(tmp_path / "space.yaml")]) == 0
    space = SearchSpace.load(tmp_path / "space.yaml")
    assert space.name == "vit" and space.depth == (3, 4) and space.num_heads == (1,)
    assert space.model.img_size == (16, 12) and space.model.relative_position
    assert space.model.max_relative_position == 4


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("space", "give either --space, a search space, or --from, a network to make one of"),
        ("space --space tiny --from deit_tiny_patch16_224", "give either --space"),
        ("space --space tiny --img-size 32", "--img-size is for a space that is made with --from"),
        ("space --space tiny --relative-position", "--relative-position is for a space"),
        ("space --from resnet18", "the network has other layers than a plain vision transformer"),
        ("space --from nothere.pth", "neither a file nor a model of timm"),
        ("space --from {vit} --img-size 30", "the side should be a multiple of the patch's, 4 pixels"),
        ("space --from {vit} --output {vit}", "exists already"),
        ("train {rest}", "--space is missing: the name of a packaged search space"),
        ("train --from {vit} {rest}", "nni-autoformer space --from .* writes one"),
        ("train --space digits --from {vit} {rest}", "embed_dim is 80 here and 64 there"),
        ("train --space digits --importance none {rest}", "--importance is about the network of --from"),
        ("train --space digits --importance-images 9 {rest}", "--importance-images is about the network"),
        ("train --space digits --use-ema {rest}", "--use-ema is about the network of --from"),
        ("train --space digits --from {vit} --importance-images 0 {rest}", "should be 1 or more"),
        ("train --space digits --recipe elastic {rest}", "it needs train with --from"),
        ("train --space digits --from timm:no_such_model {rest}", "timm has no model 'no_such_model'"),
    ],
)
def test_mistakes_are_sentences(command, sentence, vit, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rest = "--dataset digits --output run --device cpu"
    assert main(command.format(vit=vit, rest=rest).split()) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error), error
    assert error.count("error: ") == 1 and "Traceback" not in error
    assert not (tmp_path / "run").exists()

"""What --from opens, and what it refuses."""

import json

import pytest
import safetensors.torch
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from nni_autoformer import Architecture, ConfigError, ModelConfig, SearchSpace, build_supernet, save_supernet
from nni_autoformer.checkpoints.pretrained import open_source
from nni_autoformer.checkpoints.writing import save_subnet
from nni_autoformer.nn.subnet import Subnet

SIZES = {"img_size": 16, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1, "num_classes": 5}
IMAGES = torch.randn(2, 3, 16, 16, dtype=torch.float64)


def vit(**options):
    return VisionTransformer(**{**SIZES, **options}).eval()


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    return vit()


def same(source, network):
    return (source.subnet(IMAGES) - network.double()(IMAGES)).abs().max() < 1e-10


WRAPPED = {
    "plain": lambda tensors: tensors,
    "module.": lambda tensors: {f"module.{key}": tensor for key, tensor in tensors.items()},
    "model_ema": lambda tensors: {"model_ema": tensors},
    "timm's script": lambda tensors: {"epoch": 3, "arch": "not_in_timm", "state_dict": tensors},
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
def test_a_file_of_a_plain_vit(plain, wrapped, tmp_path, caplog):
    torch.save(wrapped(plain.float().state_dict()), tmp_path / "vit.pth")
    source = open_source(str(tmp_path / "vit.pth"))
    assert same(source, plain)
    assert source.subnet.model == ModelConfig(
        (16, 16), 8, 3, 5, "token", relative_position=False, norm_eps=1e-6
    )
    assert source.differences is not None and source.space is None and not source.headless
    assert "Assumed: heads have 64 channels; norms have eps 1e-06; the class token is pooled" in caplog.text


def test_half_precision_becomes_float32(plain, tmp_path):
    half = {key: tensor.half() for key, tensor in plain.state_dict().items()}
    safetensors.torch.save_file(half, tmp_path / "half.safetensors")
    source = open_source(str(tmp_path / "half.safetensors"))
    plain_half = vit()
    plain_half.load_state_dict({key: tensor.float() for key, tensor in half.items()})
    assert same(source, plain_half)


def test_layers_that_the_names_tell_of(tmp_path):
    network = vit(init_values=0.1, pre_norm=True, qkv_bias=False, global_pool="avg", num_classes=0)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    source = open_source(str(tmp_path / "vit.pth"))
    assert source.headless
    assert (source.subnet.model.global_pool, source.subnet.model.fc_norm) == ("avg", True)
    assert source.differences is not None and source.differences[1] < 1e-10


def test_the_space_says_how_a_file_pools(plain, tmp_path):
    torch.save(plain.float().state_dict(), tmp_path / "vit.pth")
    model = ModelConfig((16, 16), 8, global_pool="avg", relative_position=False)
    space = SearchSpace("s", (64,), (2,), (1,), (4.0,), model)
    source = open_source(str(tmp_path / "vit.pth"), space)
    mean = vit(global_pool="avg", fc_norm=False)
    mean.load_state_dict(plain.state_dict())
    assert same(source, mean)


@pytest.mark.parametrize("named", [True, False])
def test_a_file_as_a_model_of_timm(named, tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", depth=12, num_classes=5, img_size=32).eval()
    content = {"state_dict": network.state_dict(), **({} if named else {"arch": "vit_tiny_patch16_224"})}
    torch.save(content, tmp_path / "vit.pth")
    word = str(tmp_path / "vit.pth")
    source = open_source(f"vit_tiny_patch16_224={word}" if named else word)
    assert source.subnet.model.img_size == (32, 32) and source.file == tmp_path / "vit.pth"
    assert source.run.mean == (0.5, 0.5, 0.5)  # of that model in timm
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert (source.subnet(images) - network.double()(images)).abs().max() < 1e-10


def test_a_folder_of_timms_hub(plain, tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=4).eval()
    safetensors.torch.save_file(network.state_dict(), folder / "model.safetensors")
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 4, "model_args": {"img_size": 32}}
    config["pretrained_cfg"] = {"input_size": [3, 32, 32], "mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}
    (folder / "config.json").write_text(json.dumps(config))
    source = open_source(f"local-dir:{folder}")
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert (source.subnet(images) - network.double()(images)).abs().max() < 1e-10
    assert source.run.mean == (0.4, 0.4, 0.4)


def test_supernets_and_subnets_of_our_own(tmp_path):
    space = SearchSpace("s", (32, 64), (1, 2), (1, 2), (1.0, 2.0), ModelConfig((16, 16), 8, num_classes=5))
    supernet = build_supernet(space)
    save_supernet(tmp_path / "super.safetensors", supernet, {"classes": list("abcde")})
    source = open_source(str(tmp_path / "super.safetensors"))
    assert source.space == space and source.run.classes == tuple("abcde") and source.differences is None
    assert same(source, supernet.extract(space.largest).eval())
    subnet = Subnet(Architecture(64, (1, 2), (2.0, 1.0)), space.model).eval()
    save_subnet(tmp_path / "sub.safetensors", subnet, {})
    source = open_source(str(tmp_path / "sub.safetensors"))
    assert source.space is None and same(source, subnet)


def wrong(tmp_path, plain):
    """Words and parts of the sentences that they give."""
    tensors = plain.float().state_dict()
    files = {
        "missing": {key: tensor for key, tensor in tensors.items() if key != "norm.weight"},
        "no patches": {key: tensor for key, tensor in tensors.items() if "patch_embed" not in key},
        "flat": {**tensors, "patch_embed.proj.weight": torch.zeros(())},
        "surplus": {**tensors, "extra.weight": torch.zeros(2)},
        "narrow": vit(embed_dim=96, num_heads=2).state_dict(),
        "shape": {**tensors, "blocks.1.mlp.fc2.weight": torch.zeros(64, 100)},
        "convolutions": {"conv1.weight": torch.zeros(3, 3)},
        "nan": {**tensors, "head.bias": torch.full((5,), float("nan"))},
        "registers": vit(reg_tokens=2).state_dict(),
    }
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    return {
        f"{tmp_path}/missing.pth": "lacks the tensor 'norm.weight'",
        f"{tmp_path}/no patches.pth": "neither|tensors are not those of a plain ViT|no network",
        f"{tmp_path}/flat.pth": "the tensors are not those of a plain ViT",
        f"{tmp_path}/surplus.pth": "the tensor 'extra.weight' has no place",
        f"{tmp_path}/narrow.pth": "queries have 96 channels, which are no heads of 64",
        f"{tmp_path}/shape.pth": r"'blocks.1.mlp.fc2.weight' has shape \[64, 100\]; .* needs \[64, 256\]",
        f"{tmp_path}/convolutions.pth": "no network that is known here",
        f"{tmp_path}/nan.pth": "differ by nan",
        f"{tmp_path}/registers.pth": "register tokens",
        f"{tmp_path}/text.pth": "this is a text file",
        f"{tmp_path}/nothing.pth": "neither a file nor a model of timm. It should be a file, timm:NAME",
        str(tmp_path): "is a folder; local-dir:",
        "deit_tiny_patch16_224": "timm:deit_tiny_patch16_224 takes its pretrained weights",
        "timm:deit_tinny_patch16_224": "timm has no model 'deit_tinny_patch16_224'; near are deit3",
        f"deit_tinny={tmp_path}/nan.pth": "timm has no model 'deit_tinny'",
        f"deit_tiny_patch16_224={tmp_path}/nothing.pth": "there is no file",
        f"deit_tiny_patch16_224={tmp_path}/nan.pth": r"has shape \[1, 1, 64\]; deit_tiny_patch16_224 needs",
        f"local-dir:{tmp_path}": "timm cannot make it with its weights",
    }


def test_what_cannot_be_used_is_refused_with_a_sentence(tmp_path, plain):
    for word, sentence in wrong(tmp_path, plain).items():
        with pytest.raises(ConfigError, match=sentence):
            open_source(word)


def test_without_weights_a_name_gives_the_sizes():
    source = open_source("deit_tiny_patch16_224", weights=False)
    assert source.subnet.architecture == Architecture(192, (3,) * 12, (4.0,) * 12)
    with pytest.raises(ConfigError, match="a distillation token"):
        open_source("deit_tiny_distilled_patch16_224", weights=False)

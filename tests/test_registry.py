"""AutoFormer models are ordinary timm models."""

import io

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import resolve_data_config
from timm.models import create_feature_extractor
from torchvision.models import feature_extraction as torchvision_features

import nni_autoformer.registry  # noqa: F401
from nni_autoformer import Architecture, ConfigError, ModelConfig, SearchSpace, Subnet
from nni_autoformer.checkpoints import save_subnet
from nni_autoformer.checkpoints.resize import resample_table

PUBLISHED = ["autoformer_base_patch16_224", "autoformer_small_patch16_224", "autoformer_tiny_patch16_224"]
SMALL = Architecture(32, (1, 2, 1), (1.5, 2.0, 2.0))
OPTIONS = {
    "architecture": SMALL,
    "img_size": 32,
    "patch_size": 8,
    "num_classes": 5,
    "max_relative_position": 3,
}


def small(**kwargs):
    torch.manual_seed(0)
    model = timm.create_model("autoformer", **{**OPTIONS, **kwargs})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_they_are_registered():
    assert timm.list_models("autoformer*") == ["autoformer", *PUBLISHED]
    config = resolve_data_config(model=small())
    assert config["crop_pct"] == 0.875 and config["interpolation"] == "bicubic"
    assert config["mean"] == (0.485, 0.456, 0.406)
    with pytest.raises(ConfigError, match="needs the network: checkpoint_path"):
        timm.create_model("autoformer")


@pytest.mark.parametrize(("name", "space"), list(zip(PUBLISHED, ("base", "small", "tiny"), strict=True)))
def test_the_published_ones_are_the_published_subnets(name, space):
    loaded = SearchSpace.load(space)
    architecture = loaded.architectures["published"]
    with torch.device("meta"):
        subnet = Subnet(architecture, loaded.model)
    model = timm.create_model(name)
    shapes = {key: tensor.shape for key, tensor in subnet.state_dict().items()}
    assert {key: tensor.shape for key, tensor in model.state_dict().items()} == shapes
    assert model.blocks[-1].drop_path.rate == 0
    dropping = timm.create_model(name, drop_path_rate=0.1)
    assert dropping.blocks[-1].drop_path.rate < 0.1  # the rate rises over the supernet's depth


@pytest.mark.parametrize(
    "options", [{}, {"relative_position": False}, {"absolute_position": False}, {"global_pool": "token"}]
)
def test_the_logits_are_the_subnets(options):
    model = small(**options)
    config = ModelConfig((32, 32), 8, num_classes=5, max_relative_position=3, **options)
    subnet = Subnet(SMALL, config).eval()
    subnet.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(X), subnet(X), rtol=0, atol=1e-6)


def test_forward_parts_and_intermediates():
    model = small()
    features = model.forward_features(X)
    assert features.shape == (2, 17, 32)
    torch.testing.assert_close(model.forward_head(features), model(X))
    assert model.forward_head(features, pre_logits=True).shape == (2, 32)
    final, intermediates = model.forward_intermediates(X)
    torch.testing.assert_close(final, features)
    assert [tuple(t.shape) for t in intermediates] == [(2, 32, 4, 4)] * 3
    layers = model.get_intermediate_layers(X, n=2)
    assert len(layers) == 2 and layers[0].shape == (2, 16, 32)


def test_features_only():
    model = small(features_only=True)
    assert [tuple(t.shape) for t in model(X)] == [(2, 32, 4, 4)] * 3
    assert model.feature_info.channels() == [32, 32, 32]
    assert model.feature_info.reduction() == [8, 8, 8]


def test_the_classifier_can_be_replaced():
    model = small()
    assert model.get_classifier() is model.head
    model.reset_classifier(9)
    assert model(X).shape == (2, 9)
    model.reset_classifier(0)
    assert model(X).shape == (2, 32)
    assert small(num_classes=0)(X).shape == (2, 32)
    assert small(in_chans=1)(X[:, :1]).shape == (2, 5)


def test_parameter_groups_of_timm():
    from timm.optim import param_groups_layer_decay

    model = small()
    assert {"cls_token", "pos_embed"} <= set(model.no_weight_decay())
    groups = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=0.75)
    total = sum(p.numel() for group in groups for p in group["params"])
    assert total == sum(p.numel() for p in model.parameters())
    scales = {round(group["lr_scale"], 4) for group in groups}
    assert len(scales) == 5  # stem, three layers, head


def test_gradient_checkpointing_changes_nothing():
    model = small().train()
    model(X).sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model.set_grad_checkpointing()
    model(X).sum().backward()
    for parameter, gradient in zip(model.parameters(), expected):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-5)


def test_state_dict_round_trip_and_checkpoint_path(tmp_path):
    model = small()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.save(model.state_dict(), tmp_path / "model.pth")
    for name in ("model.safetensors", "model.pth"):
        loaded = timm.create_model("autoformer", checkpoint_path=str(tmp_path / name), **OPTIONS).eval()
        with torch.no_grad():
            assert torch.equal(loaded(X), model(X))


def test_the_architecture_from_a_file_or_a_dict(tmp_path):
    SMALL.to_yaml(tmp_path / "best.yaml")
    for value in (tmp_path / "best.yaml", str(tmp_path / "best.yaml"), SMALL.to_dict()):
        assert timm.create_model("autoformer", **{**OPTIONS, "architecture": value}).architecture == SMALL


@pytest.mark.parametrize("bare", [False, True], ids=["header", "no header"])
@pytest.mark.parametrize("pool", ["avg", "token"])
def test_the_network_is_taken_from_the_file(tmp_path, pool, bare, caplog):
    """Sizes, tables and pooling that nobody types; of a file without a header what its tensors tell."""
    config = ModelConfig((32, 32), 4, 1, 7, pool, max_relative_position=5)
    subnet = Subnet(SMALL, config).eval()
    for parameter in subnet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    file = tmp_path / "t.safetensors"
    run = {"mean": (0.3,), "std": (0.4,), "crop_pct": 0.9, "classes": list("abcdefg")}
    if bare:
        save_file(subnet.state_dict(), file)
    else:
        save_subnet(file, subnet, run)
    model = timm.create_model("autoformer", checkpoint_path=str(file)).eval()
    x = X[:, :1]
    with torch.no_grad():
        assert torch.equal(model(x), subnet(x)) or (bare and pool == "token")
    assert model.patch_embed.patch_size == (4, 4) and model.max_relative_position == 5
    data = resolve_data_config(model=model)
    assert data["input_size"] == (1, 32, 32)
    if bare:
        assert "Assumed: images are square, 32 x 32" in caplog.text
    else:
        assert (data["mean"], data["std"], data["crop_pct"]) == ((0.3,), (0.4,), 0.9)
        assert model.pretrained_cfg["label_names"] == tuple("abcdefg")
        features = timm.create_model("autoformer", checkpoint_path=file, num_classes=7, drop_path_rate=0.1)
        assert features.blocks[-1].drop_path.rate == pytest.approx(0.1)


def test_a_file_of_another_kind_is_named(toy, tmp_path):
    with pytest.raises(ConfigError, match=r"holds a supernet, and timm loads one subnet: .*convert --to"):
        timm.create_model("autoformer", checkpoint_path=str(toy / "run" / "supernet.safetensors"))
    with pytest.raises(ConfigError, match="there is no such checkpoint"):
        timm.create_model("autoformer", checkpoint_path=f"{tmp_path}/nothing.safetensors")


def test_the_network_is_taken_from_best_yaml(tmp_path):
    config = ModelConfig((32, 48), 8, 1, 7, "token", max_relative_position=5)
    SMALL.to_yaml(tmp_path / "best.yaml", "two\nlines", config.to_dict())
    assert Architecture.from_yaml(tmp_path / "best.yaml") == SMALL
    model = timm.create_model("autoformer", architecture=str(tmp_path / "best.yaml"))
    shapes = {key: tensor.shape for key, tensor in Subnet(SMALL, config).state_dict().items()}
    assert {key: tensor.shape for key, tensor in model.state_dict().items()} == shapes
    assert model.global_pool == "token" and resolve_data_config(model=model)["input_size"] == (1, 32, 48)
    other = timm.create_model("autoformer", architecture=tmp_path / "best.yaml", num_classes=3, img_size=64)
    assert other.num_classes == 3 and resolve_data_config(model=other)["input_size"] == (1, 64, 64)
    (tmp_path / "bad.yaml").write_text("embed_dim: 32\nnum_heads: [1]\nmlp_ratio: [2]\nmodel: {img_size: 0}")
    with pytest.raises(ConfigError, match=r"bad.yaml: model: img_size is 0"):
        timm.create_model("autoformer", architecture=tmp_path / "bad.yaml")


def test_the_same_input_size_changes_no_bit():
    model = small()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.set_input_size(32)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("how", ["interpolate", "clip"])
@pytest.mark.parametrize("size", [(48, 48), (32, 64), (16, 24)])
def test_another_input_size(size, how):
    model = small()
    tables = {k: t.clone() for k, t in model.state_dict().items() if "embeddings_table" in k}
    model.set_input_size(size, relative_position=how)
    assert model(torch.randn(1, 3, *size)).shape == (1, 5)
    assert model.pos_embed.shape[1] == 1 + size[0] // 8 * (size[1] // 8)
    for key, table in tables.items():
        now = model.state_dict()[key]
        assert torch.equal(now[0], table[0])
        assert (now.shape == table.shape) or how == "interpolate"
        if how == "clip":
            assert torch.equal(now, table)
    with pytest.raises(ConfigError, match="relative_position is 'nearest'"):
        model.set_input_size(32, relative_position="nearest")


def test_tables_are_interpolated_linearly_along_the_offset():
    old = torch.arange(-4.0, 5.0).unsqueeze(1).expand(-1, 64)  # each row holds its offset
    table = torch.cat((torch.full((1, 64), 100.0), old))
    doubled = resample_table(table, 8, 0.5)
    assert doubled[0, 0] == 100
    torch.testing.assert_close(doubled[1:, 0], torch.arange(-8, 9) / 2)
    assert torch.equal(resample_table(table, 4, 1), table)
    wide = resample_table(table, 8, 1.0)  # beyond the old range: the farthest row
    torch.testing.assert_close(wide[1:, 0], torch.arange(-8.0, 9.0).clamp(-4, 4))


def test_a_checkpoint_of_another_size_or_layout_is_made_to_fit():
    from nni_autoformer.checkpoints.layouts import timm_to_hub
    from nni_autoformer.registry import checkpoint_filter_fn

    model, bigger = small(), small(img_size=64, max_relative_position=6)
    fitted = checkpoint_filter_fn(model.state_dict(), bigger)
    bigger.load_state_dict(fitted)
    resized = small()
    resized.set_input_size(64)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(bigger(x), resized(x), rtol=1e-5, atol=1e-5)
        same = small()
        same.load_state_dict(checkpoint_filter_fn({"model": timm_to_hub(model.state_dict())}, same))
        torch.testing.assert_close(same(X), model(X))


def test_backward_reaches_every_parameter():
    model = small().train()
    model(X).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_torch_export_with_a_dynamic_batch():
    model = small()
    program = torch.export.export(model, (X,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=2)}})
    x = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x), rtol=0, atol=1e-5)


def test_torch_compile():
    model = small()
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(X), model(X), rtol=0, atol=1e-5)


FORMS = [{}, {"relative_position": False}, {"global_pool": "token", "drop_path_rate": 0.2}]


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("create", [create_feature_extractor, torchvision_features.create_feature_extractor])
def test_features_by_tracing(create, options):
    model = small(**options)
    extractor = create(model, ["blocks.0.attn.qkv", "blocks.1", "head"])
    with torch.no_grad():
        features = extractor.eval()(X)
        assert {name: tuple(tensor.shape[1:]) for name, tensor in features.items()} == {
            "blocks.0.attn.qkv": (17, 3 * 64),
            "blocks.1": (17, 32),
            "head": (5,),
        }
        assert torch.equal(features["head"], model(X))

    gradients = []
    for network in (lambda x: extractor(x)["head"], model):
        extractor.train(), model.train(), model.zero_grad()
        torch.manual_seed(0)  # of drop path
        network(X).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for mine, theirs in zip(*gradients):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("options", FORMS)
def test_torchscript(options):
    model = small(**options)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    with torch.no_grad():
        torch.testing.assert_close(loaded(X), model(X), rtol=0, atol=1e-5)
    loaded.train()(X).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_a_traced_model_can_be_scripted():
    model = small()
    scripted = torch.jit.script(create_feature_extractor(model, ["head"]).eval())
    with torch.no_grad():
        torch.testing.assert_close(scripted(X)["head"], model(X), rtol=0, atol=1e-5)


@pytest.mark.parametrize("relative_position", [True, False])
def test_attention_masks(relative_position):
    model = small(relative_position=relative_position)
    seen = torch.ones(17, 17, dtype=torch.bool)
    seen[:, 5:] = False  # what is drawn on these patches must not show in the others
    other = X.clone()
    other[:, :, 8:] += 1  # all rows of patches but the first
    with torch.no_grad():
        features = model.forward_features(X, attn_mask=seen)
        assert torch.equal(model.forward_features(other, attn_mask=seen)[:, :5], features[:, :5])
        assert not torch.equal(model.forward_features(X)[:, :5], features[:, :5])
        causal = model.forward_features(X, is_causal=True)
        assert torch.equal(causal, model.forward_features(X, attn_mask=torch.ones(17, 17).tril().bool()))


def test_a_plain_subnet_is_traced_and_scripted_too():
    subnet = Subnet(SMALL, ModelConfig((32, 32), 8, num_classes=5, max_relative_position=3)).eval()
    with torch.no_grad():
        assert torch.equal(torch.fx.symbolic_trace(subnet)(X), subnet(X))
        torch.testing.assert_close(torch.jit.script(subnet)(X), subnet(X), rtol=0, atol=1e-6)

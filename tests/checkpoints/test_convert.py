"""Another layout holds the same network exactly, or is refused; what it has no place for stands beside it."""

import json
import random

import pytest
import torch

from nni_autoformer import Architecture, Checkpoint, ConfigError, save_supernet
from nni_autoformer.checkpoints import save_subnet
from nni_autoformer.checkpoints.convert import convert

RUN = {
    "dataset": "folder",
    "classes": ["a", "b", "c", "d", "e"],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.1],
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "recipe": {"seed": 7},
    "selection": {"file": "selection.txt", "digest": "0" * 64, "images": 12},
    "epoch": 3,
}
KEPT = {key: value for key, value in RUN.items() if key != "selection"}


@pytest.fixture
def save(tmp_path, make_supernet):
    """The function that saves the supernet of a space and gives its checkpoint and the supernet."""

    def save(space):
        supernet = make_supernet(space)
        save_supernet(tmp_path / "own.safetensors", supernet, RUN)
        return Checkpoint(tmp_path / "own.safetensors"), supernet

    return save


def hub_network(architecture, model):
    """The network that NNI's hub builds for a subnet."""
    from nni.nas.hub.pytorch import AutoFormer as Hub

    return Hub.frozen_factory(architecture.to_sample())(
        search_embed_dim=(architecture.embed_dim,),
        search_mlp_ratio=tuple(sorted({*architecture.mlp_ratio})),
        search_num_heads=tuple(sorted({*architecture.num_heads})),
        search_depth=(architecture.depth,),
        img_size=model.img_size[0],
        patch_size=model.patch_size,
        in_channels=model.in_chans,
        num_labels=model.num_classes,
        drop_path_rate=0.0,
        global_pooling=model.global_pool == "avg",
        absolute_position=model.absolute_position,
        rpe=model.relative_position,
    ).eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_relative_position": 1},
        {"max_relative_position": 2},
        {"max_relative_position": 4},
        {"max_relative_position": 9},
        {"global_pool": "token", "relative_position": False},
        {"absolute_position": False, "img_size": (24, 24)},
    ],
)
def test_nnis_hub_builds_and_loads_what_is_written_for_it(tmp_path, small_space, save, changes):
    space = small_space.with_model(**changes)
    checkpoint, supernet = save(space)
    architecture = Architecture(24, (2, 1), (1.5, 2.0))
    architecture.to_yaml(tmp_path / "a.yaml")
    convert(checkpoint, "hub", tmp_path / "hub.pth", tmp_path / "a.yaml")
    hub = hub_network(architecture, space.model)
    hub.load_state_dict(torch.load(tmp_path / "hub.pth", weights_only=True))
    images = torch.randn(3, space.model.in_chans, *space.model.img_size)
    subnet = supernet.extract(architecture)
    with torch.no_grad():
        torch.testing.assert_close(hub(images), subnet(images), rtol=0, atol=2e-5)
        again = Checkpoint(tmp_path / "hub.pth").subnet()
        torch.testing.assert_close(again(images), subnet(images), rtol=0, atol=1e-6)
    assert again.architecture == architecture
    assert again.model.global_pool == space.model.global_pool


@pytest.mark.parametrize("layout", ["hub", "published"])
def test_images_that_are_no_squares_have_no_place_there(tmp_path, small_space, save, layout):
    checkpoint, _ = save(small_space.with_model(img_size=(16, 24)))
    which = "middle" if layout == "hub" else None
    with pytest.raises(ConfigError, match=rf"--to {layout}: .* square images only, .* 4 x 6 patches"):
        convert(checkpoint, layout, tmp_path / "x.pth", which)
    assert [path.name for path in tmp_path.iterdir()] == ["own.safetensors"]
    convert(checkpoint, "timm", tmp_path / "timm.safetensors", "middle")
    assert Checkpoint(tmp_path / "timm.safetensors").header.space.model.img_size == (16, 24)


def test_a_hub_supernet_is_refused(tmp_path, small_space, save):
    checkpoint, _ = save(small_space)
    checkpoint.header.kind = "hub supernet"
    with pytest.raises(ConfigError, match="cannot be converted exactly"):
        convert(checkpoint, "published", tmp_path / "x.pth")


@pytest.mark.parametrize("layout", ["published", "hub"])
def test_there_and_back_nothing_is_lost(tmp_path, small_space, save, logged, layout):
    """Not the images' preparation, the classes, the pooling, nor the ratios."""
    space = small_space.with_model(global_pool="token")
    checkpoint, supernet = save(space)
    which = "middle" if layout == "hub" else None
    path = convert(checkpoint, layout, tmp_path / "there.pth", which)
    (said,) = logged
    assert said.startswith("warning ") and "there.pth.json beside it" in said
    logged.clear()
    there = Checkpoint(path)
    assert there.header.run == KEPT and not logged
    back = convert(there, "timm" if which else "supernet", tmp_path / "back.safetensors")
    found = Checkpoint(back).header
    assert found.run == KEPT and found.space.model == there.header.space.model
    assert found.space.model.global_pool == "token"
    if layout == "published":
        assert found.space == space
        for key, tensor in Checkpoint(back).supernet().state_dict().items():
            assert torch.equal(tensor, supernet.state_dict()[key])
    else:
        assert found.subnet == space.middle
    described = json.loads((tmp_path / "there.pth.json").read_text())
    assert described["nni_autoformer"]["run"]["mean"] == RUN["mean"]


def test_a_description_of_other_bytes_is_not_used(tmp_path, small_space, save, logged):
    checkpoint, _ = save(small_space)
    convert(checkpoint, "published", tmp_path / "a.pth")
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    content["model"]["head.bias"] += 1
    torch.save(content, tmp_path / "a.pth")
    logged.clear()
    header = Checkpoint(tmp_path / "a.pth", small_space).header
    assert header.run.mean == (0.485, 0.456, 0.406)
    assert "a.pth.json: it describes another file than" in logged[0]


def test_a_description_of_another_space_or_malformed(tmp_path, small_space, save, logged):
    checkpoint, _ = save(small_space)
    convert(checkpoint, "published", tmp_path / "a.pth")
    place = tmp_path / "a.pth.json"
    other = Checkpoint(tmp_path / "a.pth", small_space.with_model(global_pool="token"))
    assert other.header.space == small_space
    assert "global_pool avg in place of token" in logged[-1]
    content = json.loads(place.read_text())
    content["nni_autoformer"]["run"]["std"] = [0, 0, 0]
    place.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"a\.pth\.json: run\.std is \[0, 0, 0\]"):
        Checkpoint(tmp_path / "a.pth", small_space)
    for text in ("[]", '{"hidden_size": 3}', "[" * 5000, "\ud83d".encode("utf-16", "surrogatepass")):
        place.write_bytes(text) if isinstance(text, bytes) else place.write_text(text)
        assert Checkpoint(tmp_path / "a.pth", small_space).header.run.mean == (0.485, 0.456, 0.406)


def test_what_exists_already_is_not_overwritten(tmp_path, small_space, save):
    checkpoint, _ = save(small_space)
    (tmp_path / "a.pth.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"a\.pth\.json exists already"):
        convert(checkpoint, "published", tmp_path / "a.pth")
    assert not (tmp_path / "a.pth").exists()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="link exists already"):
        convert(checkpoint, "published", tmp_path / "link")
    with pytest.raises(ConfigError, match=r"--to onnx: known are supernet, published, timm, hub"):
        convert(checkpoint, "onnx", tmp_path / "b.pth")


def test_ratios_come_back_from_every_layout(tmp_path, make_supernet):
    """Also where the hidden width fits a rounder ratio."""
    from nni_autoformer import SearchSpace

    space = SearchSpace.from_dict(
        {
            "name": "thirds",
            "choices": {
                "embed_dim": [72, 120, 192],
                "depth": [2, 3, 4],
                "num_heads": [1, 2, 3],
                "mlp_ratio": [1.0, 1.33, 2.0],
            },
            "model": {"img_size": 16, "patch_size": 4, "num_classes": 5, "max_relative_position": 4},
        }
    )
    supernet = make_supernet(space)
    for seed in range(2):
        architecture = space.sample(random.Random(seed))
        own = tmp_path / f"{seed}.safetensors"
        save_subnet(own, supernet.extract(architecture), {})
        hub = convert(Checkpoint(own), "hub", tmp_path / f"{seed}.pth")
        published = convert(Checkpoint(own), "published", tmp_path / f"{seed}-published.pth")
        timm = convert(Checkpoint(hub), "timm", tmp_path / f"{seed}-timm.safetensors")
        for path in (own, hub, timm):
            assert Checkpoint(path).header.subnet == architecture
        assert Checkpoint(published).header.space.architectures["subnet"] == architecture

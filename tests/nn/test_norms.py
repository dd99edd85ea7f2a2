"""The norms of a network: everything that runs, counts, saves or converts one knows which it has."""

import pytest
import torch

from nni_autoformer import (
    ConfigError,
    ModelConfig,
    SearchSpace,
    build_supernet,
    load_supernet,
    save_supernet,
)
from nni_autoformer.checkpoints import Checkpoint, load_subnet, save_subnet
from nni_autoformer.checkpoints.convert import convert
from nni_autoformer.complexity import params
from nni_autoformer.registry import AutoFormerViT
from nni_autoformer.search.shared_forward import SharedForward, Slices

AROUND = {"img_size": (16, 16), "patch_size": 8, "num_classes": 5, "max_relative_position": 2}
NORMS = {
    "published": {},
    "eps": {"norm_eps": 1e-2},
    "pre-norm": {"pre_norm": True},
    "fc-norm": {"fc_norm": True},
    "all": {"norm_eps": 1e-2, "pre_norm": True, "fc_norm": True},
}
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=NORMS.values(), ids=NORMS)
def supernet(request):
    torch.manual_seed(0)
    model = ModelConfig(**AROUND, **request.param)
    supernet = build_supernet(SearchSpace("s", (32, 64), (1, 2), (1, 2), (1.0, 2.0), model)).eval()
    for parameter in supernet.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return supernet


def test_all_ways_give_the_same_logits(supernet, tmp_path):
    space = supernet.space
    architectures = [space.smallest, space.middle, space.largest]
    save_supernet(tmp_path / "s.safetensors", supernet, {})
    loaded = load_supernet(tmp_path / "s.safetensors")[0].eval()
    assert loaded.space == space
    with torch.no_grad():
        together = dict(SharedForward(Slices(supernet), architectures).logits(IMAGES))
        for number, architecture in enumerate(architectures):
            subnet = supernet.extract(architecture)
            assert sum(p.numel() for p in subnet.parameters()) == params(architecture, space.model)
            save_subnet(tmp_path / "one.safetensors", subnet, {})
            in_timm = AutoFormerViT(architecture, **space.model.to_dict()).eval()
            in_timm.load_state_dict(subnet.state_dict())
            for network in (supernet, loaded):
                network.set_architecture(architecture)
            expected = subnet(IMAGES)
            assert expected.std() > 0.1
            for other in (
                supernet(IMAGES),
                loaded(IMAGES),
                load_subnet(tmp_path / "one.safetensors")[0](IMAGES),
                Checkpoint(tmp_path / "s.safetensors").subnet(architecture)(IMAGES),
                in_timm(IMAGES),
                together[number],
            ):
                assert (other - expected).abs().max() < 1e-5


def test_other_norms_are_other_networks(supernet):
    plain = build_supernet(SearchSpace("p", (32, 64), (1, 2), (1, 2), (1.0, 2.0), ModelConfig(**AROUND)))
    shared = {key.replace("fc_norm", "norm"): value for key, value in supernet.state_dict().items()}
    plain.load_state_dict({key: shared[key] for key in plain.state_dict()})
    for network in (plain.eval(), supernet):
        network.set_architecture(network.space.largest)
    published = supernet.space.model == plain.space.model
    assert ((plain(IMAGES) - supernet(IMAGES)).abs().max() < 1e-5) == published


def test_layouts_without_a_place_for_them_are_refused(supernet, tmp_path):
    save_supernet(tmp_path / "s.safetensors", supernet, {})
    checkpoint = Checkpoint(tmp_path / "s.safetensors")
    if supernet.space.model == ModelConfig(**AROUND):
        assert convert(checkpoint, "published", tmp_path / "s.pth").is_file()
        return
    with pytest.raises(ConfigError, match=r"the network has .*norm.* no place for other norms"):
        convert(checkpoint, "published", tmp_path / "s.pth")
    with pytest.raises(ConfigError, match="--to hub: the network has"):
        convert(checkpoint, "hub", tmp_path / "s.pt", "largest")


@pytest.mark.parametrize(
    "content, sentence",
    [
        ({"norm_eps": 0}, "norm_eps is 0; it should be a number above 0, below 1"),
        ({"norm_eps": "tiny"}, "norm_eps is 'tiny'"),
        ({"pre_norm": 1}, "pre_norm is 1; it should be true or false"),
        ({"fc_norm": True, "global_pool": "token"}, "fc_norm is for global_pool avg"),
    ],
)
def test_malformed_norms_are_refused(content, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ModelConfig.from_dict(content)

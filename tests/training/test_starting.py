"""Supernets that start from a trained network."""

import json
import signal

import pytest
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer

from nni_autoformer import Architecture, ConfigError, ModelConfig, SearchSpace, load_supernet
from nni_autoformer.checkpoints import own_header, save_subnet
from nni_autoformer.checkpoints.pretrained import open_source
from nni_autoformer.cli import main
from nni_autoformer.jobs import train
from nni_autoformer.nn.subnet import Subnet
from nni_autoformer.training.starting import Start, fitted_space, method_for
from tests.processes import finish, kill, start, torchrun, wait_for

NAMES = ["one", "two", "six"]
MODEL = ModelConfig((8, 8), 4, num_classes=3, global_pool="token", relative_position=False, norm_eps=1e-6)
SPACE = SearchSpace("s", (64, 96, 128), (1, 2), (1, 2), (1.0, 2.0), MODEL)
STILL = {"epochs": 1, "lr": 1e-9, "min_lr": 0.0, "warmup_lr": 0.0, "warmup_epochs": 0, "weight_decay": 0.0}
STILL |= {"batch_size": 20, "device": "cpu"}


def random_weights(network):
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 128, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    return random_weights(VisionTransformer(**sizes, num_classes=3))


@pytest.fixture(scope="module")
def vit(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("vit") / "vit.safetensors"
    safetensors.torch.save_file(original.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    SPACE.to_yaml(path)
    return path


def started(source, space=SPACE, classes=NAMES, images=None, method="none"):
    """The largest subnet that a supernet of a space starts as."""
    space = fitted_space(source, space).with_model(num_classes=len(classes))
    start = Start(source, space, classes, 0, method, 8)
    return start.network(images, None, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"))


def batch(model):
    return torch.randn(4, 3, *model.img_size, generator=torch.Generator().manual_seed(2))


def test_at_first_the_largest_subnet_is_the_network(vit, original, toy, tmp_path, caplog, space_file):
    """With steps that change nothing, through the command, in the order of importance."""
    caplog.set_level("INFO", "nni_autoformer")
    trained = train(space_file, toy / "images", tmp_path / "run", start_from=vit, recipe="elastic", **STILL)
    supernet = trained.supernet.eval()
    supernet.set_architecture(SPACE.largest)
    images = batch(MODEL)
    assert (supernet(images) - original(images)).abs().max() < 1e-5
    report = json.loads((tmp_path / "run" / "importance.json").read_text())
    order = report["order"]["embed_dim"]
    assert (report["method"], report["images"]) == ("taylor", 48) and order != sorted(order)
    scores = report["scores"]["embed_dim"]
    assert [scores[place] for place in order] == sorted(scores, reverse=True)
    kept = supernet.state_dict()["patch_embed.proj.weight"]
    assert torch.allclose(kept, original.patch_embed.proj.weight[order], atol=1e-6)
    inherited = own_header(tmp_path / "run" / "supernet.safetensors").run.inherited
    assert inherited["from"] == str(vit) and inherited["importance"] == "taylor"
    assert "computes what the network computes: logits differ by up to" in caplog.text
    assert "The head is kept: 3 classes" in caplog.text


def test_other_classes_get_a_new_head_and_no_teacher(vit, make_image_folder, tmp_path, caplog, space_file):
    caplog.set_level("INFO", "nni_autoformer")
    images = make_image_folder(
        tmp_path / "images", per_class={"train": 20, "val": 8}, classes=("four", "one")
    )
    trained = train(space_file, images, tmp_path / "run", start_from=vit, recipe="elastic", **STILL)
    assert trained.supernet.space.model.num_classes == 2
    assert "The head is new: the data has 2 classes, the checkpoint 3 other ones" in caplog.text
    assert "by the features, because the head is new" in caplog.text
    assert "the network answers for other classes than the data's and cannot teach" in caplog.text


def test_all_subnets_of_a_supernet_stay_what_they_are(toy, tmp_path):
    """From a supernet nothing is reordered; its file says the space, and the names of its classes."""
    checkpoint = toy / "run" / "supernet.safetensors"
    trained = train(None, toy / "images", tmp_path / "run", start_from=checkpoint, **STILL)
    before, after = load_supernet(checkpoint)[0].eval(), trained.supernet.eval()
    for architecture in (before.space.smallest, before.space.middle, before.space.largest):
        images = batch(before.space.model)
        one, other = before.extract(architecture)(images), after.extract(architecture)(images)
        assert (one - other).abs().max() < 1e-5
    report = json.loads((tmp_path / "run" / "importance.json").read_text())
    assert report["method"] == "none"
    source = open_source(str(checkpoint))
    assert method_for(source, None) == "none"
    with pytest.raises(ConfigError, match=r"--importance taylor: .* is a supernet"):
        method_for(source, "taylor")


@pytest.mark.parametrize("layout", ["supernet", "published"])
def test_a_supernet_at_another_image_size(toy, tmp_path, layout):
    """Its position and its relative tables are resampled; the other tensors are those of the file."""
    file = toy / "run" / "supernet.safetensors"
    if layout == "published":
        convert = f"convert --checkpoint {file} --to published --output {tmp_path}/s.pth"
        assert main(convert.split()) == 0
        file = tmp_path / "s.pth"
        for beside in [path for path in tmp_path.iterdir() if path != file]:  # what a published file has not
            beside.unlink()
    space = SearchSpace.load(toy / "space.yaml").with_model(img_size=(16, 16))
    source = open_source(str(file), space)
    assert source.space is not None and source.subnet.model.img_size == (8, 8)
    fitted = fitted_space(source, space)
    assert (fitted.model.img_size, fitted.model.max_relative_position) == ((16, 16), 2)
    largest, _, notes = started(source, space)
    assert "the relative tables are stretched from 1 to 2 offsets" in "".join(notes)
    kept = load_supernet(toy / "run" / "supernet.safetensors")[0].extract(space.largest).state_dict()
    assert torch.equal(largest.state_dict()["blocks.1.mlp.fc2.weight"], kept["blocks.1.mlp.fc2.weight"])


@pytest.mark.parametrize("relative", [True, False])
def test_an_uneven_network_grows_into_the_space(tmp_path, relative):
    model = ModelConfig((8, 8), 4, num_classes=3, relative_position=relative, max_relative_position=1)
    subnet = random_weights(Subnet(Architecture(64, (1, 2), (2.0, 1.5)), model))
    save_subnet(tmp_path / "best.safetensors", subnet, {"classes": NAMES})
    source = open_source(str(tmp_path / "best.safetensors"))
    space = SearchSpace("s", (48, 64), (1, 2), (1, 2), (1.0, 2.0), model)
    largest, importance, notes = started(source, space)
    assert largest.architecture == space.largest and importance.method == "none"
    images = batch(model)
    assert (largest(images) - subnet(images)).abs().max() < 1e-5
    assert any("The head is kept: the same 3 classes" in note for note in notes)


def test_a_relative_position_starts_at_zero(vit, original):
    space = SPACE.with_model(relative_position=True, max_relative_position=1)
    largest, _, _ = started(open_source(str(vit)), space)
    tables = [tensor for key, tensor in largest.state_dict().items() if "embeddings_table" in key]
    assert len(tables) == 8 and not any(table.any() for table in tables)
    images = batch(MODEL)
    assert (largest(images) - original(images)).abs().max() < 1e-5


def test_another_image_size_resamples_the_position_and_keeps_the_rest(vit):
    source = open_source(str(vit))
    largest, _, notes = started(source, SPACE.with_model(img_size=(16, 12)))
    assert largest.model.img_size == (16, 12)
    assert any(
        "Images are 16 x 12 in place of 8 x 8: the position embedding is resampled" in n for n in notes
    )
    kept = largest.state_dict()["blocks.0.mlp.fc1.weight"]
    assert torch.equal(kept, source.subnet.float().state_dict()["blocks.0.mlp.fc1.weight"])


def test_heads_by_class_names(tmp_path):
    subnet = random_weights(Subnet(Architecture(64, (1,), (2.0,)), MODEL))
    save_subnet(tmp_path / "best.safetensors", subnet, {"classes": NAMES})
    space = SearchSpace("s", (64,), (1,), (1,), (2.0,), MODEL)
    largest, _, _ = started(open_source(str(tmp_path / "best.safetensors")), space, ["six", "one"])
    assert torch.equal(largest.head.weight, subnet.head.weight[[2, 0]])


def test_what_the_network_decides_comes_before_the_space(vit, caplog):
    space = SPACE.with_model(global_pool="avg", norm_eps=1e-5, absolute_position=False)
    source = open_source(f"{vit}", SPACE)
    fitted = fitted_space(source, space)
    assert fitted == SPACE
    assert "taken from the network, and not from --space: global_pool token in place of avg" in caplog.text


@pytest.mark.parametrize(
    "space, sentence",
    [
        (SearchSpace("s", (64, 192), (2,), (2,), (2.0,), MODEL), "embed_dim is 192 here and 128 there"),
        (SearchSpace("s", (128,), (2, 3), (2,), (2.0,), MODEL), "depth is 3 here and 2 there"),
        (SearchSpace("s", (128,), (2,), (3,), (2.0,), MODEL), "num_heads is 3 here and 2 there"),
        (SearchSpace("s", (128,), (2,), (2,), (3.0,), MODEL), "hidden features is 384 here and 256 there"),
        (SPACE.with_model(patch_size=8), "patch_size is 8 here and 4 there"),
        (SPACE.with_model(in_chans=1), "in_chans is 1 here and 3 there"),
    ],
)
def test_a_space_of_another_size_is_refused_with_both(vit, space, sentence):
    with pytest.raises(ConfigError, match=f"--from .*{sentence}.*space --from .* gives a space that fits"):
        fitted_space(open_source(str(vit)), space)


def test_a_relative_position_that_the_space_lacks_is_refused(tmp_path):
    model = ModelConfig((8, 8), 4, num_classes=3, max_relative_position=1)
    save_subnet(tmp_path / "best.safetensors", Subnet(Architecture(64, (1,), (1.0,)), model), {})
    source = open_source(str(tmp_path / "best.safetensors"))
    space = SearchSpace("s", (64,), (1,), (1,), (1.0,), MODEL)
    with pytest.raises(ConfigError, match="the network has a relative position and the space 's' none"):
        fitted_space(source, space)


def test_a_run_that_was_stopped_goes_on_and_equals_the_whole_one(vit, space_file, toy, tmp_path, monkeypatch):
    from nni_autoformer.training.saving import Saving

    command = f"train --space {space_file} --from {vit} --data {toy}/images --recipe elastic --device cpu "
    command += "--batch-size 16 --epochs 3 --widen-epochs 1 --importance-images 16 --output"
    assert main([*command.split(), str(tmp_path / "whole")]) == 0
    save = Saving.on_train_epoch_end

    def save_and_stop(self, trainer, module):
        save(self, trainer, module)
        if trainer.current_epoch == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Saving, "on_train_epoch_end", save_and_stop)
        assert main([*command.split(), str(tmp_path / "run")]) == 130
    assert main([*command.split(), str(tmp_path / "run"), "--resume"]) == 0
    one, other = (
        safetensors.torch.load_file(tmp_path / name / "supernet.safetensors") for name in ("whole", "run")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    vit_other = tmp_path / "other.safetensors"
    safetensors.torch.save_file(
        {key: t + 1 for key, t in safetensors.torch.load_file(vit).items()}, vit_other
    )
    changed = command.replace(str(vit), str(vit_other))
    assert main([*changed.split(), str(tmp_path / "run"), "--resume"]) == 2


@pytest.mark.slow
def test_a_killed_run_goes_on_and_equals_the_whole_one(vit, space_file, toy, tmp_path):
    words = f"train --space {space_file} --from {vit} --data {toy}/images --recipe elastic --device cpu "
    words += "--batch-size 8 --epochs 6 --widen-epochs 2 --resume --output"

    def begun(folder):
        return start([*words.split(), tmp_path / folder], threads=1)

    assert finish(begun("whole")) == 0
    process = begun("killed")
    wait_for((tmp_path / "killed" / "training.ckpt").exists, process)
    kill(process)
    assert process.exitcode == -signal.SIGKILL
    process = begun("killed")
    wait_for((tmp_path / "killed" / "importance.json").exists, process)
    assert finish(process) == 0
    files = [tmp_path / name / "supernet.safetensors" for name in ("whole", "killed")]
    one, other = map(safetensors.torch.load_file, files)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_of_several_ranks_all_start_from_the_network(vit, original, space_file, toy, tmp_path):
    """With steps that change nothing the largest subnet is the network still, and its images are measured."""
    driver = tmp_path / "driver.py"
    driver.write_text("import sys\nfrom nni_autoformer.cli import main\nsys.exit(main(sys.argv[1:]))\n")
    words = f"train --space {space_file} --from {vit} --data {toy}/images --recipe elastic --device cpu "
    words += "--batch-size 8 --epochs 1 --lr 1e-9 --min-lr 0 --warmup-lr 0 --weight-decay 0 --output"
    assert finish(torchrun(2, driver, [*words.split(), tmp_path / "run"])) == 0
    supernet = load_supernet(tmp_path / "run" / "supernet.safetensors")[0].eval()
    supernet.set_architecture(SPACE.largest)
    images = batch(MODEL)
    assert (supernet(images) - original(images)).abs().max() < 1e-5

"""Learning from a timm model, or from the network that a supernet starts from."""

from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from nni_autoformer import ConfigError, SearchSpace, load_supernet
from nni_autoformer.cli import main
from nni_autoformer.data import normalise, open_data
from nni_autoformer.jobs.preparation import TrainJob
from nni_autoformer.space import ModelConfig
from nni_autoformer.training.recipe import Recipe
from nni_autoformer.training.teacher import Teacher, distillation_loss, open_teacher, require_teacher
from nni_autoformer.training.trainer import train_supernet

MODEL = ModelConfig(img_size=(64, 64), num_classes=3)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The weights of a small timm model for three classes."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.manual_seed(0)
    torch.save({"model": timm.create_model("test_resnet", num_classes=3).state_dict()}, path)
    return path


def recipe(checkpoint, **more):
    return Recipe(teacher="test_resnet", teacher_checkpoint=str(checkpoint), **more)


def test_a_teacher_sees_images_as_it_was_trained(checkpoint):
    teacher = open_teacher(recipe(checkpoint), MODEL, MEAN, STD)
    network = timm.create_model("test_resnet", num_classes=3).eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    config = network.pretrained_cfg
    expected = network(normalise(images, config["mean"], config["std"]))
    answers = teacher(normalise(images, MEAN, STD))
    assert torch.allclose(answers, expected, atol=1e-4)
    assert not answers.requires_grad and not teacher.network.training


def test_a_transformer_gets_its_own_image_size(tmp_path):
    network = timm.create_model("test_vit", num_classes=3)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    chosen = Recipe(teacher="test_vit", teacher_checkpoint=str(tmp_path / "vit.pth"))
    teacher = open_teacher(chosen, MODEL, MEAN, STD)
    assert teacher(torch.randn(2, 3, 64, 64)).shape == (2, 3)


def test_the_losses_are_deit_s():
    logits, answers = torch.randn(5, 7), torch.randn(5, 7)
    hard = distillation_loss(logits, answers, "hard", 1.0)
    assert hard == pytest.approx(float(F.cross_entropy(logits, answers.argmax(1))))
    soft = distillation_loss(logits, answers, "soft", 3.0)
    p, q = (answers / 3).softmax(1), (logits / 3).softmax(1)
    assert float(soft) == pytest.approx(float(9 * (p * (p / q).log()).sum(1).mean()), rel=1e-4)
    assert float(distillation_loss(logits, logits, "soft", 2.0)) == pytest.approx(0, abs=1e-6)


def test_wrong_weights_are_sentences(tmp_path, checkpoint):
    torch.save(timm.create_model("test_resnet", num_classes=4).state_dict(), tmp_path / "four.pth")
    with pytest.raises(ConfigError, match=r"four.pth: no weights of test_resnet .*size mismatch"):
        open_teacher(recipe(tmp_path / "four.pth"), MODEL, MEAN, STD)
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)))
    with pytest.raises(ConfigError, match=r"noise.pth: no weights of test_resnet"):
        open_teacher(recipe(tmp_path / "noise.pth"), MODEL, MEAN, STD)


def test_an_original_teaches_only_where_there_is_one():
    chosen = Recipe(teacher="original")
    require_teacher(chosen, original=True)
    with pytest.raises(ConfigError, match=r"--teacher original: .* so it needs train with --from"):
        require_teacher(chosen)
    with pytest.raises(ConfigError, match="timm has no model of this name"):
        require_teacher(Recipe(teacher="originals"), original=True)


def test_a_supernet_learns_from_its_original(toy, tmp_path):
    space = SearchSpace.load(toy / "space.yaml")
    values = {"epochs": 1, "batch_size": 8, "warmup_epochs": 0, "distillation_type": "soft"}
    job = TrainJob.prepare(
        space,
        Recipe.for_space(space, **values),
        open_data("folder", toy / "images", 3),
        "folder",
        None,
        torch.device("cpu"),
    )
    network = load_supernet(toy / "run" / "supernet.safetensors")[0]
    original = Teacher(network.extract(network.space.largest), *[(0.5,) * 3] * 4)

    def trained(name, teacher):
        (tmp_path / name).mkdir()
        recipe = job.recipe.changed(teacher="original")
        training = replace(job.open(tmp_path / name), recipe=recipe, original=teacher)
        assert training.teacher(job.space.model) is teacher
        return train_supernet(job.space, training).state_dict()

    taught, alone = trained("taught", original), trained("alone", None)  # whose answers do not fit
    assert any(not torch.equal(taught[key], alone[key]) for key in alone)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_supernet_learns_from_it(toy, toy_command, tmp_path, checkpoint, kind):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = ["--teacher", "test_resnet", "--teacher-checkpoint", str(checkpoint), "--distillation-type", kind]
    assert main(toy_command(toy, tmp_path / "run", *flags)) == 0
    taught, plain = (load_file(folder / "supernet.safetensors") for folder in (tmp_path / "run", toy / "run"))
    assert taught.keys() == plain.keys()  # no part of it is saved
    assert any(not torch.equal(taught[key], plain[key]) for key in taught)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    (share,) = events.Scalars("teacher_share_of_time")
    assert 0 < share.value < 1
    assert main(toy_command(toy, tmp_path / "none", *flags, "--distillation-alpha", "0")) == 0
    same = load_file(tmp_path / "none" / "supernet.safetensors")
    assert all(torch.equal(same[key], plain[key]) for key in plain)

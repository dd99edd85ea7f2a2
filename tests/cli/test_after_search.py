"""Retraining and fine-tuning, as a user types them."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import timm
import torch

import nni_autoformer.registry  # noqa: F401
from nni_autoformer import Architecture, SearchSpace, load_supernet
from nni_autoformer.checkpoints import load_subnet, read_header
from nni_autoformer.cli import build_parser, flags, main
from nni_autoformer.cli.overrides import overrides_of
from nni_autoformer.nn.layers import Head
from nni_autoformer.nn.subnet import Subnet
from nni_autoformer.training.initial_weights import fitted_head, fresh_subnet
from nni_autoformer.training.recipe import Recipe, packaged_recipes, recipe_values

from .after_search import SHORT, finetune, retrain, same


def recipe_of(arguments, space, task):
    return Recipe.for_run(space, task, arguments.dataset, arguments.recipe, **flags.given(Recipe, arguments))


def supernet_of(toy):
    return load_supernet(toy / "run" / "supernet.safetensors")[0]


@pytest.fixture(scope="module")
def tuned(toy, others, tmp_path_factory):
    """A fine-tuned subnet, with other classes, at another size, with layer-wise rates and an average."""
    output = tmp_path_factory.mktemp("tuned") / "run"
    more = "--img-size 16 --layer-decay 0.5 --model-ema --selection 5-per-class --lr 1e-3"
    assert main(finetune(toy, output, more, others)) == 0
    return output


# Retraining


def test_retraining_starts_anew_trains_on_everything_and_chooses_nothing(toy, tmp_path, capsys):
    assert main(retrain(toy, tmp_path / "run", "--drop-path 0.3")) == 0
    said = capsys.readouterr().err
    assert "The weights are new." in said and "No images are held out" in said
    assert str(SearchSpace.load(toy / "space.yaml").middle) in said
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"subnet.safetensors", "metrics.csv", "recipe.yaml", "run.json", "training.ckpt"} <= files
    assert "best.safetensors" not in files and "selection.txt" not in files
    subnet, header = load_subnet(tmp_path / "run" / "subnet.safetensors")
    space = SearchSpace.load(toy / "space.yaml").with_model(num_classes=3)
    assert subnet.architecture == space.middle
    assert (header.run["training_images"], header.run["epoch"], header.run["inherited"]) == (60, 2, None)
    with open(tmp_path / "run" / "metrics.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert main(retrain(toy, tmp_path / "run", "--drop-path 0.3 --resume")) == 0
    assert "holds the finished run already" in capsys.readouterr().out


def test_fresh_weights_are_the_seed_s_and_drop_path_rises_over_the_supernet_s_depth(toy):
    space = SearchSpace.load(toy / "space.yaml")
    state = torch.random.get_rng_state()
    first, again, other = (
        fresh_subnet(space.smallest, space, Recipe.for_space(space, seed=seed, drop_path=0.3))
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(first.state_dict(), again.state_dict()) and not same(first.state_dict(), other.state_dict())
    deep = fresh_subnet(space.largest, space, Recipe.for_space(space, drop_path=0.3))
    assert [block.drop_path.rate for block in deep.blocks] == [0.0, 0.3]
    assert [block.drop_path.rate for block in first.blocks] == [0.0]
    for key, tensor in deep.state_dict().items():
        if key.endswith("bias") and not key.startswith("patch_embed"):
            assert not tensor.any()
        elif key.endswith("qkv.weight"):
            assert 0.015 < tensor.std() < 0.025


def test_a_teacher_a_moving_average_and_mixing_go_through_the_recipe(toy, tmp_path):
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "teacher.pth")
    more = (
        f"--teacher test_resnet --teacher-checkpoint {tmp_path}/teacher.pth --model-ema --mixup 0.8 "
        "--aa rand-m9-mstd0.5-inc1 --reprob 0.5 --aug-repeats 2 --selection 4-per-class"
    )
    assert main(retrain(toy, tmp_path / "run", more)) == 0
    average, header = load_subnet(tmp_path / "run" / "subnet-ema.safetensors")
    assert header.run["recipe"]["teacher"] == "test_resnet"
    assert {"val_acc_percent/network", "val_acc_ema_percent/network"} <= set(header.run["metrics"])
    last, _ = load_subnet(tmp_path / "run" / "subnet.safetensors")
    assert not same(average.state_dict(), last.state_dict())
    assert (tmp_path / "run" / "best.safetensors").is_file()


# Fine-tuning


def test_fine_tuning_begins_with_the_inherited_weights(toy, tmp_path, capsys):
    assert main(finetune(toy, tmp_path / "run", "--lr 1e-12 --warmup-lr 0 --min-lr 0")) == 0
    assert "The head is kept: the same 3 classes." in capsys.readouterr().err
    tuned, header = load_subnet(tmp_path / "run" / "subnet.safetensors")
    supernet = supernet_of(toy)
    inherited = supernet.extract(supernet.space.middle).state_dict()
    for key, tensor in tuned.state_dict().items():
        torch.testing.assert_close(tensor, inherited[key], rtol=0, atol=1e-9)
    assert header.run["inherited"]["kind"] == "supernet" and header.run["inherited"]["epoch"] == 3


def test_fine_tuning_changes_the_weights(toy, tmp_path):
    """From a subnet's file, whose architecture need not be said again."""
    supernet = supernet_of(toy)
    before = supernet.extract(supernet.space.smallest)
    convert = f"convert --checkpoint {toy}/run/supernet.safetensors --architecture smallest --to timm"
    assert main([*convert.split(), "--output", f"{tmp_path}/subnet.safetensors"]) == 0
    command = f"finetune --checkpoint {tmp_path}/subnet.safetensors --data {toy}/images"
    assert main(f"{command} --output {tmp_path}/run {SHORT}".split()) == 0
    after, _ = load_subnet(tmp_path / "run" / "subnet.safetensors")
    assert after.architecture == supernet.space.smallest
    moved = [
        key for key, tensor in before.state_dict().items() if not torch.equal(tensor, after.state_dict()[key])
    ]
    assert "head.weight" in moved and "patch_embed.proj.weight" in moved


def test_other_classes_and_another_size(toy, tuned):
    subnet, header = load_subnet(tuned / "best.safetensors")
    model = header.space.model
    assert (model.num_classes, model.img_size, model.max_relative_position) == (2, (16, 16), 2)
    assert header.run["classes"] == ["four", "one"]
    assert subnet.pos_embed.shape[1] == 17
    assert header.run["mean"] == read_header(toy / "run" / "supernet.safetensors").run["mean"]
    config = json.loads((tuned / "run.json").read_text())["config"]
    assert config["img_size"] == [16, 16] and config["recipe"]["layer_decay"] == 0.5


def test_what_fine_tuning_leaves_is_tested_exported_described_and_loaded_by_timm(
    toy, others, tuned, tmp_path, capsys
):
    flags = f"--checkpoint {tuned}/subnet.safetensors"
    assert main(f"test {flags} --data {toy}/{others} --device cpu".split()) == 0
    assert "test images    16" in capsys.readouterr().out
    assert main(f"test {flags} --data {toy}/{others} --split selection --device cpu".split()) == 0
    assert "selection images  10" in capsys.readouterr().out
    assert main(f"export {flags} --format safetensors --output {tmp_path}/subnet.safetensors".split()) == 0
    assert main(f"info {tuned}/subnet.safetensors".split()) == 0
    assert "inherited" in capsys.readouterr().out
    assert main(f"convert {flags} --to timm --output {tmp_path}/timm.safetensors".split()) == 0
    subnet, header = load_subnet(tuned / "subnet.safetensors")
    network = timm.create_model(
        "autoformer",
        architecture=subnet.architecture,
        checkpoint_path=f"{tmp_path}/timm.safetensors",
        img_size=16,
        patch_size=4,
        max_relative_position=header.space.model.max_relative_position,
        num_classes=2,
    ).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(images), subnet(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["interpolate", "clip"])
def test_another_size_is_made_as_timm_models_do_it(toy, tmp_path, way):
    """Trained at a rate of nothing: the network is the resized one."""
    more = f"--img-size 16 24 --relative-position {way} --lr 1e-12 --warmup-lr 0 --min-lr 0"
    assert main(finetune(toy, tmp_path / "run", more)) == 0
    subnet, _ = load_subnet(tmp_path / "run" / "subnet.safetensors")
    supernet = supernet_of(toy)
    space = supernet.space
    inherited = supernet.extract(space.middle)
    network = timm.create_model(
        "autoformer",
        architecture=space.middle,
        img_size=8,
        patch_size=4,
        max_relative_position=1,
        num_classes=3,
    ).eval()
    network.load_state_dict(inherited.state_dict())
    network.set_input_size((16, 24), relative_position=way)
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(subnet(images), network(images), rtol=1e-4, atol=1e-5)


def test_a_published_supernet_needs_its_space_and_no_names(toy, tmp_path, capsys):
    convert = f"convert --checkpoint {toy}/run/supernet.safetensors --to published"
    assert main([*convert.split(), "--output", f"{tmp_path}/published.pth"]) == 0
    (tmp_path / "published.pth.json").unlink()  # which other people's files don't have
    command = f"finetune --checkpoint {tmp_path}/published.pth --architecture middle --data {toy}/images"
    assert main(f"{command} --output {tmp_path}/run {SHORT}".split()) == 2
    assert "give --space" in capsys.readouterr().err
    assert main(f"{command} --space {toy}/space.yaml --output {tmp_path}/run {SHORT}".split()) == 0
    assert "3 classes, whose names the checkpoint does not know" in capsys.readouterr().err


def test_a_head_for_other_classes():
    torch.manual_seed(0)
    head = Head(4, 3)
    torch.nn.init.normal_(head.bias)
    names = ["a", "b", "c"]
    for trained, classes, rows, told in (
        (names, ["a", "b", "c"], [0, 1, 2], "kept: the same 3"),
        (names, ["c", "a", "b"], [2, 0, 1], "by name"),
        (names, ["b", "c"], [1, 2], "by name"),
        (None, ["x", "y", "z"], [0, 1, 2], "does not know"),
    ):
        (weight, bias), words = fitted_head(head, trained, classes, 0)
        assert torch.equal(weight, head.weight[rows]) and torch.equal(bias, head.bias[rows])
        assert told in words
    for trained, classes in ((names, ["a", "d"]), (names, ["x", "y", "z"]), (None, ["x", "y"])):
        (weight, bias), words = fitted_head(head, trained, classes, 0)
        assert weight.shape == (len(classes), 4) and not bias.any() and "The head is new" in words
        assert torch.equal(weight, fitted_head(head, trained, classes, 0)[0][0])
        assert not torch.equal(weight, fitted_head(head, trained, classes, 1)[0][0])


def test_layer_wise_rates_are_timm_s(toy):
    from nni_autoformer.training.module import PlainClassification

    space = SearchSpace.load(toy / "space.yaml")
    recipe = Recipe.for_space(space, "finetune", layer_decay=0.5, lr=1.0, warmup_epochs=0, epochs=4)
    network = Subnet(space.largest, space.model)
    module = PlainClassification(recipe, (0.5,) * 3, (0.5,) * 3, 3)
    module.set_model(network)

    class Trainer:
        world_size, estimated_stepping_batches = 1, 40

    module._trainer = Trainer()
    optimizer = module.configure_optimizers()
    assert module.set_rate(0, 0) == 1.0
    rates = {
        name: group["lr"]
        for group in optimizer.param_groups
        for name, parameter in network.named_parameters()
        if any(parameter is entry for entry in group["params"])
    }
    assert set(rates) == {name for name, _ in network.named_parameters()}
    assert rates["head.weight"] == 1.0
    assert rates["norm.weight"] == rates["blocks.1.mlp.fc1.weight"] == 0.5
    assert rates["blocks.0.attn.rel_pos_embed_k.embeddings_table_v"] == 0.25
    assert rates["cls_token"] == rates["pos_embed"] == rates["patch_embed.proj.weight"] == 0.125
    later = module.set_rate(3, 30)
    assert 0.1 < later < 0.2  # three quarters of the cosine
    assert {round(group["lr"] / later, 6) for group in optimizer.param_groups} == {1.0, 0.5, 0.25, 0.125}
    without = {p for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    assert (
        network.pos_embed in without and network.cls_token in without and network.head.weight not in without
    )


# Recipes and trials


def test_the_default_recipes():
    small, tiny = SearchSpace.load("cifar"), SearchSpace.load("tiny")
    assert Recipe.for_space(tiny, "retrain") == Recipe(epochs=300, warmup_epochs=20)
    assert Recipe.for_space(tiny, "finetune").epochs == 40
    assert Recipe.for_space(tiny, "finetune").peak_lr(8) == pytest.approx(1e-4)
    assert Recipe.for_space(tiny, "finetune", epochs=2).warmup == 0
    assert Recipe.for_space(small, "retrain") == Recipe.for_space(small)
    assert Recipe.for_space(small, "finetune").peak_lr() == pytest.approx(1e-4)


@pytest.mark.parametrize("name", packaged_recipes())
def test_the_command_at_the_top_of_a_recipe_is_understood(name):
    folder = Path(__file__).parents[2] / "recipes"
    (line,) = [line for line in (folder / f"{name}.yaml").read_text().splitlines() if "--output" in line]
    words = re.split(r"nni[-_]autoformer ", line)[1].split()
    arguments = build_parser().parse_args(words)
    space = SearchSpace.load("small" if words[0] == "finetune" else arguments.space)
    assert recipe_of(arguments, space, words[0]) == Recipe(**recipe_values(name))


@pytest.mark.parametrize("command", ["retrain --space tiny", "finetune --checkpoint x"])
def test_flags_and_nni_parameters(command):
    parser = build_parser()
    words, sample = overrides_of(
        parser, command.split(), {"layer-decay": 0.75, "lr": 0.1, "embed_dim": 16, "depth": 1}
    )
    arguments = parser.parse_args([*command.split(), "--output", "run", *words])
    recipe = recipe_of(arguments, SearchSpace.load("tiny"), command.split()[0])
    assert (recipe.layer_decay, recipe.lr) == (0.75, 0.1)
    assert sample == {"embed_dim": 16, "depth": 1}
    assert not hasattr(arguments, "sampling")


def test_as_a_trial_it_trains_the_sample_holds_images_out_and_reports(toy, tmp_path, monkeypatch):
    space = SearchSpace.load(toy / "space.yaml")
    reports = []

    class Trial:
        id, output = "abc", tmp_path / "nni"

        def go_on(self):
            pass

        def report_intermediate(self, metric):
            reports.append(metric)

        def report_final(self, metric):
            reports.append(("final", metric))

    trial = Trial()
    trial.parameters = space.smallest.to_sample(space.max_depth)
    monkeypatch.setattr("nni_autoformer.experiment.trial._current", lambda: trial)
    command = f"retrain --space {toy}/space.yaml --data {toy}/images --output {tmp_path}/out {SHORT}"
    assert main(command.split()) == 0
    subnet, header = load_subnet(tmp_path / "out" / "abc" / "subnet.safetensors")
    assert subnet.architecture == space.smallest
    assert header.run["selection"]["images"] == 12 and header.run["training_images"] == 48
    accuracy = header.run["metrics"]["val_acc_percent/network"]
    assert reports[-1] == ("final", {"default": accuracy, "network": accuracy}) and len(reports) == 3


# Bad input


@pytest.fixture
def fails(capsys, monkeypatch):
    """Run a command that must end with a sentence, before any training; the sentence."""
    from nni_autoformer.jobs.preparation import TrainJob

    monkeypatch.setattr(TrainJob, "run", lambda *_: pytest.fail("a training was started"))

    def run(words):
        assert main(words) == 2
        *news, error = capsys.readouterr().err.splitlines()
        assert error.startswith("nni-autoformer: error: ") and "error: " not in "".join(news)
        return error

    return run


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--img-size 10", "--img-size 10: the side should be a multiple of the patch's, 4 pixels"),
        ("--img-size 0", "--img-size 0: the side should be"),
        ("--img-size 8 8 8", "--img-size has 3 numbers"),
        ("--relative-position clip", "--relative-position says what another --img-size does"),
        ("--layer-decay 0", "--layer-decay is 0.0; it should be above 0, up to 1"),
        ("--architecture best", "has no architecture 'best'"),
        ("--space digits", "another search space than 'digits'"),
        (
            "--recipe {tmp}/supernet.yaml",
            "sampling is for the training of a supernet; finetune does without it",
        ),
        ("--recipe elastic", "is for the training of a supernet; finetune does without it"),
        ("--teacher original", "--teacher original: that is the network which a supernet starts from"),
        ("--workers -1", "--workers is -1"),
        ("--data {tmp}/nowhere", "there is no such folder"),
        ("--selection 500-per-class", "leaves nothing to train on"),
        ("--checkpoint {tmp}/nothing", "there is no such checkpoint"),
    ],
)
def test_bad_input_of_finetune(toy, tmp_path, fails, more, words):
    (tmp_path / "supernet.yaml").write_text("sampling: sandwich\n")
    assert words in fails(finetune(toy, tmp_path / "run", more.format(tmp=tmp_path)))
    assert not (tmp_path / "run").exists()


def test_bad_architectures(toy, tmp_path, fails):
    wide = tmp_path / "wide.yaml"
    Architecture(64, (1,), (1,)).to_yaml(wide)
    for command in (retrain, finetune):
        error = fails(command(toy, tmp_path / "run", f"--architecture {wide}"))
        assert "not in the space 'toy': embed_dim 64" in error
    words = retrain(toy, tmp_path / "run")
    del words[words.index("--architecture") : words.index("--architecture") + 2]
    assert "--architecture is missing: say which subnet of 'toy'" in fails(words)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_subnet(toy, tuned, tmp_path, fails):
    other = tmp_path / "other.yaml"
    SearchSpace.load(toy / "space.yaml").smallest.to_yaml(other)
    command = f"finetune --checkpoint {tuned}/subnet.safetensors --data {toy}/images --output {tmp_path}/run"
    error = fails([*command.split(), "--architecture", str(other)])
    assert "not in the space 'subnet': embed_dim 16" in error or "it is not --architecture" in error


def test_a_run_of_something_else_is_not_resumed(toy, tuned, tmp_path, fails):
    assert "holds a run of 'finetune', not of 'retrain'" in fails(retrain(toy, tuned, "--resume"))


def test_a_run_from_before_a_value_of_the_recipe_is_still_that_run(toy, others, tuned, tmp_path):
    shutil.copytree(tuned, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["recipe"].pop("widen_epochs") == 0
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    more = "--img-size 16 --layer-decay 0.5 --model-ema --selection 5-per-class --lr 1e-3 --resume"
    assert main(finetune(toy, tmp_path / "run", more, others)) == 0

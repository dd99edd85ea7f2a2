"""Recipes as files, and the flags made from the same table."""

import argparse

import pytest
import yaml

from nni_autoformer import ConfigError, SearchSpace
from nni_autoformer.cli import build_parser, flags
from nni_autoformer.cli.overrides import overrides_of
from nni_autoformer.config import settings_of
from nni_autoformer.files import packaged_or_own
from nni_autoformer.training.recipe import SUPERNET, Recipe, packaged_recipes, recipe_values

TRAIN = "train --output run --space"


def parsed(command):
    arguments = build_parser().parse_args(command.split())
    space, given = SearchSpace.load(arguments.space), flags.given(Recipe, arguments)
    return Recipe.for_run(space, "train", arguments.dataset, arguments.recipe, **given)


def test_the_paper_s_recipe_is_the_default_of_its_spaces():
    values = recipe_values("paper")
    assert Recipe(**values) == Recipe(warmup_epochs=20, crop_pct=0.875)
    assert Recipe().warmup == 20  # and 0.875 is what None means above 32 pixels
    for space in ("tiny", "small", "base"):
        assert Recipe.for_space(SearchSpace.load(space)) == Recipe()
    assert Recipe(**values).global_batch(8) == 1024
    assert Recipe(**values).peak_lr(8) == pytest.approx(1e-3)


@pytest.mark.parametrize("name", packaged_recipes())
def test_a_packaged_recipe_says_how_it_is_run_what_comes_out_and_what_it_costs(name):
    text = packaged_or_own(name, "recipes", "--recipe", "recipe").read_text()
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert any(f"--recipe {name} " in line for line in head)
    assert any("Expected" in line for line in head) and any("Cost" in line for line in head)
    assert Recipe(**recipe_values(name)).epochs >= 30


def test_a_widening_that_is_not_given_is_shortened_with_the_epochs():
    command = f"{TRAIN} cifar --recipe elastic"
    for more, epochs in (("", 6), ("--epochs 15", 3), ("--epochs 60", 6), ("--epochs 4", 0)):
        assert parsed(f"{command} {more}").widen_epochs == epochs
    assert parsed(f"{command} --epochs 15 --widen-epochs 14").widen_epochs == 14
    assert Recipe(**recipe_values("elastic")).changed(epochs=10).widen_epochs == 2
    with pytest.raises(ConfigError, match=r"--widen-epochs is 15; it should be .*below --epochs 15"):
        parsed(f"{command} --epochs 15 --widen-epochs 15")


def test_the_elastic_recipe_goes_on_from_a_good_network_at_any_image_size():
    small, large = (parsed(f"{TRAIN} {space} --recipe elastic") for space in ("cifar", "tiny"))
    for recipe in (small, large):
        assert (recipe.teacher, recipe.sampling, recipe.widen_epochs) == ("original", "sandwich", 6)
        assert recipe.lr_base == 5e-4 and recipe.layer_decay < 1 and recipe.sched_on_updates
        assert (recipe.epochs, recipe.aug_repeats, recipe.reprob) == (30, 0, 0)
    assert (small.aa, small.mixes, large.aa, large.mixup) == (None, False, Recipe().aa, 0.8)
    assert Recipe(**recipe_values("elastic")) == large
    for task in ("retrain", "finetune"):
        with pytest.raises(ConfigError, match=r"elastic: .* is for the training of a supernet"):
            Recipe.for_run(SearchSpace.load("tiny"), task, file="elastic")


def test_flags_come_before_the_file_and_the_file_before_the_space(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 30\nlr_base: 1e-3\nmixup: 0.2\nclip_grad: 2\nmodel_ema: true\n")
    recipe = parsed(f"{TRAIN} cifar --recipe {path} --epochs 40 --clip-grad none --no-model-ema")
    assert (recipe.epochs, recipe.lr_base, recipe.mixup) == (40, 1e-3, 0.2)
    assert recipe.clip_grad is None and recipe.model_ema is False
    assert recipe.drop_path == 0.05 and recipe.aa is None  # of the space
    assert parsed(f"{TRAIN} cifar --recipe {path}").model_ema is True


@pytest.mark.parametrize(
    ("flags", "warmup"),
    [
        ("--recipe small-data", 20),
        ("--recipe small-data --epochs 1", 0),
        ("--recipe small-data --epochs 30", 2),
        ("--recipe small-data --epochs 600", 20),
        ("--recipe small-data --epochs 30 --warmup-epochs 9", 9),
        ("--recipe elastic --epochs 15", 1),
        ("--epochs 1", 0),
    ],
)
def test_a_warmup_that_is_not_given_is_shortened_with_the_epochs(flags, warmup):
    assert parsed(f"{TRAIN} cifar {flags}").warmup == warmup


def test_a_warmup_that_is_given_is_checked():
    with pytest.raises(ConfigError, match=r"--warmup-epochs is 5; it should be .*below --epochs 3"):
        parsed(f"{TRAIN} cifar --recipe small-data --epochs 3 --warmup-epochs 5")
    recipe = Recipe(**recipe_values("small-data"))
    assert recipe.changed(epochs=15).warmup_epochs == 1
    with pytest.raises(ConfigError, match="--warmup-epochs is 20"):
        recipe.changed(epochs=15, warmup_epochs=20)


def test_every_value_has_a_flag_and_every_flag_takes_an_nni_parameter():
    parser = build_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    other = {int: 2.0, float: 0.5, bool: True, str: "x", tuple: [0.25, 0.5]}
    for task, others in (("train", None), ("retrain", SUPERNET), ("finetune", SUPERNET)):
        options = commands[task]._option_string_actions
        command = "finetune --output run --checkpoint" if task == "finetune" else TRAIN.replace("train", task)
        for name, entry in settings_of(Recipe).items():
            assert (f"--{entry.flag}" in options) == (entry.group != others)
            for parameter in (name, entry.flag) if entry.group != others else ():
                value = other[entry.kind]
                words, sample = overrides_of(parser, [task], {parameter: value})
                assert not sample
                arguments = parser.parse_args([*f"{command} cifar".split(), *words])
                got = getattr(arguments, name)
                assert got == value and type(got) is (list if entry.kind is tuple else entry.kind)
    words, _ = overrides_of(parser, ["train"], {"model_ema": False, "aa": "none"})
    assert words == ["--no-model-ema", "--aa=none"]


def test_a_saved_recipe_is_read_back(tmp_path):
    recipe = Recipe(epochs=3, cutmix_minmax=(0.1, 0.5), mixup=0.0, opt_betas=(0.8, 0.9), aa=None, lr=1e-7)
    recipe.to_yaml(tmp_path / "recipe.yaml")
    assert Recipe(**recipe_values(tmp_path / "recipe.yaml")) == recipe
    assert list(yaml.safe_load((tmp_path / "recipe.yaml").read_text())) == list(settings_of(Recipe))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 3", "unknown key 'epoch'; a recipe has epochs, batch_size"),
        ("epochs: many", "epochs is 'many'; it should be a whole number"),
        ("epochs: 2.5", "epochs is 2.5; it should be a whole number"),
        ("epochs: 0", "epochs is 0; it should be at least 1"),
        ("epochs: true", "epochs is True; it should be a whole number"),
        ("epochs: null", "epochs is None; it should be a whole number"),
        ("lr: fast", "lr is 'fast'; it should be a number"),
        ("mixup: -1", "mixup is -1; it should be 0 or more"),
        ("model_ema: 1", "model_ema is 1; it should be true or false"),
        ("opt_betas: [0.9]", r"opt_betas is \[0.9\]; it should be two numbers"),
        ("opt_betas: [0.9, 1]", r"opt_betas is \[0.9, 1\]; it should be two numbers from 0 to below 1"),
        ("mixup_mode: all", "mixup_mode is 'all'; it should be one of batch, pair, elem"),
        ("epochs: 3\nepochs: 4", "duplicate key 'epochs'"),
    ],
)
def test_a_bad_file_names_file_and_key(tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=words) as error:
        recipe_values(path)
    assert str(path) in str(error.value)


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"no packaged recipe of this name .there are elastic, finetune, "):
        recipe_values("papre")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch_size": 7}, "--batch-size is 7; it should be even, because mixup"),
        ({"teacher_checkpoint": "x"}, "--teacher is None; it should be a timm model"),
        ({"sampling": "best"}, "--sampling is best; it should be one of uniform, sandwich, balanced"),
        ({"grad_accum_steps": 0}, "--grad-accum-steps is 0"),
        ({"reprob": 1.5}, "--reprob is 1.5; it should be from 0 to 1"),
        ({"recount": 0}, "--recount is 0"),
        ({"cutmix_minmax": (0.5, 0.2)}, "--cutmix-minmax is"),
        ({"model_ema_decay": 2.0}, "--model-ema-decay is 2.0"),
        ({"distillation_tau": 0.0}, "--distillation-tau is 0.0"),
    ],
)
def test_a_bad_flag(values, words):
    with pytest.raises(ConfigError, match=words):
        Recipe(**values)

"""The recipe's other values in a training of the toy supernet, and how a long training is looked after."""

import csv
import functools
import json
import math
import os
import re
import signal

import pytest
import torch
from safetensors.torch import load_file

from nni_autoformer import SearchSpace, load_supernet
from nni_autoformer.cli import main
from nni_autoformer.randomness import generator
from nni_autoformer.training.recipe import Recipe, recipe_values


def weights(folder, name="supernet"):
    return load_file(folder / f"{name}.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def close(one, other, tolerance=1e-5):
    return all(torch.allclose(one[key], other[key], atol=tolerance, rtol=0) for key in one)


@pytest.fixture
def interrupt(monkeypatch):
    """Do something to the process after an optimizer step of its own number, once."""
    from nni_autoformer.training.saving import Saving

    def at(step, action):
        check, done = Saving.on_train_batch_end, []

        def check_and_act(self, trainer, *rest):
            if trainer.global_step == step and not done:
                done.append(step)
                action()
            check(self, trainer, *rest)

        monkeypatch.setattr(Saving, "on_train_batch_end", check_and_act)

    return at


EVERYTHING = [
    "--aa",
    "rand-m9-mstd0.5-inc1",
    "--mixup",
    "0.8",
    "--cutmix",
    "1.0",
    "--mixup-mode",
    "elem",
    "--reprob",
    "0.5",
    "--aug-repeats",
    "2",
    "--grad-accum-steps",
    "2",
    "--clip-grad",
    "1",
    "--model-ema",
    "--model-ema-decay",
    "0.9",
    "--sampling",
    "sandwich",
    "--sandwich-random",
    "1",
    "--widen-epochs",
    "2",
    "--layer-decay",
    "0.8",
]


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def whole(toy, toy_command, tmp_path_factory):
    """The training with everything, to its end."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(toy_command(toy, folder, *EVERYTHING, "--workers", "0", "--batch-size", "4")) == 0
    return folder


@pytest.mark.parametrize(("step", "workers"), [(2, "0"), (3, "0"), (7, "0"), (2, "2")])
def test_after_sigterm_a_resume_changes_nothing(
    whole, toy, toy_command, tmp_path, interrupt, capsys, step, workers
):
    """Within an epoch, at its end and at the start of one, with everything that a recipe can hold."""
    flags = [*EVERYTHING, "--workers", workers, "--batch-size", "4"]
    output = tmp_path / "run"
    interrupt(step, terminate)
    assert main(toy_command(toy, output, *flags)) == 143
    error = capsys.readouterr().err
    assert "is saved in" in error and "--resume" in error and "Traceback" not in error
    state = torch.load(output / "training.ckpt", weights_only=True)
    assert step <= state["global_step"] <= step + 1
    assert main(toy_command(toy, output, "--resume", *flags)) == 0
    for name in ("supernet", "supernet-ema", "best"):
        assert equal(weights(output, name), weights(whole, name))
    assert (output / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert not equal(weights(output), weights(output, "supernet-ema"))


def test_a_state_saved_within_an_epoch_is_enough_to_go_on(toy, toy_command, tmp_path, interrupt):
    output = tmp_path / "run"

    def kill():
        raise MemoryError("as if killed")

    interrupt(10, kill)
    with pytest.raises(MemoryError):
        main(toy_command(toy, output, "--checkpoint-every", "4"))
    assert torch.load(output / "training.ckpt", weights_only=True)["global_step"] == 8
    assert main(toy_command(toy, output, "--resume")) == 0
    assert equal(weights(output), weights(toy / "run"))


def test_accumulated_micro_batches_are_one_batch(toy, toy_command, tmp_path):
    plain = ["--drop-path", "0", "--hflip", "0", "--crop-padding", "0"]
    assert main(toy_command(toy, tmp_path / "whole", *plain)) == 0
    accumulated = ["--batch-size", "2", "--grad-accum-steps", "4"]
    assert main(toy_command(toy, tmp_path / "parts", *plain, *accumulated)) == 0
    assert close(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    # fewer images than a step wants: the step takes what there is, in micro-batches of unequal size
    short = ["--selection", "8-per-class"]
    assert main(toy_command(toy, tmp_path / "w", *plain, *short, "--batch-size", "64")) == 0
    uneven = ["--batch-size", "16", "--grad-accum-steps", "4", "--lr", str(4e-3 * 64 / 512)]
    assert main(toy_command(toy, tmp_path / "p", *plain, *short, *uneven)) == 0
    assert close(weights(tmp_path / "p"), weights(tmp_path / "w"))


def test_a_sandwich_adds_the_gradients_of_its_subnets(toy):
    """Against the sum of their losses, taken at once."""
    import torch.nn.functional as F

    from nni_autoformer import build_supernet
    from nni_autoformer.training.sampling import Sandwich
    from nni_autoformer.training.supernet import SupernetModule

    space = SearchSpace.load(toy / "space.yaml").with_model(num_classes=3)
    images, targets = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 1])
    rule = Sandwich(space, 0, 2)

    reference = build_supernet(space).train()
    first, *others = rule.architectures(0)
    reference.set_architecture(first)
    logits = reference(images)
    loss = F.cross_entropy(logits, targets, label_smoothing=0.1)
    for architecture in others:
        reference.set_architecture(architecture)
        soft = logits.detach().softmax(dim=-1)
        loss = loss - (soft * reference(images).log_softmax(dim=-1)).sum(dim=-1).mean()
    loss.backward()

    from nni_autoformer.training.module import ImageClassification

    module = ImageClassification(Recipe.for_space(space, precision="fp32"), (0.0,) * 3, (1 / 255,) * 3)
    supernet = build_supernet(space).train()
    module.set_model(supernet)
    outer = SupernetModule(module, 0, sampling_of=lambda space: Sandwich(space, 0, 2))
    outer.log = module.log = lambda *args, **kwargs: None
    gradients = _step(outer, (images, targets))
    for name, parameter in reference.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-6), name


def _step(module, batch):
    """One training step of a module with a trainer that only goes backward."""
    from types import SimpleNamespace

    strategy = SimpleNamespace(backward=lambda loss, optimizer: loss.backward())
    trainer = SimpleNamespace(
        global_step=0, current_epoch=0, accumulate_grad_batches=1, strategy=strategy, global_rank=0
    )
    trainer.train_dataloader = None
    for part in (module, module.training_module):
        part._trainer = trainer
        part._fabric = None
    module.optimizers = lambda: SimpleNamespace(zero_grad=lambda: module.zero_grad())
    module.training_step(batch, 0).backward()
    return {name: p.grad for name, p in module.supernet.named_parameters()}


@pytest.mark.parametrize("rule", ["sandwich", "balanced"])
def test_a_rule_trains_another_supernet_and_every_time_the_same(toy, toy_command, tmp_path, rule):
    flags = ["--sampling", rule, "--epochs", "2"]
    assert main(toy_command(toy, tmp_path / "one", *flags)) == 0
    assert main(toy_command(toy, tmp_path / "two", *flags)) == 0
    assert equal(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert main(toy_command(toy, tmp_path / "uniform", "--epochs", "2")) == 0
    assert not equal(weights(tmp_path / "one"), weights(tmp_path / "uniform"))


def test_the_folder_tells_the_story(toy, toy_command, tmp_path):
    output = tmp_path / "run"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("epochs: 4\nclip_grad: 5\n")
    flags = ["--recipe", str(recipe), "--model-ema", "--keep", "2", "--val-interval", "2", "--epochs", "5"]
    assert main(toy_command(toy, output, *flags)) == 0
    resolved = recipe_values(output / "recipe.yaml")
    assert (resolved["epochs"], resolved["clip_grad"], resolved["precision"]) == (5, 5.0, "fp32")
    rows = list(csv.DictReader((output / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert float(rows[-1]["val_acc_ema_percent/largest"]) <= 100 and rows[0]["val_acc_percent/smallest"] == ""
    assert sorted(path.name for path in (output / "epochs").iterdir()) == [
        "0004.safetensors",
        "0005.safetensors",
    ]
    session = json.loads((output / "run.json").read_text())["sessions"][0]
    assert torch.__version__.startswith(session["versions"]["torch"])
    assert session["git"] is None or len(session["git"]["commit"]) == 40
    best = load_supernet(output / "best.safetensors")[1].run
    means = {
        int(row["epoch"]): sum(float(v) for k, v in row.items() if k.startswith("val_acc_ema_percent/")) / 3
        for row in rows
        if row["val_acc_ema_percent/largest"] and int(row["epoch"]) % 2 == 0
    }
    assert best["epoch"] == max(means, key=lambda epoch: (means[epoch], -epoch))
    # the average is what it is called: of the supernet's weights after every step
    assert close(weights(output), weights(output, "supernet-ema"), tolerance=1)
    assert not (output / "epochs" / "0003.safetensors").exists()


def test_the_moving_average_is_timm_s(toy, toy_command, tmp_path):
    """With a decay of 0 it is the supernet, with 1 what the supernet began with."""
    from nni_autoformer import build_supernet

    for decay in ("0", "1"):
        flags = ["--model-ema", "--model-ema-decay", decay, "--epochs", "2"]
        assert main(toy_command(toy, tmp_path / decay, *flags)) == 0
    assert equal(weights(tmp_path / "0"), weights(tmp_path / "0", "supernet-ema"))
    averaged, header = load_supernet(tmp_path / "1" / "supernet-ema.safetensors")
    # timm copies the weights after the first step, so that the average does not remember random ones
    start = build_supernet(header.space, seed=0)
    assert any(
        not torch.equal(a, b) for a, b in zip(averaged.state_dict().values(), start.state_dict().values())
    )
    assert not equal(weights(tmp_path / "1"), weights(tmp_path / "1", "supernet-ema"))


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(toy, toy_command, tmp_path, monkeypatch, capsys):
    """Also with a moving average, whose copy of the network runs as it is."""
    from nni_autoformer.nn import compiling

    short = ("--epochs", "1", "--warmup-epochs", "0")
    start = functools.partial(compiling.compile_blocks, backend="aot_eager")
    monkeypatch.setattr("nni_autoformer.training.module.compile_blocks", start)
    assert main(toy_command(toy, tmp_path / "run", "--compile", "--model-ema", *short)) == 0
    assert "compiled block shape 1: " in capsys.readouterr().err
    monkeypatch.undo()
    assert main(toy_command(toy, tmp_path / "plain", "--model-ema", *short)) == 0
    for name in ("supernet", "supernet-ema"):
        compiled, plain = weights(tmp_path / "run", name), weights(tmp_path / "plain", name)
        assert all(torch.allclose(compiled[key], plain[key], atol=1e-5) for key in plain)


@pytest.fixture
def spoil(monkeypatch):
    """Make the loss of some steps something that is no number."""
    from nni_autoformer.training.module import ImageClassification, Lesson

    def at(steps, value):
        learn = ImageClassification.learn

        def spoilt(self, batch):
            lesson = learn(self, batch)
            if self.trainer.global_step in steps:
                return Lesson(lesson.loss * value, lesson.inputs, lesson.logits)
            return lesson

        monkeypatch.setattr(ImageClassification, "learn", spoilt)

    return at


@pytest.mark.parametrize(
    ("step", "value", "costly"),
    [(8, math.nan, False), (8, math.inf, False), (8, math.nan, True), (11, math.inf, True)],
)
def test_a_loss_that_is_no_number_stops_the_run(
    toy, toy_command, tmp_path, spoil, capsys, monkeypatch, step, value, costly
):
    """Also where the answer is read a step later, as on a GPU, and where that is after the epoch's last."""
    output = tmp_path / "run"
    spoil({step}, value)
    monkeypatch.setattr("nni_autoformer.training.guard.Guard._costly", lambda self, flags: costly)
    assert main(toy_command(toy, output)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    space = SearchSpace.load(toy / "space.yaml")
    assert f"step {step} (epoch 1), subnet {space.sample(generator(0, 'subnet', step))}: " in error
    assert f"the loss is {value}" in error
    assert f"The last good checkpoint is {output / 'training.ckpt'}, of step 6" in error
    assert all(value.isfinite().all() for value in weights(output).values())


def test_a_loss_that_is_no_number_can_be_skipped(toy, toy_command, tmp_path, spoil, capsys):
    spoil({2, 8}, math.nan)
    skip = ["--on-nan", "skip", "--max-nan-skips"]
    assert main(toy_command(toy, tmp_path / "two", *skip, "2")) == 0
    assert all(value.isfinite().all() for value in weights(tmp_path / "two").values())
    assert not equal(weights(tmp_path / "two"), weights(toy / "run"))
    assert main(toy_command(toy, tmp_path / "one", *skip, "1")) == 2
    assert "step 8 (epoch 1)" in capsys.readouterr().err


def test_before_the_first_checkpoint_the_sentence_says_so(toy, toy_command, tmp_path, spoil, capsys):
    spoil({0}, math.nan)
    assert main(toy_command(toy, tmp_path / "run")) == 2
    assert "No checkpoint has been saved yet." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--on-nan ignore", "should be one of stop, skip"),
        ("--keep -1", "--keep is -1; it should be 0 or more"),
        ("--max-nan-skips 0", "--max-nan-skips is 0"),
        ("--checkpoint-every 0", "--checkpoint-every is 0"),
        ("--recipe nosuch", "no packaged recipe of this name"),
        ("--teacher original", "--teacher original: .* so it needs train with --from"),
        ("--teacher vit_nosuch_thing", "timm has no model of this name; near are"),
        ("--teacher vit_tiny_patch16_224 --teacher-checkpoint nofile", "there is no such file"),
    ],
)
def test_bad_flags_are_sentences(toy, toy_command, tmp_path, capsys, flags, words):
    try:
        code = main(toy_command(toy, tmp_path / "run", *flags.split()))
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()

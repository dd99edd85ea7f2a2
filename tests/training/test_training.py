"""Training through NNI's experiment: what is drawn, what is saved, and that a resume changes nothing."""

import json
import math
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from nni_autoformer import SearchSpace, build_supernet, load_supernet
from nni_autoformer.cli import main
from nni_autoformer.randomness import generator
from nni_autoformer.training.recipe import Recipe


def weights(folder):
    return load_file(folder / "supernet.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_training_changes_the_weights_and_saves_what_a_stranger_needs(toy):
    supernet, header = load_supernet(
        toy / "run" / "supernet.safetensors", SearchSpace.load(toy / "space.yaml")
    )
    start = build_supernet(header.space, seed=0)
    moved = [
        name
        for (name, a), b in zip(start.named_parameters(), supernet.parameters())
        if not torch.equal(a.data, b.data)
    ]
    assert len(moved) == len(list(start.parameters()))
    run = header.run
    assert run["epoch"] == 3
    assert run["classes"] == ["one", "six", "two"]
    assert run["recipe"]["epochs"] == 3
    assert run["selection"]["images"] == 12
    assert run["training_images"] == 60 - 12
    assert {name for name in run["metrics"] if name.startswith("val_acc_percent/")} == {
        "val_acc_percent/smallest",
        "val_acc_percent/middle",
        "val_acc_percent/largest",
    }
    assert header.versions["torch"] == torch.__version__
    listed = (toy / "run" / "selection.txt").read_text().split()
    assert len(listed) == 12 and all(name.startswith("train/") for name in listed)
    assert list((toy / "run" / "tensorboard").glob("events*"))
    with safe_open(toy / "run" / "supernet.safetensors", "pt") as file:
        assert "blocks.1.attn_layer_norm.weight" in file.keys()  # noqa: SIM118
        assert not any("blocks.blocks" in key or "tokens." in key for key in file.keys())  # noqa: SIM118


def test_the_state_for_a_resume_loads_without_code(toy):
    state = torch.load(toy / "run" / "training.ckpt", weights_only=True)
    assert state["epoch"] == 2
    assert state["global_step"] == 3 * 6


def stop_after(monkeypatch, epochs):
    """Press Ctrl-C once the checkpoint of an epoch is written."""
    from nni_autoformer.training.saving import Saving

    save = Saving.on_train_epoch_end

    def save_and_stop(self, trainer, module):
        save(self, trainer, module)
        if trainer.current_epoch + 1 == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(Saving, "on_train_epoch_end", save_and_stop)


@pytest.mark.parametrize(("stopped_at", "workers"), [(1, 0), (2, 0), (1, 2)])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    toy, toy_command, tmp_path, monkeypatch, stopped_at, workers
):
    output = tmp_path / "run"
    flags = ["--workers", str(workers)]
    with monkeypatch.context() as patch:
        stop_after(patch, stopped_at)
        assert main(toy_command(toy, output, *flags)) == 130
    assert not equal(weights(output), weights(toy / "run"))
    assert main(toy_command(toy, output, "--resume", *flags)) == 0
    assert equal(weights(output), weights(toy / "run"))
    before, after = (
        torch.load(folder / "training.ckpt", weights_only=True) for folder in (toy / "run", output)
    )
    moments = [state["optimizer_states"][0]["state"] for state in (before, after)]
    assert all(equal(moments[0][key], moments[1][key]) for key in moments[0])


def test_workers_and_the_global_streams_change_nothing(toy, toy_command, tmp_path):
    torch.manual_seed(1234)
    assert main(toy_command(toy, tmp_path / "run", "--workers", "2")) == 0
    assert equal(weights(tmp_path / "run"), weights(toy / "run"))


def test_another_seed_trains_another_supernet(toy, toy_command, tmp_path):
    assert main(toy_command(toy, tmp_path / "run", "--seed", "1", "--epochs", "2")) == 0
    assert not equal(weights(tmp_path / "run"), weights(toy / "run"))
    assert (tmp_path / "run/selection.txt").read_text() != (toy / "run/selection.txt").read_text()


def test_each_step_trains_the_subnet_of_its_number(toy, toy_command, tmp_path, monkeypatch):
    from nni_autoformer.model import AutoFormer

    chosen = []
    choose = AutoFormer.set_architecture

    def record(self, architecture):
        if self.training:
            chosen.append(architecture)
        choose(self, architecture)

    monkeypatch.setattr(AutoFormer, "set_architecture", record)
    assert main(toy_command(toy, tmp_path / "run", "--epochs", "2")) == 0
    space = SearchSpace.load(toy / "space.yaml")
    assert chosen == [space.sample(generator(0, "subnet", step)) for step in range(12)]
    assert len(set(chosen)) > 3


def test_a_space_is_widened_by_epochs(toy, toy_command, tmp_path, monkeypatch):
    """Half an epoch the largest subnet, half an epoch its heads and ratios too, with steps of two batches."""
    from nni_autoformer.training.supernet import SupernetModule

    trained = {}
    train = SupernetModule.training_step

    def record(self, *args):
        loss = train(self, *args)
        trained.setdefault(self.trainer.global_step, set()).update(self.trained)
        return loss

    monkeypatch.setattr(SupernetModule, "training_step", record)
    flags = "--epochs 2 --widen-epochs 1 --batch-size 4 --grad-accum-steps 2"
    assert main(toy_command(toy, tmp_path / "run", *flags.split())) == 0
    space = SearchSpace.load(toy / "space.yaml")
    assert all(trained[step] == {space.largest} for step in range(3))
    halfway = set().union(*(trained[step] for step in range(3, 6)))
    assert {(entry.embed_dim, entry.depth) for entry in halfway} == {(32, 2)} and len(halfway) > 1
    assert all(trained[step] == {space.sample(generator(0, "subnet", step))} for step in range(6, 12))


def test_validation_reports_the_named_subnets(toy):
    """The accuracies in the header are those of the subnets, measured anew."""
    from nni_autoformer.search.evaluation import Evaluation
    from nni_autoformer.search.images import EvaluationImages

    path = toy / "run" / "supernet.safetensors"
    supernet, header = load_supernet(path)
    images = EvaluationImages(str(path), "folder", str(toy / "images"), store="none")
    evaluator = Evaluation(device="cpu").evaluator(header, images.decoded(header))
    for name, architecture in header.space.named().items():
        accuracy = evaluator.evaluate(supernet.extract(architecture))
        assert accuracy.top1 == pytest.approx(header.run["metrics"][f"val_acc_percent/{name}"], abs=1e-4)


def test_the_learning_rate_follows_warm_up_and_cosine(toy):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(toy / "run" / "tensorboard"))
    events.Reload()
    (point,) = events.Scalars("lr")  # logged every tenth step; the run has 18
    assert point.step == 9
    # 4e-3 x 8 / 512 at the peak; a warm-up of one epoch, then the cosine of the whole run
    peak, low = 4e-3 * 8 / 512, 1e-5
    assert point.value == pytest.approx(low + (peak - low) * (1 + math.cos(math.pi * 9 / 18)) / 2, rel=1e-4)


def test_weight_decay_leaves_out_what_the_paper_leaves_out(toy):
    from timm.optim import create_optimizer_v2

    supernet = build_supernet(SearchSpace.load(toy / "space.yaml"))
    groups = create_optimizer_v2(supernet, opt="adamw", lr=1e-3, weight_decay=0.05).param_groups
    names = {id(parameter): name for name, parameter in supernet.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    for name in names.values():
        plain = name.endswith("bias") or "norm" in name or name in ("tokens.cls_token", "tokens.pos_embed")
        assert (name in decayed) == (not plain), name
    assert any("embeddings_table" in name for name in decayed)


@pytest.mark.parametrize("clip", [[], ["--clip-grad", "1"]])
def test_mixed_precision_trains(toy, toy_command, tmp_path, clip):
    flags = ["--precision", "bf16", "--epochs", "2", *clip]
    assert main(toy_command(toy, tmp_path / "run", *flags)) == 0
    values = weights(tmp_path / "run").values()
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in values)
    assert not equal(weights(tmp_path / "run"), weights(toy / "run"))


def test_the_selection_can_be_left_out_or_given(toy, toy_command, tmp_path, capsys):
    assert main(toy_command(toy, tmp_path / "none", "--selection", "none", "--epochs", "2")) == 0
    _, header = load_supernet(tmp_path / "none" / "supernet.safetensors")
    assert header.run["selection"] is None and header.run["training_images"] == 60
    given = tmp_path / "mine.txt"
    given.write_text("train/one/03.png\ntrain/six/04.png\ntrain/two/05.png\n")
    assert main(toy_command(toy, tmp_path / "given", "--selection", str(given), "--epochs", "2")) == 0
    assert (tmp_path / "given/selection.txt").read_text() == given.read_text()
    search = (
        f"search --checkpoint {tmp_path}/none/supernet.safetensors --data {toy}/images --output {tmp_path}/s"
    )
    assert main(search.split()) == 2
    assert "trained without a selection set" in capsys.readouterr().err


def test_recipes():
    paper = Recipe.for_space(SearchSpace.load("tiny"))
    assert (paper.epochs, paper.warmup, paper.drop_path, paper.smoothing) == (500, 20, 0.1, 0.1)
    assert paper.peak_lr(world_size=8) == pytest.approx(5e-4 * 1024 / 512)
    assert (paper.weight_decay, paper.opt_betas, paper.opt_eps, paper.min_lr) == (
        0.05,
        (0.9, 0.999),
        1e-8,
        1e-5,
    )
    small = Recipe.for_space(SearchSpace.load("cifar"), epochs=30)
    assert (small.epochs, small.warmup, small.peak_lr()) == (30, 6, pytest.approx(1e-3))
    assert Recipe(lr=0.1).peak_lr(8) == 0.1
    assert json.dumps(small.to_dict())


def test_a_run_from_before_a_value_of_the_recipe_is_still_that_run(toy, toy_command, tmp_path):
    shutil.copytree(toy / "run", tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["recipe"].pop("widen_epochs") == 0
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert main(toy_command(toy, tmp_path / "run", "--resume")) == 0

"""The jobs in Python: the same recipe, files and numbers as on the command line, and objects in return."""

import json

import pytest
import torch
from safetensors.torch import load_file

import nni_autoformer
from nni_autoformer import Architecture, ConfigError, DataSet, Evaluation, EvolutionConfig, Limits, jobs
from nni_autoformer.cli import main
from nni_autoformer.jobs import Engine, Loading, Upkeep

SHORT = {"epochs": 3, "batch_size": 8, "warmup_epochs": 1, "drop_path": 0.2}
EVOLUTION = EvolutionConfig(6, 3, 3, 2, 2, seed=1)


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """The toy's supernet, trained from Python with the settings of the command line."""
    output = tmp_path_factory.mktemp("jobs") / "run"
    space, data = toy / "space.yaml", DataSet(data=str(toy / "images"))
    return jobs.train(space, data, output, selection="4-per-class", device="cpu", **SHORT)


@pytest.fixture(scope="module")
def found(toy, trained, tmp_path_factory):
    """A search of it from Python."""
    output = tmp_path_factory.mktemp("jobs") / "search"
    return jobs.search(
        trained.checkpoint,
        toy / "images",
        output,
        limits=Limits(max_params=0.05),
        algorithm=EVOLUTION,
        evaluation=Evaluation(device="cpu"),
    )


def facts(folder):
    content = json.loads((folder / "run.json").read_text())
    return content["job"], content["status"], content["config"]


def test_a_training_is_that_of_the_command_line(toy, trained):
    assert facts(trained.output) == facts(toy / "run")
    assert (trained.output / "recipe.yaml").read_text() == (toy / "run" / "recipe.yaml").read_text()
    one, other = load_file(trained.checkpoint), load_file(toy / "run" / "supernet.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_training_gives_its_supernet_and_accuracies(trained):
    assert trained.fresh and set(trained.accuracies) == {"smallest", "middle", "largest"}
    metrics = trained.header.run["metrics"]
    assert trained.accuracies["largest"] == metrics["val_acc_percent/largest"]
    weights = trained.supernet.state_dict()
    assert torch.equal(weights["norm.weight"], load_file(trained.checkpoint)["norm.weight"])


def test_a_search_is_that_of_the_command_line(toy, trained, found, tmp_path):
    command = f"search --checkpoint {trained.checkpoint} --data {toy}/images --max-params 0.05 --device cpu"
    command += " --population-size 6 --num-parents 3 --num-mutations 3 --num-crossovers 2 --generations 2"
    assert main(f"{command} --seed 1 --output {tmp_path}/search".split()) == 0
    for name in ("candidates.jsonl", "best.yaml", "summary.txt"):
        assert (tmp_path / "search" / name).read_text() == (found.output / name).read_text()
    assert facts(tmp_path / "search") == facts(found.output)


def test_the_data_may_be_left_out_after_a_training(toy, trained, tmp_path, capsys):
    told = (
        f"The images are those of the checkpoint's training ({trained.output}/run.json): --data {toy}/images"
    )
    command = f"search --checkpoint {trained.checkpoint} --device cpu --population-size 4 --generations 1"
    assert main(f"{command} --max-params 50000 --output {tmp_path}/search".split()) == 0
    printed = capsys.readouterr()
    assert printed.err.count(told) == 1
    assert (
        "4 candidates a generation: 2 mutations and 2 crossovers of the best 1, and 0 at rand" in printed.err
    )
    assert printed.err.count("--max-params 50000 excludes no subnet: the subnets of") == 1
    evolution = facts(tmp_path / "search")[2]["evolution"]
    assert (evolution["num_parents"], evolution["num_mutations"], evolution["num_crossovers"]) == (1, 2, 2)

    command = f"sample --checkpoint {trained.checkpoint} --device cpu -n 3 --max-params 50000"
    assert main(f"{command} --output {tmp_path}/sample".split()) == 0
    printed = capsys.readouterr()
    assert told in printed.err and printed.err.count("--max-params 50000 excludes no subnet") == 1

    tested = jobs.test(trained.checkpoint, architecture="smallest", evaluation=Evaluation(device="cpu"))
    given = jobs.test(
        trained.checkpoint, toy / "images", architecture="smallest", evaluation=Evaluation(device="cpu")
    )
    assert tested == given


def test_the_data_set_is_never_taken_from_the_checkpoint_itself(trained, tmp_path):
    """A file from elsewhere must not say what is opened here."""
    moved = tmp_path / "supernet.safetensors"
    moved.write_bytes(trained.checkpoint.read_bytes())
    with pytest.raises(
        ConfigError, match=r"--data is missing: no run.json beside .*supernet.safetensors says"
    ):
        jobs.test(moved, architecture="smallest")
    record = {"job": "train", "status": "finished", "config": {"dataset": 3, "data": "x"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"run.json: config.dataset is 3; it should be text"):
        jobs.test(moved, architecture="smallest")
    record["config"] = {"dataset": "folder", "data": f"{tmp_path}/nothing"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"--data .*nothing"):
        jobs.test(moved, architecture="smallest")


def test_a_shortened_warmup_is_told_once_and_saved(toy, tmp_path, caplog):
    (tmp_path / "recipe.yaml").write_text("epochs: 300\nwarmup_epochs: 20\nwiden_epochs: 60\nbatch_size: 8\n")
    with caplog.at_level("INFO", "nni_autoformer"):
        jobs.train(
            toy / "space.yaml", toy / "images", tmp_path / "run", recipe=tmp_path / "recipe.yaml", epochs=1
        )
    for flag, epochs in (("warmup", 20), ("widen", 60)):
        told = f"--{flag}-epochs is 0 in place of the recipe's {epochs}, in proportion to --epochs 1."
        assert caplog.messages.count(told) == 1
    assert "\nwarmup_epochs: 0\n" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert facts(tmp_path / "run")[2]["recipe"]["warmup_epochs"] == 0


def test_a_search_gives_its_ranking(found):
    accuracies = [ranked.accuracy for ranked in found.ranking]
    assert accuracies == sorted(accuracies, reverse=True) and len(accuracies) == 12
    assert all(ranked.costs["params"] <= 50_000 and ranked.costs["macs"] > 0 for ranked in found.ranking)
    assert Architecture.from_yaml(found.output / "best.yaml") == found.best.architecture


def test_a_finished_run_gives_what_it_found(toy, trained, found):
    again = jobs.search(
        trained.checkpoint,
        DataSet.of(toy / "images"),
        found.output,
        limits=Limits(max_params=0.05),
        algorithm=EVOLUTION,
        evaluation=Evaluation(device="cpu"),
        resume=True,
    )
    assert not again.fresh and again.ranking == found.ranking


def test_a_test_is_that_of_the_command_line(toy, trained, found, capsys):
    tested = jobs.test(
        trained.checkpoint,
        toy / "images",
        architecture=found.best.architecture,
        evaluation=Evaluation(device="cpu"),
    )
    assert tested.architecture == found.best.architecture and tested.costs == found.best.costs
    assert capsys.readouterr().out == ""
    command = f"test --checkpoint {trained.checkpoint} --data {toy}/images --device cpu"
    assert main(f"{command} --architecture {found.output}/best.yaml".split()) == 0
    shown = capsys.readouterr().out
    assert f"{tested.top1:.2f} %" in shown and f"{tested.images:,}" in shown


def test_the_winner_is_retrained_and_fine_tuned(toy, trained, found, tmp_path):
    best, data = found.best.architecture, toy / "images"
    retrained = jobs.retrain(toy / "space.yaml", best, data, tmp_path / "new", device="cpu", epochs=1)
    tuned = jobs.finetune(
        trained.checkpoint, data, tmp_path / "tuned", architecture=best, device="cpu", epochs=1, img_size=16
    )
    for run, size in ((retrained, 8), (tuned, 16)):
        assert run.subnet.architecture == best and run.subnet.model.img_size == (size, size)
        assert set(run.accuracies) == {"network"}


def test_a_sample_gives_rows_and_front(toy, trained, tmp_path):
    sampled = jobs.sample(
        trained.checkpoint,
        toy / "images",
        tmp_path / "sample",
        n=5,
        architectures=["largest"],
        evaluation=Evaluation(device="cpu"),
    )
    assert [row["origin"] for row in sampled.rows] == ["random"] * 5 + ["given"]
    assert {row["number"] for row in sampled.front} <= set(range(6))
    assert (tmp_path / "sample" / "summary.txt").read_text() == sampled.summary


def test_the_package_exports_the_jobs():
    for name in ("demo", "finetune", "retrain", "sample", "test", "train"):
        assert getattr(nni_autoformer, name) is getattr(jobs, name)
    with pytest.raises(ConfigError, match="there is no such checkpoint"):
        nni_autoformer.search("nothing.safetensors", "digits", "run")
    from nni_autoformer.search.evolution import Evolution

    assert Evolution is nni_autoformer.Evolution


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: jobs.train("digits", "digits", "run", speed=3), "'speed' is no value of a recipe"),
        (
            lambda: jobs.train("digits", "digits", "run", epochs="ten"),
            "--epochs is ten; it should be a whole",
        ),
        (
            lambda: jobs.train("digits", "digits", "run", lr=float("nan")),
            "--lr is nan; it should be a finite",
        ),
        (lambda: jobs.train("nothing", "digits", "run"), "--space nothing: there is no packaged space"),
        (lambda: Upkeep(keep=-1), "--keep is -1; it should be 0 or more"),
        (lambda: Loading(pin_memory="yes"), "--pin-memory is yes; it should be true or false"),
        (lambda: DataSet(workers=-1), "--workers is -1; it should be at least 0"),
        (lambda: Evaluation(batch_size=0), "--batch-size is 0; it should be at least 1, or 'auto'"),
        (lambda: Evaluation(precision="fp8"), "--precision is fp8; it should be one of fp32, bf16, fp16"),
        (lambda: Engine(engine="ray"), "--engine is ray; it should be one of sequential, nni"),
        (lambda: Engine(concurrency=2), "--concurrency needs --engine nni"),
        (
            lambda: EvolutionConfig(population_size=2.5),
            "--population-size is 2.5; it should be a whole number",
        ),
        (lambda: Limits(max_params=float("inf")), "--max-params is inf; it should be a finite number"),
        (lambda: Limits(max_speed=1), "'max_speed' is no limit; known are min_params, max_params"),
        (lambda: jobs.test("x", "digits", split="val"), "--split is val; it should be test or selection"),
        (lambda: jobs.sample("x", "digits", "run", n=0), "--n is 0; it should be at least 1"),
    ],
)
def test_mistakes_are_sentences(wrong, sentence):
    with pytest.raises(ConfigError) as caught:
        wrong()
    assert sentence in str(caught.value)

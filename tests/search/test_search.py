"""The search in NNI's experiment: inherited accuracy without copies, and a search that can be killed at any
moment.
"""

import json
import math
import time

import pytest
import torch

from nni_autoformer import Evolution, EvolutionConfig, EvolutionStrategy, SubnetEvaluator, load_supernet
from nni_autoformer.cli import main
from nni_autoformer.complexity import macs, params
from nni_autoformer.data import DecodedImages
from nni_autoformer.experiment import run_experiment
from nni_autoformer.search.accuracy import measure
from nni_autoformer.search.engine import GenerationEngine
from nni_autoformer.search.folder import SearchFolder
from tests.processes import finish, kill, start, wait_for

SMALL = "--population-size 6 --num-mutations 3 --num-crossovers 2 --num-parents 3 --generations 3 --seed 1"


def search_command(toy, output, *more):
    flags = f"search --space {toy}/space.yaml --data {toy}/images --checkpoint {toy}/run/supernet.safetensors"
    return [*flags.split(), "--output", str(output), "--device", "cpu", *SMALL.split(), *more]


@pytest.fixture(scope="module")
def searched(toy, tmp_path_factory):
    output = tmp_path_factory.mktemp("search") / "s"
    assert main(search_command(toy, output)) == 0
    return output


def rows(folder):
    return [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]


def test_it_leaves_candidates_best_figure_and_summary(toy, searched):
    _, header = load_supernet(toy / "run" / "supernet.safetensors")
    found = rows(searched)
    assert [row["number"] for row in found] == list(range(18))
    assert {row["generation"] for row in found} == {0, 1, 2}
    from nni_autoformer import Architecture

    for row in found:
        architecture = Architecture.from_dict(row["architecture"])
        assert row["params"] == params(architecture, header.space.model)
        assert row["macs"] == macs(architecture, header.space.model)
        assert row["accuracy"] == row["top1"] <= row["top5"] == 100.0  # three classes
        assert row["images"] == 12
    best = min(found, key=lambda row: (-row["accuracy"], row["loss"], row["params"], row["number"]))
    assert Architecture.from_yaml(searched / "best.yaml").to_dict() == best["architecture"]
    assert (searched / "candidates.png").read_bytes().startswith(b"\x89PNG")
    assert f"{best['accuracy']:.2f} %" in (searched / "summary.txt").read_text()
    assert json.loads((searched / "run.json").read_text())["status"] == "finished"


def test_the_accuracies_are_those_of_the_extracted_subnets(toy, searched):
    from nni_autoformer import Architecture
    from nni_autoformer.search.evaluation import Evaluation
    from nni_autoformer.search.images import EvaluationImages

    path = toy / "run" / "supernet.safetensors"
    supernet, header = load_supernet(path)
    images = EvaluationImages(str(path), "folder", str(toy / "images"), store="none")
    evaluator = Evaluation(device="cpu").evaluator(header, images.decoded(header))
    for row in rows(searched)[::4]:
        subnet = supernet.extract(Architecture.from_dict(row["architecture"]))
        accuracy = evaluator.evaluate(subnet)
        assert (accuracy.top1, accuracy.loss) == (row["top1"], row["loss"])


def test_measure_counts_by_hand():
    images = DecodedImages(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2, 6, 6]))
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4, 3]])
    counted = []
    accuracy = measure(
        lambda x: logits.expand(len(x), -1),
        images,
        (0.0,),
        (1.0,),
        batch_size=2,
        on_batch=lambda count, right: counted.append((count, right())),
    )
    assert (accuracy.top1, accuracy.top5, accuracy.images) == (20.0, 60.0, 5)
    losses = [math.log(sum(math.exp(9 - k) for k in range(7))) - 9 + k for k in (0, 1, 2, 6, 6)]
    assert accuracy.loss == round(sum(losses) / 5, 6)
    assert counted == [(2, 1), (2, 1), (1, 1)]


def test_nothing_is_copied_and_images_are_decoded_once(toy, searched, tmp_path, monkeypatch):
    import copy

    from nni_autoformer.data.source import ImageSource
    from nni_autoformer.model import AutoFormer

    def refuse(*_):
        raise AssertionError("the supernet was copied for a candidate")

    decoded = []
    load = ImageSource.load
    monkeypatch.setattr(AutoFormer, "freeze", refuse)
    monkeypatch.setattr(AutoFormer, "extract", refuse)
    monkeypatch.setattr(AutoFormer, "__deepcopy__", refuse, raising=False)
    monkeypatch.setattr(ImageSource, "load", lambda self, i: decoded.append(i) or load(self, i))
    for name, expected in (("first", 12), ("second", 12)):  # the second finds them on disk
        command = [*search_command(toy, tmp_path / name), "--cache", str(tmp_path / "cache")]
        assert main(command) == 0
        assert len(decoded) == expected
        assert rows(tmp_path / name) == rows(searched)
    assert copy.copy(1) == 1


def test_as_a_strategy_of_nni_without_a_folder(toy, searched, tmp_path):
    supernet, header = load_supernet(toy / "run" / "supernet.safetensors")
    config = EvolutionConfig(6, 3, 3, 2, 3, seed=1)
    evolution = Evolution(header.space, config=config)
    images = DecodedImages(
        torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8), torch.tensor([0, 1, 2, 0, 1, 2])
    )
    evaluator = SubnetEvaluator(images, header.run["mean"], header.run["std"], device="cpu")
    strategy = EvolutionStrategy(evolution, progress=False)
    experiment = run_experiment(supernet, evaluator, strategy, tmp_path)
    assert evolution.told == 18
    best = experiment.export_top_models(formatter="dict")[0]
    assert best == evolution.best()[0].architecture.to_sample(header.space.max_depth)
    again = Evolution(header.space, config=config)
    other = EvolutionStrategy(again, progress=False)
    other.load_state_dict(strategy.state_dict())
    assert again.ranking() == evolution.ranking()


def test_nnis_own_strategies_run_with_the_same_evaluator(toy, tmp_path):
    from nni.nas.strategy import Random, RegularizedEvolution

    for strategy in (Random(), RegularizedEvolution(population_size=3, sample_size=2)):
        supernet, header = load_supernet(toy / "run" / "supernet.safetensors")
        images = DecodedImages(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2]))
        evaluator = SubnetEvaluator(images, header.run["mean"], header.run["std"], device="cpu")
        from nni.nas.experiment import NasExperiment, NasExperimentConfig

        config = NasExperimentConfig.default(supernet, evaluator, strategy)
        config.execution_engine.max_model_count = 5
        config.experiment_working_directory = tmp_path / "nni"
        experiment = NasExperiment(supernet, evaluator, strategy, config)
        experiment.run()
        experiment.stop()
        accuracies = [model.metric for model in strategy.list_models()]
        assert len(accuracies) == 5 and all(0 <= accuracy <= 100 for accuracy in accuracies)


def test_an_interrupted_search_goes_on_with_the_same_candidates(toy, searched, tmp_path, monkeypatch):
    from nni_autoformer.search.folder import SearchFolder

    record = SearchFolder.record

    def record_and_stop(self, entry):
        record(self, entry)
        if entry.candidate.number == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SearchFolder, "record", record_and_stop)
        assert main(search_command(toy, tmp_path / "s")) == 130
    assert len(rows(tmp_path / "s")) == 9
    assert main(search_command(toy, tmp_path / "s")) == 2  # neither --resume nor --overwrite
    submitted = []
    submit = GenerationEngine.submit_models
    monkeypatch.setattr(
        GenerationEngine,
        "submit_models",
        lambda self, *models: submitted.extend(models) or submit(self, *models),
    )
    assert main(search_command(toy, tmp_path / "s", "--resume")) == 0
    assert len(submitted) == 9
    assert rows(tmp_path / "s") == rows(searched)
    assert (tmp_path / "s" / "best.yaml").read_text() == (searched / "best.yaml").read_text()


def slowly():
    """Slower answers, so that the signal meets the search and not its end."""
    record = SearchFolder.record
    SearchFolder.record = lambda *arguments: (time.sleep(0.15), record(*arguments))[1]


@pytest.mark.slow
@pytest.mark.parametrize("answers", [1, 5, 7, 13, 17])
def test_a_killed_search_resumed_equals_the_uninterrupted_one(toy, searched, tmp_path, answers):
    output = tmp_path / "s"
    listed = output / "candidates.jsonl"
    process = start(search_command(toy, output), prepare=slowly)
    wait_for(lambda: listed.is_file() and len(rows(output)) >= answers, process)
    kill(process)
    assert json.loads((output / "run.json").read_text())["status"] == "running"
    state = output / "search.json"  # a generation's answers are kept in outcomes.npz until it is complete
    assert not state.is_file() or len(json.loads(state.read_text())["details"]) < 18
    assert (output / "outcomes.npz").is_file()
    assert finish(start([*search_command(toy, output), "--resume"])) == 0
    assert rows(output) == rows(searched)
    assert (output / "best.yaml").read_text() == (searched / "best.yaml").read_text()

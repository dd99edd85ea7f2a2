"""What reaches the tuner from outside: arguments, parameters, results, files. A mistake is one sentence."""

import errno
import os
import random
import shutil

import pytest

from nni_autoformer import ConfigError, EvolutionTuner, SearchSpace
from nni_autoformer.search.class_args import ClassArgs
from nni_autoformer.search.ledger import Status
from nni_autoformer.search.tuner import EvolutionClassArgsValidator

SPACE = SearchSpace.load("digits")
SETTINGS = {"population_size": 4, "num_parents": 2, "num_mutations": 2, "num_crossovers": 1, "generations": 2}


class Dispatcher:
    """NNI's, as far as a tuner sees it."""

    def __init__(self):
        self.errors, self.sent = [], []

    def callback(self, number, parameters):
        self.sent.append((number, parameters))

    def report_error(self, sentence):
        self.errors.append(sentence)


@pytest.fixture
def dispatcher():
    return Dispatcher()


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.setenv("NNI_LOG_DIRECTORY", str(tmp_path / "log"))
    monkeypatch.delenv("NNI_TUNER_COMMAND_CHANNEL", raising=False)
    return tmp_path


WRONG = [None, True, -1, 1.5, "x", "x" * 300, "a\0b", [], {}, [[]], float("nan"), float("inf"), 10**400, b"x"]
NAMES = ["space", "checkpoint", "output", "retries", "optimize_mode", "algorithm", "seed", "generations"]
NAMES += ["population_size", "gene_probability", "min_params", "max_macs", "nothing", "x" * 300]


@pytest.mark.parametrize("name", NAMES)
def test_wrong_class_arguments_are_sentences(experiment, name):
    refused = 0
    for value in WRONG:
        arguments = {"space": "digits", **SETTINGS, name: value}
        try:
            EvolutionTuner(**arguments)
        except ConfigError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 800
            if isinstance(value, (list, dict, bytes)):
                assert str(error).startswith(
                    f"classArgs: {'unknown' if 'x' in name * (len(name) > 20) else ''}"
                )
                assert name[:20] in str(error)
    assert refused >= (8 if name in ("min_params", "max_macs", "gene_probability", "output") else 9)


def test_the_validator_looks_at_all_arguments():
    for arguments in ({"retries": -1}, {"output": 5}):
        with pytest.raises(ConfigError, match=f"classArgs: {next(iter(arguments))} is"):
            EvolutionClassArgsValidator().validate_class_args(space="digits", **arguments)
    assert ClassArgs.of({"space": "digits", "seed": 3.0}).settings == {"seed": 3}


@pytest.mark.parametrize("search_space", [None, [], 5, {"depth": 5}, {"depth": {}}, {"depth": None}, {5: {}}])
def test_another_search_space_is_refused(experiment, search_space):
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    with pytest.raises(ConfigError, match="search_space"):
        tuner.update_search_space(search_space)


PARAMETERS = [
    None,
    [],
    "depth",
    {},
    {"depth": 3},
    {"depth": 10**12, "embed_dim": 48},
    {"__symbol__": "path:os.system", "__args__": ["true"]},
    {**SPACE.smallest.to_sample(5), "embed_dim": 50},
    {**SPACE.smallest.to_sample(5), "num_head_0": "1"},
]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_parameters_that_somebody_has_added_by_hand_are_left_out(experiment, parameters):
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    first = tuner.generate_parameters(0)
    tuner.import_data([{"parameter": parameters, "value": 5.0}, {"value": 3.0}])
    tuner.resumed_trial(parameters)
    tuner.resumed_trial_end(parameters, False)
    tuner.receive_trial_result(0, first, {"default": 50.0})
    assert tuner.evolution.ledger.told == 1
    assert len(tuner.evolution.ledger) == 1


def test_a_result_that_is_no_number_gives_the_candidate_up(experiment):
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    tuner.generate_multiple_parameters([0, 1])
    for number, value in ((0, "high"), (1, {"default": [1]})):
        tuner.receive_trial_result(number, {}, value)
        tuner.trial_end(number, True)
    assert [entry.status for entry in tuner.evolution.ledger][:2] == [Status.FAILED, Status.FAILED]


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_full_disk_ends_the_experiment_with_a_sentence_and_a_resume_goes_on(
    experiment, dispatcher, monkeypatch, at
):
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    replace, left = os.replace, [at]

    def full(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        given = tuner.generate_multiple_parameters([0, 1], st_callback=dispatcher.callback)
        for number in range(len(given)):
            tuner.receive_trial_result(number, given[number], 10.0 + number)
            tuner.trial_end(number, True)
    (sentence,) = dispatcher.errors
    assert "search.json cannot be written: No space left on device" in sentence
    monkeypatch.setenv("NNI_MODE", "resume")
    again = EvolutionTuner(space="digits", **SETTINGS)
    assert again.evolution.ledger.told == max(0, at - 2)
    assert len(again.generate_multiple_parameters([10, 11, 12, 13])) == 4 - again.evolution.ledger.told


def test_a_resume_with_another_supernet_in_its_file_is_refused(experiment, toy, monkeypatch):
    checkpoint = experiment / "supernet.safetensors"
    shutil.copy(toy / "run" / "supernet.safetensors", checkpoint)
    tuner = EvolutionTuner(checkpoint=str(checkpoint), **SETTINGS)
    tuner.receive_trial_result(0, tuner.generate_parameters(0), 50.0)
    monkeypatch.setenv("NNI_MODE", "resume")
    assert EvolutionTuner(checkpoint=str(checkpoint), **SETTINGS).evolution.ledger.told == 1
    content = bytearray(checkpoint.read_bytes())
    content[-1 - random.Random(0).randrange(100)] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(ConfigError, match="no longer what it began with: the supernet's file"):
        EvolutionTuner(checkpoint=str(checkpoint), **SETTINGS)


@pytest.mark.parametrize("damage", ["{", '{"evolution": 5, "details": {}}', ""])
def test_a_damaged_state_is_refused(experiment, monkeypatch, damage):
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    tuner.generate_parameters(0)
    (experiment / "search" / "search.json").write_text(damage)
    monkeypatch.setenv("NNI_MODE", "resume")
    with pytest.raises(ConfigError, match=r"search\.json: "):
        EvolutionTuner(space="digits", **SETTINGS)


def test_an_output_that_cannot_be_made(experiment):
    (experiment / "file").write_text("")
    with pytest.raises(ConfigError, match=r"classArgs: output .*file cannot be made"):
        EvolutionTuner(space="digits", output=str(experiment / "file"), **SETTINGS)


def result(top1, checksum):
    return {"default": top1, "images": 12, "images_checksum": checksum}


def test_a_trial_on_other_images_ends_the_experiment_with_a_sentence(experiment, dispatcher, monkeypatch):
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    given = tuner.generate_multiple_parameters([0, 1, 2], st_callback=dispatcher.callback)
    tuner.receive_trial_result(0, given[0], result(50.0, 2**47 + 1))
    monkeypatch.setenv("NNI_MODE", "resume")
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    again = tuner.generate_multiple_parameters([10, 11, 12], st_callback=dispatcher.callback)
    tuner.receive_trial_result(10, again[0], result(60.0, 2**47 + 2))
    (sentence,) = dispatcher.errors
    assert "was evaluated on other images than the first one" in sentence
    assert tuner.evolution.ledger.told == 1

    tuner = EvolutionTuner(space="digits", **SETTINGS)  # the images are put back; NNI has kept all results
    tuner.import_data(
        [
            {"parameter": given[0], "value": result(50.0, 2**47 + 1)},
            {"parameter": again[0], "value": result(60.0, 2**47 + 2)},
        ]
    )
    assert tuner.evolution.ledger.told == 1
    proposed = tuner.generate_multiple_parameters([20, 21, 22], st_callback=dispatcher.callback)
    assert again[0] in proposed
    tuner.receive_trial_result(20, proposed[0], result(60.0, 2**47 + 1))
    assert tuner.evolution.ledger.told == 2 and len(dispatcher.errors) == 1
    assert "images_checksum" not in (experiment / "search" / "candidates.jsonl").read_text()


@pytest.mark.parametrize("checksum", [None, "x", 1.5, [1], True])
def test_a_checksum_of_another_kind_is_no_business_of_ours(experiment, checksum):
    tuner = EvolutionTuner(space="digits", **SETTINGS)
    given = tuner.generate_multiple_parameters([0, 1])
    for number, parameters in enumerate(given):
        tuner.receive_trial_result(number, parameters, {"default": 5.0, "images_checksum": checksum})
    assert tuner.evolution.ledger.told == 2

"""Each correction to NNI is still needed, and does what it says."""

import json
from pathlib import Path

import nni_node
import numpy as np
import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.strategy import Random, RegularizedEvolution
from nni.nas.utils.serializer import TorchSerializer
from nni.runtime.msg_dispatcher import MsgDispatcher
from nni.runtime.tuner_command_channel import TunerCommandChannel
from nni.runtime.tuner_command_channel.command_type import RequestTrialJobs

from nni_autoformer import AutoFormer
from nni_autoformer.experiment import fixes

fixes.apply()
fixes.tell_tuner_of_resumed_trials()


def javascript(path):
    return (Path(nni_node.__path__[0]) / path).read_text()


def constant(model):
    import nni

    nni.report_final_result(1.0)


def experiment(toy, folder, strategy, name=None):
    space, evaluator = AutoFormer(str(toy / "space.yaml")), FunctionalEvaluator(constant)
    config = NasExperimentConfig("sequential", "simplified", "local")
    config.execution_engine.max_model_count = 8
    config.experiment_working_directory = folder
    return NasExperiment(space, evaluator, strategy, config, id=name)


@pytest.mark.parametrize("strategy", [Random, RegularizedEvolution])
def test_the_state_of_nnis_own_strategies_can_be_loaded(toy, tmp_path, strategy):
    first = experiment(toy, tmp_path, strategy())
    first.run()
    first.stop()
    state = tmp_path / first.id / "checkpoint" / "state.ckpt"
    with pytest.raises(Exception, match="weights_only"):  # still needed
        TorchSerializer.load.__wrapped__(TorchSerializer(), state)
    again = experiment(toy, tmp_path, strategy(), first.id)
    again.config.execution_engine.max_model_count = 12
    again.resume()
    again.stop()
    assert again._engine._model_count == 12


def test_a_state_with_code_is_refused(tmp_path):
    torch.save({"state": print}, tmp_path / "state.ckpt.torch")
    with pytest.raises(Exception, match="Weights only load failed"):
        TorchSerializer().load(tmp_path / "state.ckpt")


def test_a_state_is_written_by_rename(tmp_path, monkeypatch):
    save = torch.save

    def half(content, path):
        save(content, path)
        Path(path).write_bytes(Path(path).read_bytes()[:20])
        raise OSError("killed")

    for fixed in (False, True):
        TorchSerializer().save({"told": 1}, tmp_path / "state")
        monkeypatch.setattr(torch, "save", half)
        with pytest.raises(OSError, match="killed"):
            (TorchSerializer.save if fixed else TorchSerializer.save.__wrapped__)(
                TorchSerializer(), {"told": 2}, tmp_path / "state"
            )
        monkeypatch.setattr(torch, "save", save)
        if fixed:
            assert TorchSerializer().load(tmp_path / "state") == {"told": 1}
        else:
            with pytest.raises(Exception, match=r"file|archive|EOF|pickle"):
                TorchSerializer().load(tmp_path / "state")


def test_a_failed_resume_leaves_the_state_alone(toy, tmp_path):
    first = experiment(toy, tmp_path, Random())
    first.run()
    first.stop()
    state = tmp_path / first.id / "checkpoint" / "state.ckpt.torch"
    before = state.read_bytes()
    for fixed in (True, False):
        broken = experiment(toy, tmp_path, Random(), first.id)
        broken._action = "resume"
        broken._engine = SequentialExecutionEngine()  # as after a failure between start and load
        save = NasExperiment.save_checkpoint if fixed else NasExperiment.save_checkpoint.__wrapped__
        save(broken)
        assert (state.read_bytes() == before) == fixed


class Socket:
    """What NNI's manager says on the channel."""

    def __init__(self, *messages):
        self.messages = list(messages)

    def receive(self):
        return self.messages.pop(0)


def test_the_channel_passes_over_what_only_tuners_understand():
    messages = (
        {"type": "FD", "content": "[]"},
        {"type": "AD", "content": "[]"},
        {"type": "GE", "content": "2"},
    )
    channel = TunerCommandChannel("ws://localhost/tuner")
    channel._channel = Socket(*messages)
    assert channel.receive() == RequestTrialJobs(2)
    fixed = TunerCommandChannel._receive
    try:
        TunerCommandChannel._receive = fixed.__wrapped__
        channel._channel = Socket(*messages)
        with pytest.raises(ValueError, match="Unknown command type"):  # still needed
            channel.receive()
    finally:
        TunerCommandChannel._receive = fixed


def test_the_current_parameter_is_put_back(toy, tmp_path):
    import nni.trial

    before = nni.trial._params
    fixed = SequentialExecutionEngine._run_single_model
    try:
        for correct in (True, False):
            SequentialExecutionEngine._run_single_model = fixed if correct else fixed.__wrapped__
            run = experiment(toy, tmp_path, Random())
            run.run()
            run.stop()
            assert (nni.trial._params is before) == correct
    finally:
        SequentialExecutionEngine._run_single_model = fixed
        nni.trial._params = before


class Tuner:
    def __init__(self):
        self.told = []

    def resumed_trial(self, parameters):
        self.told.append(("resumed", parameters))

    def resumed_trial_end(self, parameters, success):
        self.told.append(("end", parameters, success))

    def trial_end(self, number, success):
        self.told.append(("trial_end", number, success))


def test_a_tuner_is_told_of_resumed_trials():
    record = {"parameter_id": 4, "parameters": {"depth": 3}}
    end = {"trial_job_id": "a", "event": "FAILED", "hyper_params": json.dumps(record)}
    dispatcher = MsgDispatcher("ws://_unittest_", Tuner())
    dispatcher.handle_add_customized_trial([record])
    dispatcher.handle_trial_end(end)
    assert dispatcher.tuner.told == [("resumed", {"depth": 3}), ("end", {"depth": 3}, False)]

    dispatcher = MsgDispatcher("ws://_unittest_", Tuner())
    MsgDispatcher.handle_add_customized_trial.__wrapped__(dispatcher, [record])
    MsgDispatcher.handle_trial_end.__wrapped__(dispatcher, end)
    assert dispatcher.tuner.told == []  # still needed


def test_parameters_are_handed_out_in_the_order_of_asking():
    """A trial that dies before it asks leaves its parameters to the next: `own_record` is still needed."""
    code = javascript("training_service/v3/compat.js")
    assert "this.parameters.push(form.hyperParameters.value)" in code
    assert "sendParameter(trialId, this.parameters.shift())" in code


def test_the_record_of_a_trial_is_kept_where_the_manager_cannot_be_asked(monkeypatch):
    record = {"parameter_id": 3, "parameters": {}}
    for channel in ("import://a.b", "http://localhost:9/env/local-env/x"):
        monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", channel)
        assert fixes.own_record(record) is record
        assert fixes.reports_before() == 0


def test_tensorboards_button_looks_in_another_folder(tmp_path):
    code = javascript("training_service/v3/compat.js")
    assert "globals_1.default.paths.experimentRoot, 'trials', trialJobId, 'output'" in code  # still needed
    output = tmp_path / "exp" / "environments" / "local-env" / "trials" / "abc"
    folder = fixes.tensorboard_folder(output, "abc")
    (folder / "events").write_text("x")
    assert folder == output / "tensorboard"
    assert (tmp_path / "exp" / "trials" / "abc" / "output" / "tensorboard" / "events").read_text() == "x"
    assert fixes.tensorboard_folder(output, "abc") == folder  # a second time
    assert fixes.tensorboard_folder(tmp_path / "elsewhere", "abc").is_dir()


def test_the_manager_outlives_a_killed_experiment():
    """In a process group of its own: `stop_orphaned_manager` is still needed."""
    import inspect

    from nni.experiment import launcher

    assert "preexec_fn=os.setpgrp" in inspect.getsource(launcher)
    fixes.stop_orphaned_manager("no_such_experiment")


def test_numpy_states_are_among_the_allowed_types(tmp_path):
    TorchSerializer().save({"random_state": np.random.RandomState(1).get_state()}, tmp_path / "s")
    loaded = TorchSerializer().load(tmp_path / "s")["random_state"]
    assert np.array_equal(loaded[1], np.random.RandomState(1).get_state()[1])

"""What whoever reaches the port of an NNI experiment could do to its owner, and the corrections against it,
in the form of those in `fixes`.

NNI's manager asks nobody who he is: it takes trials, imports results, and shows files of the experiment.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..config import shown
from ..errors import ConfigError
from .values import load_values

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
"""Addresses that NNI's manager can listen on."""


def values_from_the_manager() -> None:
    """`nni/runtime/`: `tuner_command_channel/channel.py`, `command_channel/websocket/connection.py`,
    `msg_dispatcher.py` and `msg_dispatcher_base.py`, which read what the manager says.

    Without it: they use `nni.load`, which imports and calls whatever function a text names. The parameters of
    a trial come back when it ends, and whoever reaches the manager's port can add a trial or import a result,
    and so can run any function in the process of the tuner or of the strategy.
    """
    import nni
    from nni.runtime import msg_dispatcher, msg_dispatcher_base
    from nni.runtime.command_channel.websocket import connection
    from nni.runtime.tuner_command_channel import channel

    for module in (channel, msg_dispatcher, msg_dispatcher_base):
        module.load = load_values
    connection.nni = SimpleNamespace(load=load_values, dump=nni.dump)


def trials_added_by_hand() -> None:
    """`nni/experiment/experiment.py`, `Experiment.list_trial_jobs`.

    Without it: NNI's engine takes a trial that somebody has added over the web interface for a model of the
    strategy, and loads it with `nni.load`, with the same consequence. The trials of a NAS experiment all come
    from its strategy.
    """
    from nni.nas.experiment import NasExperiment

    original = NasExperiment.list_trial_jobs

    @functools.wraps(original)
    def list_trial_jobs(self: Any) -> list[Any]:
        return [
            trial
            for trial in original(self)
            if all(record.parameter_source != "customized" for record in trial.hyperParameters)
        ]

    NasExperiment.list_trial_jobs = list_trial_jobs


def parameters_read_by(load: Callable[[str], Any]) -> None:
    """`nni/runtime/trial_command_channel/v3.py` and `local_legacy.py`, `receive_parameter`.

    Without it: a trial's parameters are read by `nni.load`, so a trial that somebody adds over the manager's
    port runs any function.

    Args:
        load: reads the text of the parameters, in the place of `nni.load`.
    """
    from nni.runtime.trial_command_channel import local_legacy, v3

    channel = v3.TrialCommandChannelV3
    original = getattr(channel.receive_parameter, "__wrapped__", channel.receive_parameter)

    @functools.wraps(original)
    def receive_parameter(self: Any) -> Any:
        self._channel.send({"type": "request_parameter"})
        answer = self._channel.receive()
        return None if answer is None else load(answer["parameter"])

    channel.receive_parameter = receive_parameter
    local_legacy.load = lambda fp: load(fp.read())


def listen_on(host: str) -> None:
    """`nni_node/rest_server/index.js`, `RestServer.start`, and `nni/experiment/launcher.py`, which starts it.

    Without it: NNI's manager, which runs whatever command it is told without asking who tells it, listens on
    all addresses of the machine, and so does the TensorBoard that it starts; there is no option for it. From
    now on the managers that this process starts listen on one address.

    Args:
        host: `LOOPBACK` for this machine alone, or `EVERYWHERE`, as NNI does.

    Raises:
        ConfigError: it is another address; NNI itself asks its manager over the loopback.
    """
    if host not in (LOOPBACK, EVERYWHERE):
        raise ConfigError(f"--host is {shown(host)}; it should be one of {LOOPBACK}, {EVERYWHERE}.")
    from nni.experiment import launcher

    start = getattr(launcher._start_rest_server, "__wrapped__", launcher._start_rest_server)
    launcher._start_rest_server = start
    if host == EVERYWHERE:
        return

    @functools.wraps(start)
    def _start_rest_server(*args: Any, **kwargs: Any) -> Any:
        own = os.environ.get("NODE_OPTIONS", "")
        script = Path(__file__).with_name("listen.js")
        added = {
            "NODE_OPTIONS": f"--require {json.dumps(str(script), ensure_ascii=False)} {own}".strip(),
            "NNI_AUTOFORMER_NODE_OPTIONS": own,
            "NNI_AUTOFORMER_HOST": host,
        }
        before = dict(os.environ)
        os.environ.update(added)
        try:
            return start(*args, **kwargs)
        finally:
            for name in added:
                os.environ.pop(name)
                if name in before:
                    os.environ[name] = before[name]

    launcher._start_rest_server = _start_rest_server

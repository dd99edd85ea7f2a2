"""This process as a trial of an NNI experiment: the parameters that it got, and what it reports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .values import code_in, load_values


class Trial:
    """A running trial; `current_trial` gives it.

    NNI's own functions report through whatever channel is set at that moment, and a `NasExperiment` inside of
    this process, as supernet training is one, sets another. The channel is taken once, at the start.

    Raises:
        ConfigError: the parameters name code, which somebody may have sent to the manager.

    Attributes:
        id: NNI's name of the trial.
        parameters: what the tuner chose, by name; numbers may have passed through JavaScript, which writes
            4.0 as 4.
        output: folder in which NNI keeps what the trial leaves; its TensorBoard button looks below it.
    """

    def __init__(self) -> None:
        from nni.runtime.trial_command_channel import get_default_trial_command_channel

        from . import exposure, fixes

        exposure.parameters_read_by(load_values)
        self.id = os.environ["NNI_TRIAL_JOB_ID"]
        self.output = Path(os.environ.get("NNI_OUTPUT_DIR") or ".")
        self._channel = get_default_trial_command_channel()
        record = fixes.own_record(dict(self._channel.receive_parameter() or {}))
        parameters = record.get("parameters")
        if mark := code_in(parameters):
            raise ConfigError(
                f"the trial's parameters hold '{mark}', which names code to be run; they should be numbers "
                "and words."
            )
        self._parameter_id: int | None = record.get("parameter_id")
        self.parameters: dict[str, Any] = (
            {str(name): value for name, value in parameters.items()}
            if isinstance(parameters, Mapping)
            else {}
        )
        self._reported = 0

    def go_on(self) -> None:
        """Let the curve go on behind the points of an earlier start of this trial, for work that goes on too;
        without it they are taken for the same points.
        """
        from . import fixes

        self._reported = fixes.reports_before()

    def report_intermediate(self, metric: float | Mapping[str, float]) -> None:
        """A point of the trial's curve in the web UI; of a mapping, 'default' is the curve."""
        self._send("PERIODICAL", self._reported, metric)
        self._reported += 1

    def report_final(self, metric: float | Mapping[str, float]) -> None:
        """The trial's result; of a mapping, 'default' is what the tuner gets."""
        self._send("FINAL", 0, metric)

    def _send(self, kind: Any, sequence: int, metric: float | Mapping[str, float]) -> None:
        self._channel.send_metric(
            type=kind,
            parameter_id=self._parameter_id,
            trial_job_id=self.id,
            sequence=sequence,
            value=dict(metric) if isinstance(metric, Mapping) else metric,
        )


def current_trial() -> Trial | None:
    """The trial that this process is, or None outside of NNI; asks NNI for the parameters once."""
    return _current()


@lru_cache(maxsize=1)
def _current() -> Trial | None:
    inside = "NNI_TRIAL_JOB_ID" in os.environ and os.environ.get("NNI_PLATFORM") not in (None, "unittest")
    return Trial() if inside else None

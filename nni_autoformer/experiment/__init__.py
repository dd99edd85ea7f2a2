"""Everything that is NNI's: its corrections, its manager, what it needs of this machine, a trial, a run.

The names are resolved when they are first used: a tuner and a trial have to start fast.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .run import run_experiment, run_trials, until_stopped
    from .trial import Trial, current_trial

_HOMES = dict.fromkeys(("run_experiment", "run_trials", "until_stopped"), "run")
_HOMES |= dict.fromkeys(("Trial", "current_trial"), "trial")

__all__ = ["Trial", "current_trial", "run_experiment", "run_trials", "until_stopped"]

__getattr__, __dir__ = lazy(__name__, _HOMES)

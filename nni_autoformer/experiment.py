"""Running NNI's NAS experiment in this process, as a function that returns or raises."""

from __future__ import annotations

import signal
from pathlib import Path

from nni.nas.evaluator import Evaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.space import BaseModelSpace
from nni.nas.strategy.base import Strategy


def run_experiment(
    model_space: BaseModelSpace, evaluator: Evaluator, strategy: Strategy, folder: str | Path
) -> NasExperiment:
    """Run a NAS experiment to its end.

    Args:
        model_space: a model space, or a trained supernet.
        evaluator: what a trial does.
        strategy: what the trials are.
        folder: where NNI's logs and state go, under `nni/`.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. NNI itself would return as if the experiment were complete, and
            Lightning would end the process with status 1.
    """
    config = NasExperimentConfig.default(model_space, evaluator, strategy)
    config.experiment_working_directory = (Path(folder) / "nni").resolve()
    experiment = NasExperiment(model_space, evaluator, strategy, config)
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        completed = experiment.run()
    except BaseException as error:
        experiment.stop()
        if isinstance(error, SystemExit):  # what Lightning makes of Ctrl-C, after it has switched Ctrl-C off
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
        raise
    if not completed:  # NNI has caught the interrupt and stopped the experiment
        raise KeyboardInterrupt
    experiment.stop()
    return experiment

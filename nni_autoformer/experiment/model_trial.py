"""What a trial of a `NasExperiment` runs: NNI's own entry, behind a check of who has sent the trial.

The command line names the file of the model space, and a trial's parameters are a sample of it, see
`shown_trials`. Without a file the parameters are a model that names its classes, as NNI itself sends it, and
reading that imports and calls them; so a trial that somebody has added over the manager's port must not be
read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from . import exposure
from .quiet import quieten
from .values import code_in, load_values

MODEL_FILE = "model.json"
"""The model space and the evaluator of an experiment, in NNI's folder of the run."""


def load_model(text: str) -> Any:
    """Read the record of a trial that the experiment's strategy has submitted: its parameters become the
    model.

    Raises:
        ConfigError: somebody else has added the trial.
    """
    import nni

    record = load_values(text)
    # the manager gives no number to a trial that was added, and the source is lost in a resume
    if record.get("parameter_id") is None or record.get("parameter_source") == "customized":
        raise ConfigError(
            "this trial was not submitted by the experiment's strategy; trials cannot be added by hand."
        )
    if (file := _model_file()) is None:
        return nni.load(text)
    if code_in(record["parameters"]) is not None:
        raise ConfigError("the trial's parameters name code; they should be a sample of the search space.")
    space = nni.load(file.read_text(encoding="utf-8"))
    return record | {"parameters": space.freeze(record["parameters"])}


def _model_file() -> Path | None:
    """The file that the command line names; none in a run that an earlier version has begun."""
    named = sys.argv[1] if len(sys.argv) > 1 else ""
    return Path(named) if Path(named).name == MODEL_FILE else None


def main() -> None:
    """Run the trial."""
    quieten()
    exposure.parameters_read_by(load_model)
    from nni.nas.execution.training_service import trial_entry

    try:
        trial_entry()
    except ConfigError as error:
        sys.exit(f"nni-autoformer: error: {error}")


if __name__ == "__main__":
    main()

"""What a trial of a `NasExperiment` runs: NNI's own entry, behind a check of who has sent the trial.

The parameter of such a trial is a model that names its classes, which reading it imports and calls; so a
trial that somebody has added over the manager's port must not be read.
"""

from __future__ import annotations

import sys
from typing import Any

from ..errors import ConfigError
from . import exposure
from .values import load_values


def load_model(text: str) -> Any:
    """Read the record of a trial that the experiment's strategy has submitted.

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
    return nni.load(text)


def main() -> None:
    """Run the trial."""
    exposure.parameters_read_by(load_model)
    from nni.nas.execution.training_service import trial_entry

    try:
        trial_entry()
    except ConfigError as error:
        sys.exit(f"nni-autoformer: error: {error}")


if __name__ == "__main__":
    main()

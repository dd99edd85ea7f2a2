"""Keep the log lines, banners and warnings of NNI and Lightning off the screen; NNI's log is in its file. Who
sets the logger `nni_autoformer` to debugging sees them.
"""

from __future__ import annotations

import logging
import warnings

NO_NEWS = (
    ".*try to wrap PyTorch DataLoader with nni.trace",  # only matters for trials in other processes
    ".*does not have many workers",
    ".*treespec",
    ".*ended before the epoch ended and your dataloader is",  # the sampler knows where the run stands
    "It is recommended to use .self.log.*sync_dist=True",  # torchmetrics has summed over the ranks
    "The number of training batches .* is smaller than the logging interval",
)
"""Beginnings of warnings that are no news to a user."""

LIBRARIES = (
    r"(nni|pytorch_lightning|lightning_fabric|torch\.(_weights_only_unpickler|nn|utils|distributed|optim))\b"
)
"""Modules whose warnings are for people who program with them."""


def quieten() -> None:
    """Keep warnings off the screen that are no news to a user; imports nothing."""
    for message in NO_NEWS:
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", module=LIBRARIES)


def quieten_libraries() -> None:
    """Stop the log lines of NNI and Lightning on the screen; imports both."""
    if logging.getLogger("nni_autoformer").isEnabledFor(logging.DEBUG):
        return
    import pytorch_lightning  # noqa: F401  (sets its own log level when it is imported)
    from nni.runtime.log import silence_stdout

    silence_stdout()
    logging.getLogger("nni").addHandler(logging.NullHandler())
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.raiseExceptions = False  # a log on a full disk, whose traceback would hide our own sentence

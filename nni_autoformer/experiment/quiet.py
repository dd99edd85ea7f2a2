"""Keep the log lines and warnings of NNI and Lightning off the screen; NNI's log is in its file."""

from __future__ import annotations

import logging
import warnings

NO_NEWS = (
    ".*is found to be not a nn.Module",  # NNI looks at names of torch.nn that it does not know
    ".*try to wrap PyTorch DataLoader with nni.trace",  # only matters for trials in other processes
    ".*does not have many workers",
    ".*treespec",
    ".*ended before the epoch ended and your dataloader is",  # the sampler knows where the run stands
    "It is recommended to use .self.log.*sync_dist=True",  # torchmetrics has summed over the ranks
    "The number of training batches .* is smaller than the logging interval",
)
"""Beginnings of warnings that are no news to a user."""


def quieten() -> None:
    """Keep warnings off the screen that are no news to a user; imports nothing."""
    for message in NO_NEWS:
        warnings.filterwarnings("ignore", message=message)


def quieten_libraries() -> None:
    """Stop the log lines of NNI and Lightning on the screen; imports both."""
    import pytorch_lightning  # noqa: F401  (sets its own log level when it is imported)
    from nni.runtime.log import silence_stdout

    silence_stdout()
    logging.getLogger("nni").addHandler(logging.NullHandler())
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.raiseExceptions = False  # a log on a full disk, whose traceback would hide our own sentence

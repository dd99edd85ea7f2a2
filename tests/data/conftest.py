"""What the package says while images are read."""

import logging
import sys

import pytest


class ToStderr(logging.Handler):
    def emit(self, record):
        print(self.format(record), file=sys.stderr, flush=True)


@pytest.fixture
def log_to_stderr():
    """Standard error shows the package's log, also that of worker processes, and nothing else does."""
    logger = logging.getLogger("nni_autoformer")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers, logger.propagate = [ToStderr()], False
    logger.setLevel(logging.INFO)
    yield
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])

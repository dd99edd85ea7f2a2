"""What the package says while images are read."""

import logging
import sys

import pytest


@pytest.fixture
def log_to_stderr():
    """Standard error shows the package's log, also that of worker processes, and nothing else does."""
    logger = logging.getLogger("nni_autoformer")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers, logger.propagate = [logging.StreamHandler(sys.stderr)], False
    logger.setLevel(logging.INFO)
    yield
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])

"""A benchmark sets torch's threads for its process, which here is that of all tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads_as_before():
    """Runs that other tests compare bit for bit need as many threads as the first one had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)

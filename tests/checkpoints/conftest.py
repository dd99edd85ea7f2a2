"""A small search space, its supernet, and what the package logs."""

import logging

import pytest
import torch

from nni_autoformer import SearchSpace, build_supernet


@pytest.fixture(scope="session")
def small_space():
    return SearchSpace.from_dict(
        {
            "name": "small",
            "choices": {"embed_dim": [16, 24], "depth": [1, 2], "num_heads": [1, 2], "mlp_ratio": [1.5, 2]},
            "model": {"img_size": 16, "patch_size": 4, "num_classes": 5, "max_relative_position": 3},
        }
    )


@pytest.fixture
def make_supernet():
    """The function that builds a supernet whose logits show every difference."""

    def make(space):
        supernet = build_supernet(space).eval()
        torch.manual_seed(3)
        for parameter in supernet.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return supernet

    return make


@pytest.fixture
def small_supernet(small_space, make_supernet):
    return make_supernet(small_space)


@pytest.fixture
def logged():
    """Levels and messages of what the package logs, as '{level} {message}' lines."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(f"{record.levelname.lower()} {record.getMessage()}")

    logger, handler = logging.getLogger("nni_autoformer"), Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)

"""What tests of several commands need."""

import pytest


@pytest.fixture(scope="session")
def others(toy, make_image_folder):
    """Beside the toy's images some of other classes."""
    make_image_folder(toy / "others", per_class={"train": 20, "val": 8}, classes=("four", "one"))
    return "others"

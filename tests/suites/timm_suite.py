"""timm's own tests of its models, run on this package's three. Not collected by pytest:

    git clone --depth 1 https://github.com/huggingface/pytorch-image-models ../timm
    python tests/suites/timm_suite.py ../timm
    python tests/suites/timm_suite.py ../timm -k "tiny and fx"

What runs is `tests/test_models.py`, as it is, whose tests ask timm for the models that each is about. Here
they get ours wherever they would get timm's `vit_tiny_patch16_224`; tests of pretrained weights have none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm

import nni_autoformer.registry  # noqa: F401

OURS = ["autoformer_tiny_patch16_224", "autoformer_small_patch16_224", "autoformer_base_patch16_224"]
LIKE = "vit_tiny_patch16_224"


def ours_in_place_of(list_models: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """timm's list of models, with ours where it has one like them."""

    def listed(*arguments: Any, **options: Any) -> list[str]:
        names = {name.partition(".")[0] for name in list_models(*arguments, **options)}
        return OURS if LIKE in names and not options.get("pretrained") else []

    return listed


def main() -> int:
    """Run the suite; the exit code."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    checkout = Path(sys.argv[1]).resolve()
    timm.list_models = ours_in_place_of(timm.list_models)
    options = ["-c", "/dev/null", "--rootdir", str(checkout), "-p", "no:cacheprovider", "-W", "ignore", "-v"]
    options += ["-k", "autoformer"]
    return pytest.main([*options, str(checkout / "tests/test_models.py"), *sys.argv[2:]])


if __name__ == "__main__":
    sys.exit(main())

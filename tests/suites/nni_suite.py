"""NNI 3.0's own tests, run on this package's space and tuner. Not collected by pytest:

    git clone --branch v3.0 --depth 1 https://github.com/microsoft/nni ../nni
    python tests/suites/nni_suite.py ../nni

What runs: `test/algo/nas/oneshot/test_hub.py` with DARTS, GumbelDARTS and random sampling,
`test/algo/nas/hub/test_sanity.py`, and the tests that `test/ut/sdk/test_builtin_tuners.py` has for a tuner.
Their files are used as they are. In the hub's place they find our `AutoFormer`, and in ImageNet's place
random images. Left out is what NNI leaves out for its own AutoFormer (Proxyless), and ENAS, whose strategy
does not import beside today's tianshou.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
import unittest
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import FakeData

from nni_autoformer import AutoFormer, EvolutionTuner, SearchSpace

SPACE = SearchSpace.load("tiny")
ONE_SHOT = "test/algo/nas/oneshot/test_hub.py::test_hub_oneshot"
HUB_TESTS = [
    *(f"{ONE_SHOT}[{strategy}-autoformer]" for strategy in ("darts", "gumbel", "random")),
    "test/algo/nas/hub/test_sanity.py::test_autoformer",
]


class RandomImageNet(FakeData):
    """Random images where the suite looks for ImageNet's folder."""

    def __init__(self, root: str, split: str = "train", transform: Any = None) -> None:
        super().__init__(size=16, image_size=(3, 224, 224), num_classes=1000, transform=transform)


def in_the_hubs_place() -> None:
    """Let the suite's imports find what is tested here."""
    import nni.nas.hub.pytorch as hub
    import torchvision.datasets

    hub.AutoFormer = hub.AutoformerSpace = lambda: AutoFormer(SPACE)
    torchvision.datasets.ImageNet = RandomImageNet  # type: ignore[assignment,misc]


def run_hub_tests(checkout: Path) -> bool:
    """Whether all passed."""
    in_the_hubs_place()
    tests = [str(checkout / test) for test in HUB_TESTS]
    options = ["-c", "/dev/null", "--rootdir", str(checkout), "-p", "no:cacheprovider", "-W", "ignore", "-v"]
    return pytest.main([*options, *tests]) == 0


def without_absent_tuners(source: str) -> None:
    """Let the suite's file import NNI's other tuners, whose optional packages need not be there."""
    for name, tuner in re.findall(r"from (nni\.algorithms\.hpo\.\w+) import (\w+)", source):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
            setattr(sys.modules[name], tuner, None)


def tuner_tests(checkout: Path) -> unittest.TestSuite:
    """The suite's tests of one tuner, given ours with its own search space."""
    folder = checkout / "test/ut/sdk"
    without_absent_tuners((folder / "test_builtin_tuners.py").read_text())
    sys.path.insert(0, str(folder))
    from test_builtin_tuners import BuiltinTunersTestCase  # type: ignore[import-not-found]

    class Ours(BuiltinTunersTestCase):  # type: ignore[misc]
        """Proposals in range round after round, answers in both forms, imported data."""

        def test_proposals(self) -> None:
            """As `search_space_test_all`, whose spaces are not ours, does for each space."""
            self.search_space_test_one(lambda: EvolutionTuner(space="tiny"), SPACE.to_nni())

        def test_another_space_is_refused(self) -> None:
            """As that test expects of a space that a tuner does not support."""
            other = {"choice_str": {"_type": "choice", "_value": ["cat", "dog"]}}
            with self.assertRaises(ValueError):
                self.search_space_test_one(lambda: EvolutionTuner(space="tiny"), other)

        def test_import_data(self) -> None:
            """The steps of `import_data_test`, with subnets for its cats and dogs."""
            tuner = EvolutionTuner(space="tiny")
            tuner.update_search_space(SPACE.to_nni())
            known = [SPACE.smallest, SPACE.middle, SPACE.largest]
            rows = [{"parameter": one.to_sample(SPACE.max_depth), "value": 1.1} for one in known]
            rows[1]["value"] = {"default": 1.2, "tmp": 2}
            tuner.import_data(rows[:2])
            parameters = tuner.generate_multiple_parameters(list(range(3)), st_callback=deque().append)
            for number, parameter in enumerate(parameters):
                tuner.receive_trial_result(number, parameter, 50.0 + number)
            tuner.import_data(rows)
            [parameter] = tuner.generate_multiple_parameters([3])
            tuner.receive_trial_result(3, parameter, 60.0)
            self.check_range([*parameters, parameter], SPACE.to_nni())

    names = ("test_proposals", "test_another_space_is_refused", "test_import_data")
    return unittest.TestSuite(Ours(name) for name in names)


def main() -> int:
    """Run both; the exit code."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    checkout = Path(sys.argv[1]).resolve()
    tuner = unittest.TextTestRunner(verbosity=2).run(tuner_tests(checkout)).wasSuccessful()
    return 0 if run_hub_tests(checkout) and tuner else 1


if __name__ == "__main__":
    sys.exit(main())

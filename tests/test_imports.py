"""What importing costs: the rooms that a tuner needs load neither torch nor NNI."""

import subprocess
import sys

import pytest

HEAVY = ("numpy", "torch", "nni", "timm", "torchvision", "pytorch_lightning", "matplotlib")


def loaded_after(statement):
    script = f"import sys\n{statement}\nprint(','.join(n for n in {HEAVY!r} if n in sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.mark.parametrize(
    "statement",
    [
        "import nni_autoformer",
        "import nni_autoformer.space",
        "import nni_autoformer.complexity",
        "import nni_autoformer.latency_table",
        "import nni_autoformer.search.evolution",
        "import nni_autoformer.training.recipe",
        "from nni_autoformer import SearchSpace, Evolution, Limits; "
        "Evolution(SearchSpace.load('digits')).ask()",
        "from nni_autoformer.cli import build_parser; build_parser()",
    ],
)
def test_light_imports_load_nothing_heavy(statement):
    assert loaded_after(statement) == ""


def test_a_plain_subnet_loads_torch_alone():
    assert loaded_after("import nni_autoformer.nn.subnet") in ("torch", "numpy,torch")


def test_the_public_names_resolve_and_nothing_else_does():
    import nni_autoformer

    for name in nni_autoformer.__all__:
        value = getattr(nni_autoformer, name)
        assert callable(value) and value.__name__.removeprefix("nni_autoformer.") == name
    assert set(nni_autoformer.__all__) <= set(dir(nni_autoformer))
    with pytest.raises(AttributeError, match="no attribute 'Autoformer'"):
        nni_autoformer.Autoformer  # noqa: B018


def test_importing_everything_warns_of_nothing():
    script = "from nni_autoformer import AutoFormer, EvolutionStrategy, SupernetTraining, jobs"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")

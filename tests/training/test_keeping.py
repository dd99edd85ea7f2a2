"""The files of kept epochs: whatever moment a kill comes at, a resume leaves all of them."""

import pytest
from safetensors.torch import load_file

from nni_autoformer.cli import main
from nni_autoformer.training.saving import Saving


@pytest.fixture(scope="module")
def whole(toy, toy_command, tmp_path_factory):
    """A training that nothing ended early."""
    path = tmp_path_factory.mktemp("keeping") / "whole"
    assert main(toy_command(toy, path, "--keep", "2")) == 0
    return path


@pytest.mark.parametrize(
    ("method", "after"),
    [
        ("_keep", True),
        ("_drop_old", False),
        *(
            pytest.param(method, after, marks=pytest.mark.slow)
            for method, after in [
                ("_keep", False),
                ("_save_state", False),
                ("_save_state", True),
                ("_write_last", False),
                ("_write_last", True),
                ("_drop_old", True),
            ]
        ),
    ],
)
def test_no_kept_epoch_is_lost(whole, toy, toy_command, tmp_path, monkeypatch, method, after):
    flags = ("--keep", "2")
    original, calls = getattr(Saving, method), []

    def killed(self, *arguments):
        calls.append(method)
        if after:
            original(self, *arguments)
        if len(calls) == 2:
            raise MemoryError
        if not after:
            original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(Saving, method, killed)
        main(toy_command(toy, tmp_path / "run", *flags))
    assert main(toy_command(toy, tmp_path / "run", *flags, "--resume")) == 0
    expected, run = (sorted((folder / "epochs").iterdir()) for folder in (whole, tmp_path / "run"))
    names = ["0002.safetensors", "0003.safetensors"]
    assert [path.name for path in run] == [path.name for path in expected] == names
    for one, other in zip(expected, run):
        a, b = load_file(one), load_file(other)
        assert all(a[key].equal(b[key]) for key in a)

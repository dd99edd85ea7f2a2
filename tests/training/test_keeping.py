"""The files of kept epochs: whatever moment a kill comes at, a resume leaves all of them."""

import pytest
from safetensors.torch import load_file

from nni_autoformer.cli import main
from nni_autoformer.training.saving import Saving


@pytest.mark.parametrize("method", ["_keep", "_save_state", "_write_last", "_drop_old"])
@pytest.mark.parametrize("after", [False, True])
def test_no_kept_epoch_is_lost(toy, toy_command, tmp_path, monkeypatch, method, after):
    flags = ("--keep", "2")
    assert main(toy_command(toy, tmp_path / "whole", *flags)) == 0
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
    whole, run = (sorted((tmp_path / name / "epochs").iterdir()) for name in ("whole", "run"))
    assert (
        [path.name for path in run]
        == [path.name for path in whole]
        == ["0002.safetensors", "0003.safetensors"]
    )
    for one, other in zip(whole, run):
        a, b = load_file(one), load_file(other)
        assert all(a[key].equal(b[key]) for key in a)

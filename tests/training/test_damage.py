"""Damage to what a training has saved is noticed and named."""

import random

import pytest

from nni_autoformer import ConfigError
from nni_autoformer.training.progress import EpochTable
from nni_autoformer.training.saving import resume_point


def test_a_flipped_bit_in_the_state_is_noticed(toy, tmp_path):
    whole = (toy / "run" / "training.ckpt").read_bytes()
    state, rng = tmp_path / "training.ckpt", random.Random(0)
    state.write_bytes(whole)
    point = resume_point(state)
    noticed = 0
    for _ in range(40):
        damaged, place = bytearray(whole), rng.randrange(len(whole))
        damaged[place] ^= 1 << rng.randrange(8)
        state.write_bytes(damaged)
        try:
            assert resume_point(state) == point  # a bit between the parts, which nobody reads
        except ConfigError as error:
            assert "the training state cannot be read" in str(error)
            noticed += 1
    assert noticed > 20


def test_resuming_without_the_state_does_not_write_over_the_weights(toy, toy_command, tmp_path, capsys):
    import shutil

    from nni_autoformer.cli import main

    shutil.copytree(toy / "run", tmp_path / "run")
    run = tmp_path / "run" / "run.json"
    run.write_text(run.read_text().replace('"finished"', '"running"'))
    weights = (tmp_path / "run" / "supernet.safetensors").read_bytes()
    (tmp_path / "run" / "training.ckpt").unlink()
    assert main(toy_command(toy, tmp_path / "run", "--resume")) == 2
    assert "the training state is gone" in capsys.readouterr().err
    assert (tmp_path / "run" / "supernet.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    "text",
    [
        "epoch,step\nx,3\n",
        "step\n3\n",
        "epoch\n1.5\n",
        "epoch,step\n1\n",
        "epoch\n1,2\n",
        "epoch,step\n\x00,3\n",
    ],
)
def test_a_damaged_table_is_a_sentence(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ConfigError, match=r"metrics\.csv: the table is damaged"):
        EpochTable(tmp_path).keep_before(0)

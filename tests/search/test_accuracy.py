"""Measuring: a network whose logits are not finite has no accuracy."""

import pytest
import torch

from nni_autoformer import ConfigError
from nni_autoformer.cli import main
from nni_autoformer.data.cache import DecodedImages
from nni_autoformer.search.accuracy import are_finite, measure

MEAN, STD = (0.5,) * 3, (0.5,) * 3


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (10, 3, 4, 4), dtype=torch.uint8, generator=generator)
    return DecodedImages(pixels, torch.arange(10) % 3, [str(i) for i in range(10)])


def network(value, rows):
    """Logits that name class 0, with a value of their own in some rows of each batch."""

    def run(batch):
        logits = torch.tensor([1.0, 0.0, 0.0]).repeat(len(batch), 1)
        logits[:rows, 1] = value
        return logits

    return run


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("batch_size", "rows"), [(10, 1), (10, 10), (4, 2)])
def test_logits_that_are_not_finite_are_no_accuracy(images, value, batch_size, rows):
    with pytest.raises(ConfigError, match="logits are NaN or infinite, so it has no accuracy"):
        measure(network(value, rows), images, MEAN, STD, batch_size=batch_size)


def test_finite_logits_are_measured(images):
    assert measure(network(-1e30, 10), images, MEAN, STD, batch_size=3).top1 == 40
    logits = torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [0.0, float("inf")]])
    assert are_finite(logits).tolist() == [True, False, False]


def test_a_checkpoint_with_damaged_weights_is_a_sentence(toy, tmp_path, capsys):
    from nni_autoformer import load_supernet, save_supernet

    supernet, header = load_supernet(toy / "run" / "supernet.safetensors")
    with torch.no_grad():
        supernet.head.weight[0] = float("nan")
    save_supernet(tmp_path / "x.safetensors", supernet, header.run)
    flags = f"--checkpoint {tmp_path}/x.safetensors --data {toy}/images --architecture middle --device cpu"
    assert main(f"test {flags}".split()) == 2
    captured = capsys.readouterr()
    assert "logits are NaN or infinite" in captured.err and "top-1" not in captured.out

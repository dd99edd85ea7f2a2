"""A search goes on with the weights and images that it began with, or not at all."""

import pytest
import torch

from nni_autoformer import Evolution, EvolutionConfig, EvolutionStrategy, SearchSpace, SubnetEvaluator
from nni_autoformer.data import DecodedImages
from nni_autoformer.errors import ConfigError
from nni_autoformer.experiment import run_experiment
from nni_autoformer.model import build_supernet
from nni_autoformer.search.contents import digest_of_images, digest_of_weights
from nni_autoformer.search.folder import SearchFolder

SPACE = SearchSpace.load("digits")
CONFIG = EvolutionConfig(3, 1, 1, 1, 2, seed=4)


def few(images, count=12):
    return DecodedImages(images.images[:count].clone(), images.targets[:count].clone())


def search(supernet, images, folder):
    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), 64, device="cpu")
    run_experiment(
        supernet,
        evaluator,
        EvolutionStrategy(Evolution(SPACE, config=CONFIG), folder, progress=False),
        folder,
    )


def test_digests_tell_every_pixel_class_and_weight_apart(images):
    one, other = few(images), few(images)
    assert digest_of_images(one) == digest_of_images(other)
    other.images[11, 0, 15, 15] += 1
    assert digest_of_images(one) != digest_of_images(other)
    other = few(images)
    other.targets[0] += 1
    assert digest_of_images(one) != digest_of_images(other)
    net, same = build_supernet(SPACE, seed=1), build_supernet(SPACE, seed=1)
    assert digest_of_weights(net) == digest_of_weights(same)
    with torch.no_grad():
        net.head.bias[-1] += 1e-6
    assert digest_of_weights(net) != digest_of_weights(same)
    assert digest_of_weights(torch.nn.Linear(2, 2).bfloat16())


def test_changed_weights_or_images_are_refused(images, tmp_path, monkeypatch):
    net, chosen, record = build_supernet(SPACE, seed=1), few(images), SearchFolder.record

    def stop(self, entry):
        record(self, entry)
        if entry.candidate.number == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SearchFolder, "record", stop)
        with pytest.raises(KeyboardInterrupt):
            search(net, chosen, tmp_path)
    trained = build_supernet(SPACE, seed=1)
    with torch.no_grad():
        trained.head.weight.mul_(1.001)
    with pytest.raises(ConfigError, match="no longer what it began with: the supernet's weights"):
        search(trained, chosen, tmp_path)
    other = few(images)
    other.images[3] = 255 - other.images[3]
    with pytest.raises(ConfigError, match="no longer what it began with: the selection images"):
        search(build_supernet(SPACE, seed=1), other, tmp_path)
    before = (tmp_path / "candidates.jsonl").read_text()
    search(build_supernet(SPACE, seed=1), few(images), tmp_path)
    assert (tmp_path / "candidates.jsonl").read_text().startswith(before)


def test_outcomes_of_other_weights_are_not_taken(images, tmp_path, monkeypatch):
    """Killed in its first generation, a search has no state yet, and outcomes that are worth nothing now."""
    first, second = build_supernet(SPACE, seed=1), build_supernet(SPACE, seed=2)
    search(second, few(images), tmp_path / "whole")

    def stop(self, entry):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SearchFolder, "record", stop)
        patch.setattr(SearchFolder, "save", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            search(first, few(images), tmp_path / "s")
    assert (tmp_path / "s" / "outcomes.npz").is_file() and not (tmp_path / "s" / "search.json").exists()
    search(second, few(images), tmp_path / "s")
    assert (tmp_path / "s/candidates.jsonl").read_text() == (tmp_path / "whole/candidates.jsonl").read_text()

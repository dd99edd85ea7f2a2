"""Decoded images on disk: found again, out of date when the files change, and never half written."""

import os
import subprocess
import sys

import pytest
import torch

from nni_autoformer import SearchSpace
from nni_autoformer.data import ImageStore, decode, eval_transform, image_key, open_data

MODEL = SearchSpace.load("cifar").with_model(img_size=(8, 8), patch_size=4).model


@pytest.fixture
def source(image_folder):
    return open_data("folder", image_folder).train


def test_what_is_put_is_found_memory_mapped(tmp_path, source):
    store, transform = ImageStore(tmp_path / "store"), eval_transform(MODEL)
    assert store.get("k") is None
    put, plain = store.put("k", source, transform), decode(source, transform)
    found = store.get("k", source.stamp())
    for images in (put, found):
        assert torch.equal(images.images, plain.images)
        assert torch.equal(images.targets, plain.targets)
        assert images.identifiers == plain.identifiers
    found.images[0] += 1  # a copy on write: the file stays as it is
    assert torch.equal(store.get("k").images, plain.images)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["k"]


def test_a_changed_file_makes_it_out_of_date(tmp_path, source, image_folder):
    store = ImageStore(tmp_path / "store")
    store.put("k", source, eval_transform(MODEL))
    os.utime(next(image_folder.glob("train/two/*.png")), (1, 1))
    assert store.get("k", source.stamp()) is None
    assert store.get("k") is not None
    store.put("k", source, eval_transform(MODEL))
    assert store.get("k", source.stamp()) is not None


def test_a_damaged_set_is_decoded_anew(tmp_path, source):
    store = ImageStore(tmp_path / "store")
    store.put("k", source, eval_transform(MODEL))
    (tmp_path / "store" / "k" / "images.npy").write_bytes(b"half")
    assert store.get("k") is None


def test_an_error_leaves_nothing_behind(tmp_path, source, image_folder):
    from nni_autoformer.errors import ConfigError

    store = ImageStore(tmp_path / "store")
    (image_folder / "train" / "two" / "03.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"two/03\.png"):
        store.put("k", source, eval_transform(MODEL))
    assert list((tmp_path / "store").iterdir()) == []


def test_too_little_room_is_an_error_before_anything_is_written(tmp_path, source, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="too little room"):
        ImageStore(tmp_path / "store").put("k", source, eval_transform(MODEL))


def test_the_key_depends_on_everything():
    keys = {image_key(), image_key(data="a"), image_key(data="b"), image_key(images="a")}
    assert len(keys) == 4
    assert image_key(a=1, b=2) == image_key(b=2, a=1)


def test_many_processes_decode_once(tmp_path, toy):
    """Processes that start together wait for the one that decodes."""
    script = """
import sys
from nni_autoformer.data.source import ImageSource
from nni_autoformer.checkpoints import own_header
from nni_autoformer.search.images import EvaluationImages
load, count = ImageSource.load, []
ImageSource.load = lambda self, i: count.append(i) or load(self, i)
checkpoint, data, store = sys.argv[1:]
images = EvaluationImages(checkpoint, "folder", data, store=store)
assert len(images.decoded(own_header(checkpoint))) == 12
print(len(count))
"""
    words = [str(toy / "run" / "supernet.safetensors"), str(toy / "images"), str(tmp_path / "store")]
    command = [sys.executable, "-c", script, *words]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    counts = sorted(int(process.communicate()[0]) for process in processes)
    assert counts == [0, 0, 12]


def test_an_unwritable_store_is_said_and_memory_used(tmp_path, toy, capsys):
    from nni_autoformer.checkpoints import own_header
    from nni_autoformer.search.images import EvaluationImages

    (tmp_path / "file").write_text("")
    checkpoint = toy / "run" / "supernet.safetensors"
    images = EvaluationImages(str(checkpoint), "folder", str(toy / "images"), store=str(tmp_path / "file"))
    assert len(images.decoded(own_header(checkpoint))) == 12
    assert "Decoded images are kept in memory" in capsys.readouterr().err

"""Decoded images on disk: found again, out of date when the files change, and never half written."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image, ImageOps

from nni_autoformer import SearchSpace
from nni_autoformer.data import ImageStore, decode, eval_transform, image_key, open_data

MODEL = SearchSpace.load("cifar").with_model(img_size=(8, 8), patch_size=4).model


@pytest.fixture
def source(image_folder):
    return open_data("folder", image_folder).train


def invert(path):
    """Other pixels in the same file, which keeps its time of change."""
    entry = path.stat()
    with Image.open(path) as image:
        ImageOps.invert(image).save(path)
    os.utime(path, ns=(entry.st_atime_ns, entry.st_mtime_ns))


def test_what_is_put_is_found_memory_mapped(tmp_path, source):
    store, transform = ImageStore(tmp_path / "store"), eval_transform(MODEL)
    assert store.get("k") is None
    put, plain = store.put("k", source, transform), decode(source, transform)
    for images in (put, store.get("k"), store.get("k", source), store.get("k", trust=True)):
        assert torch.equal(images.images, plain.images)
        assert torch.equal(images.targets, plain.targets)
        assert images.identifiers == plain.identifiers
    images.images[0] += 1  # a copy on write: the file stays as it is
    assert torch.equal(store.get("k").images, plain.images)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["k"]


CHANGES = {
    "other pixels": lambda root: invert(root / "train" / "two" / "03.png"),
    "a bad image": lambda root: (root / "train" / "two" / "03.png").write_bytes(b"bad"),
    "an image gone": lambda root: (root / "train" / "two" / "03.png").unlink(),
    "a class more": lambda root: (root / "train" / "seven").mkdir(),
    "a class renamed": lambda root: (root / "train" / "two").rename(root / "train" / "a"),
    "two images swapped": lambda root: [
        (root / "train/one/00.png").rename(root / "swap"),
        (root / "train/one/01.png").rename(root / "train/one/00.png"),
        (root / "swap").rename(root / "train/one/01.png"),
    ],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("old", [True, False])
def test_a_change_makes_a_set_out_of_date(tmp_path, source, image_folder, change, old):
    if old:
        for path in image_folder.rglob("*.png"):
            os.utime(path, (10**9, 10**9))
    store = ImageStore(tmp_path / "store")
    store.put("k", source, eval_transform(MODEL))
    CHANGES[change](image_folder)
    assert store.get("k") is None
    assert store.get("k", trust=True) is not None
    if change not in ("a class more", "a class renamed"):  # which opening the folder itself refuses
        assert store.get("k", source) is None


def test_other_labels_make_a_set_out_of_date(tmp_path, source):
    store = ImageStore(tmp_path / "store")
    store.put("k", source, eval_transform(MODEL))
    assert store.get("k", replace(source, targets=2 - source.targets)) is None
    assert store.get("k", replace(source, classes=["a", "b", "c"])) is None


def test_the_same_contents_at_another_time_are_recognised_and_then_known(tmp_path, source, image_folder):
    store = ImageStore(tmp_path / "store")
    store.put("k", source, eval_transform(MODEL))
    for path in image_folder.rglob("*.png"):
        os.utime(path, (10**9, 10**9))
    (image_folder / "train" / ".hidden").mkdir()
    assert store.get("k") is None
    assert store.get("k", source) is not None
    assert store.get("k") is not None


def test_a_large_set_goes_by_size_and_times(tmp_path, source, image_folder, monkeypatch):
    from nni_autoformer.data import contents

    monkeypatch.setattr(contents, "SMALL", -1)
    store = ImageStore(tmp_path / "store")
    store.put("k", source, eval_transform(MODEL))
    assert store.get("k") is not None and store.get("k", source) is not None
    invert(image_folder / "train" / "two" / "03.png")
    assert store.get("k") is None and store.get("k", source) is None


def flip_a_bit(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "a pixel": lambda place: flip_a_bit(place / "images.npy", -100),
    "a label": lambda place: flip_a_bit(place / "targets.npy", -8),
    "a name": lambda place: flip_a_bit(place / "facts.json", -30),
    "half a file": lambda place: os.truncate(place / "images.npy", 1000),
    "no file": lambda place: (place / "targets.npy").unlink(),
    "an empty file": lambda place: (place / "images.npy").write_bytes(b""),
    "brackets": lambda place: (place / "facts.json").write_text("[" * 100_000),
    "another shape": lambda place: np.save(place / "images.npy", np.load(place / "images.npy")[:, :1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_set_is_not_used(tmp_path, source, damage, capsys, log_to_stderr):
    store = ImageStore(tmp_path / "store")
    plain = store.put("k", source, eval_transform(MODEL)).images.clone()
    DAMAGES[damage](tmp_path / "store" / "k")
    assert store.get("k") is None and store.get("k", source) is None and store.get("k", trust=True) is None
    told = capsys.readouterr().err
    assert ("decoded again" in told and "store/k" in told) or damage == "no file"
    assert store.put("k", source, eval_transform(MODEL)).images.equal(plain)
    assert store.get("k") is not None


def test_what_killed_processes_were_decoding_is_removed(tmp_path, source):
    store = ImageStore(tmp_path / "store")
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    names = [
        f".other.{finished.pid}",
        f".k.{finished.pid}",
        f".other.{os.getppid()}",
        f".locked.{finished.pid}",
    ]
    for name in names:
        (store.folder / name).mkdir(parents=True)
        (store.folder / name / "images.npy").write_bytes(b"half")
    with FileLock(store.folder / "locked.lock"):  # by a process of another machine
        store.put("k", source, eval_transform(MODEL))
        assert {path.name for path in store.folder.iterdir() if path.is_dir()} == {"k", *names[2:]}
    with store.lock("more"):
        assert {path.name for path in store.folder.iterdir() if path.is_dir()} == {"k", names[2]}


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


@pytest.mark.slow
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


def test_an_unwritable_store_is_said_and_memory_used(tmp_path, toy, capsys, log_to_stderr):
    from nni_autoformer.checkpoints import own_header
    from nni_autoformer.search.images import EvaluationImages

    (tmp_path / "file").write_text("")
    checkpoint = toy / "run" / "supernet.safetensors"
    images = EvaluationImages(str(checkpoint), "folder", str(toy / "images"), store=str(tmp_path / "file"))
    assert len(images.decoded(own_header(checkpoint))) == 12
    assert "Decoded images are kept in memory" in capsys.readouterr().err

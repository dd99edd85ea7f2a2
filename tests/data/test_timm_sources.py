"""Sources through timm's dataset factory; what needs a package that is not installed says so."""

import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from nni_autoformer import ConfigError
from nni_autoformer.data import TrainImages, open_data, train_transform
from nni_autoformer.space import ModelConfig

needs_webdataset = pytest.mark.skipif(
    importlib.util.find_spec("webdataset") is None, reason="webdataset is not installed"
)


def digit(number):
    return Image.fromarray((load_digits().images[number] * 15).astype("uint8")).convert("RGB")


def write_shards(root, split, shards, per_shard, label=None):
    """Shards as the package webdataset writes them: SPLIT-0000.tar with KEY.jpg and KEY.cls or KEY.json."""
    root.mkdir(exist_ok=True)
    number = 0
    for shard in range(shards):
        with tarfile.open(root / f"{split}-{shard:04d}.tar", "w") as tar:
            for _ in range(per_shard):
                picture, target = io.BytesIO(), int(load_digits().target[number])
                digit(number).save(picture, "JPEG")
                fields = {"jpg": picture.getvalue()}
                if label is None:
                    fields["cls"] = str(target).encode()
                else:
                    fields["json"] = json.dumps({label: target}).encode()
                for name, content in fields.items():
                    member = tarfile.TarInfo(f"{number:06d}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                number += 1


@needs_webdataset
@pytest.mark.parametrize("label", [None, "digit"])
def test_shards_are_read_as_timm_reads_them(tmp_path, label):
    from timm.data import create_dataset

    write_shards(tmp_path, "train", 3, 5, label)
    write_shards(tmp_path, "validation", 1, 10, label)
    if label is not None:
        splits = {}
        for split, shards, per_shard in (("train", 3, 5), ("validation", 1, 10)):
            splits[split] = {
                "name": split,
                "num_samples": shards * per_shard,
                "filenames": [f"{split}-{i:04d}.tar" for i in range(shards)],
                "shard_lengths": [per_shard] * shards,
                "alt_label": label,
            }
        (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    data = open_data("wds/digits", tmp_path)
    assert (len(data.train), len(data.test)) == (15, 10)
    assert data.train.identifiers[6] == "train-0001.tar/000006"
    assert data.train.classes == [str(i) for i in range(10)]
    split = "train-{0000..0002}.tar|15" if label is None else "train"
    streamed = list(create_dataset("wds/digits", root=str(tmp_path), split=split))
    assert len(streamed) == 15
    for number, (image, target) in enumerate(streamed):
        assert target == data.train.targets[number]
        assert np.array_equal(np.asarray(image), np.asarray(data.train.load(number)))
    assert [Path(file).name for file in data.train.subset([9, 2, 7]).used_files()] == [
        "train-0001.tar",
        "train-0000.tar",
    ]


@needs_webdataset
def test_workers_read_shards_in_any_order(tmp_path):
    from nni_autoformer.data import train_loader

    write_shards(tmp_path, "train", 2, 6)
    write_shards(tmp_path, "test", 1, 3)
    source = open_data("wds/", tmp_path).train
    transform = train_transform(ModelConfig(img_size=(8, 8), patch_size=4))
    batches = [list(train_loader(source, transform, 4, workers=workers)) for workers in (0, 2)]
    for (images, targets), (others, labels) in zip(*batches, strict=True):
        assert images.equal(others) and targets.equal(labels)
    assert len(TrainImages(source, transform)) == 12


@needs_webdataset
def test_bad_shards_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="the splits of its shards are none; needed are train and one of"):
        open_data("wds/x", tmp_path)
    write_shards(tmp_path, "train", 1, 3)
    with pytest.raises(ConfigError, match="are train; needed are"):
        open_data("wds/x", tmp_path)
    (tmp_path / "val-0000.tar").write_bytes(b"\x1f\x8b no tar")
    with pytest.raises(ConfigError, match=r"val-0000.tar: the shard cannot be read as an uncompressed tar"):
        open_data("wds/x", tmp_path)
    with tarfile.open(tmp_path / "val-0000.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.cls"), io.BytesIO())
    with pytest.raises(ConfigError, match=r"val-0000.tar: .*the sample 'a' has no image"):
        open_data("wds/x", tmp_path)
    (tmp_path / "_info.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"_info.json: this names no splits"):
        open_data("wds/x", tmp_path)


def test_a_damaged_image_in_a_shard_is_named(tmp_path):
    pytest.importorskip("webdataset")
    write_shards(tmp_path, "train", 1, 3)
    write_shards(tmp_path, "val", 1, 3)
    shard = tmp_path / "train-0000.tar"
    content = bytearray(shard.read_bytes())
    content[512:600] = bytes(88)
    shard.write_bytes(content)
    with pytest.raises(ConfigError, match=r"train-0000.tar/000000: the file cannot be read as an image"):
        open_data("wds/x", tmp_path).train.load(0)


def test_without_webdataset_there_is_a_sentence(tmp_path, monkeypatch):
    from timm.data.readers import reader_wds

    write_shards(tmp_path, "train", 1, 3)
    write_shards(tmp_path, "val", 1, 3)
    monkeypatch.setattr(reader_wds, "wds", None)
    with pytest.raises(ConfigError, match=r"--dataset wds/x needs the package webdataset.*pip install"):
        open_data("wds/x", tmp_path)


def test_without_datasets_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"--dataset hfds/some/Set needs the package datasets.*pip install"):
        open_data("hfds/some/Set", None)


@pytest.mark.parametrize("name", ["hfids/some/set", "tfds/mnist"])
def test_streams_are_a_sentence(name):
    with pytest.raises(ConfigError, match=r"can only be streamed.* need images by number; known are hfds/"):
        open_data(name, "somewhere")


@pytest.fixture
def hub(tmp_path, make_image_folder):
    """A folder that Hugging Face's datasets reads, and a cache."""
    pytest.importorskip("datasets")
    return make_image_folder(tmp_path / "set", splits=("train", "test")), tmp_path / "cache"


def test_a_hugging_face_set_equals_its_folder(hub):
    folder, cache = hub
    data, plain = open_data(f"hfds/{folder}", cache), open_data("folder", folder)
    assert data.train.classes == plain.train.classes
    assert data.train.identifiers[:2] == ["train/00000", "train/00001"]
    for ours, theirs in ((data.train, plain.train), (data.test, plain.test)):
        assert sorted(ours.targets) == sorted(theirs.targets)
        pixels = [
            sorted((int(source.targets[i]), source.load(i).tobytes()) for i in range(len(source)))
            for source in (ours, theirs)
        ]
        assert pixels[0] == pixels[1]
    only = open_data(f"hfds/{folder}", cache, in_chans=1, test_only=True)
    assert only.train.identifiers == data.test.identifiers
    assert only.test.load(0).mode == "L"


def test_a_hugging_face_set_that_is_not_there(hub):
    _, cache = hub
    with pytest.raises(ConfigError, match=r"'nobody/nothing' was looked for in .*cache.*--download fetches"):
        open_data("hfds/nobody/nothing", cache)


def test_a_hugging_face_set_without_a_test_split(hub):
    folder, cache = hub
    (folder / "test").rename(folder.parent / "away")
    with pytest.raises(ConfigError, match="the splits are train; needed are train and one of validation"):
        open_data(f"hfds/{folder}", cache)


@pytest.mark.parametrize("label", [b"1000000000000", b"9" * 5000, b"x", b"nan", b""])
def test_a_class_that_cannot_be_is_a_sentence(tmp_path, label):
    pytest.importorskip("webdataset")
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}-0000.tar", "w") as tar:
            for name, content in (("a.png", b"x"), ("a.cls", label)):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    with pytest.raises(ConfigError, match=r"-0000\.tar: the shard cannot be read"):
        open_data("wds/x", tmp_path)

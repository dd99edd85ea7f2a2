"""Files that people have: kinds of numbers, wrappers, prefixes, moving averages; what is no checkpoint."""

import argparse
import gzip
import lzma
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nni_autoformer import Checkpoint, ConfigError, save_supernet
from nni_autoformer.checkpoints import save_subnet
from nni_autoformer.checkpoints.layouts import published_key, timm_to_hub

ARGUMENTS = {"change_qkv": True, "gp": True, "relative_position": True, "no_abs_pos": False}


def published_tensors(supernet):
    return {published_key(key): tensor.clone() for key, tensor in supernet.state_dict().items()}


def published(path, supernet, change=None, **more):
    tensors = published_tensors(supernet)
    tensors = {key: change(tensor) for key, tensor in tensors.items()} if change else tensors
    torch.save({"model": tensors, "args": argparse.Namespace(**{**ARGUMENTS, **more})}, path)
    return path


def logits(network, seed=0):
    images = torch.randn(2, 3, *network.model.img_size, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return network.eval()(images)


@pytest.fixture
def expected(small_supernet):
    """Logits of the middle subnet."""
    return logits(small_supernet.extract(small_supernet.space.middle))


def middle(checkpoint):
    return logits(checkpoint.subnet(checkpoint.header.space.middle))


# Kinds of numbers


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["published", "own", "subnet", "hub"])
def test_other_floats_become_float32(tmp_path, small_space, small_supernet, expected, kind, form):
    subnet = small_supernet.extract(small_space.middle)
    path = tmp_path / "file.safetensors"
    if form == "published":
        published(path, small_supernet, lambda tensor: tensor.to(kind))
    elif form == "own":
        save_supernet(path, small_supernet.to(kind), {})
    elif form == "subnet":
        save_subnet(path, subnet.to(kind), {})
    else:
        torch.save({key: t.to(kind) for key, t in timm_to_hub(subnet.state_dict()).items()}, path)
    checkpoint = Checkpoint(path, small_space if form == "published" else None)
    found = checkpoint.subnet(checkpoint.architecture("middle" if checkpoint.header.of_supernet else None))
    assert {tensor.dtype for tensor in found.state_dict().values()} == {torch.float32}
    tolerance = {torch.float16: 0.02, torch.bfloat16: 0.2, torch.float64: 1e-6}[kind]
    torch.testing.assert_close(logits(found), expected, rtol=0, atol=tolerance)
    if checkpoint.header.of_supernet:
        assert checkpoint.supernet().state_dict()["head.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "word"),
    [(torch.int8, "int8"), (torch.bool, "bool"), (torch.complex64, "complex64"), (torch.int64, "int64")],
)
@pytest.mark.parametrize("own", [False, True])
def test_what_is_no_float_is_refused_by_name(tmp_path, small_space, small_supernet, kind, word, own):
    from safetensors import safe_open

    path = tmp_path / "file"
    if own:
        save_supernet(path, small_supernet, {})
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        save_file({**tensors, "head.weight": tensors["head.weight"].to(kind)}, path, metadata)
    else:
        published(path, small_supernet, lambda t: t.to(kind) if t.shape[0] == 5 and t.ndim == 2 else t)
    with pytest.raises(ConfigError, match=rf"'head.weight' holds {word} numbers; weights are float32"):
        Checkpoint(path, small_space).supernet()


# Wrappers, prefixes and moving averages


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "net.", "model."])
def test_wrappers_and_prefixes(tmp_path, small_space, small_supernet, expected, prefix):
    path = tmp_path / "x"
    tensors = {prefix + key: tensor for key, tensor in published_tensors(small_supernet).items()}
    for wrapper in ("", "model", "state_dict", "model_state_dict", "ema", "model_ema", "state_dict_ema"):
        torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, path)
        assert torch.equal(middle(Checkpoint(path, small_space)), expected), wrapper
    for content in ({**tensors, "epoch": 3}, {"checkpoint": {"model": tensors}, "epoch": 3}):
        torch.save(content, path)
        assert torch.equal(middle(Checkpoint(path, small_space)), expected)
    save_file(tensors, path)
    assert torch.equal(middle(Checkpoint(path, small_space)), expected)


def test_a_compiled_part_and_a_lightning_module(tmp_path, small_space, small_supernet, expected):
    tensors = published_tensors(small_supernet)
    inner = {key.replace("blocks.1.", "blocks.1._orig_mod."): tensor for key, tensor in tensors.items()}
    torch.save(inner, tmp_path / "compiled.pth")
    content = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {
            **{f"model.{key}": t for key, t in tensors.items()},
            "criterion.weight": torch.ones(5),
        },
        "hyper_parameters": {"gp": False, "lr": 1e-3, "folder": Path("/data")},
        "callbacks": {"best": np.float64(0.5)},
    }
    torch.save(content, tmp_path / "lightning.ckpt")
    assert torch.equal(middle(Checkpoint(tmp_path / "compiled.pth", small_space)), expected)
    checkpoint = Checkpoint(tmp_path / "lightning.ckpt", small_space)
    assert checkpoint.header.space.model.global_pool == "token"
    assert torch.equal(
        checkpoint.supernet().state_dict()["head.weight"], small_supernet.state_dict()["head.weight"]
    )


@pytest.mark.parametrize("form", ["keys", "nested", "prefixes"])
def test_plain_weights_or_their_moving_average_is_a_choice(tmp_path, small_supernet, logged, form):
    plain = published_tensors(small_supernet)
    average = {key: tensor / 2 for key, tensor in plain.items()}
    content = {
        "keys": {"model": plain, "model_ema": average},
        "nested": {"state_dict": plain, "ema": {"module": average, "decay": 0.9}},
        "prefixes": {
            "state_dict": {
                **{f"model.{key}": tensor for key, tensor in plain.items()},
                **{f"ema_model.{key}": tensor for key, tensor in average.items()},
            }
        },
    }[form]
    torch.save(content, tmp_path / "x.pth")
    for use_ema, tensors, words in ((False, plain, "plain weights"), (True, average, "moving average")):
        found = Checkpoint(tmp_path / "x.pth", small_supernet.space, use_ema=use_ema).supernet()
        assert torch.equal(found.state_dict()["head.bias"], tensors["head.bias"])
        assert any(line.startswith("info ") and words in line and "x.pth" in line for line in logged)
        logged.clear()


def test_a_moving_average_that_is_not_there(tmp_path, small_space, small_supernet):
    published(tmp_path / "p.pth", small_supernet)
    save_supernet(tmp_path / "own.safetensors", small_supernet, {})
    for name, words in (("p.pth", "holds no moving average"), ("own.safetensors", "-ema.safetensors")):
        with pytest.raises(ConfigError, match=rf"--use-ema.*{words}"):
            Checkpoint(tmp_path / name, small_space, use_ema=True)


def test_several_networks_are_refused(tmp_path, small_space, small_supernet):
    tensors = published_tensors(small_supernet)
    both = {
        **{f"student.{k}": t for k, t in tensors.items()},
        **{f"teacher.{k}": t for k, t in tensors.items()},
    }
    torch.save({"state_dict": both}, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match=r"several networks \('state_dict.student', 'state_dict.teacher'\)"):
        Checkpoint(tmp_path / "x.pth", small_space)


def test_tensors_without_any_shape(tmp_path, small_space, small_supernet):
    tensors = published_tensors(small_supernet)
    for content in (dict.fromkeys(tensors, torch.tensor(0.0)), {**tensors, "head.weight": torch.ones(0, 4)}):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(ConfigError, match=r"x\.pth: the tensor '.*' has shape"):
            Checkpoint(tmp_path / "x.pth", small_space).supernet()


# What is no checkpoint


def archive(path, *names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "pointer of Git LFS"),
        (b"<!DOCTYPE html>\n<html><head><title>404</title>", "this is a web page and no checkpoint"),
        (b"\xef\xbb\xbf  \n<HTML>", "this is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "this is a web page"),
        (b'{"error": "Invalid credentials"}', "this is a JSON file"),
        (b"name: small\nchoices: {}\n", "this is a text file"),
        ("Zugriff verweigert: déjà".encode(), "this is a text file"),
        (b"", "damaged or truncated"),
        (gzip.compress(b"weights", mtime=0), "this is a gzip archive and no checkpoint"),
        (lzma.compress(b"weights"), "this is an xz archive"),
        (b"\x93NUMPY\x01\x00", "an array of NumPy"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
        (b"storages".ljust(257, b"\0") + b"ustar\x0000", "a tar archive, as torch wrote checkpoints before"),
        (b"PK\x03\x04 and then nothing", "damaged or truncated"),
        (b"\x80\x02 and then nothing", "damaged or truncated"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}", "damaged or truncated"),
    ],
)
def test_what_was_saved_under_a_checkpoints_name_is_named(tmp_path, small_space, content, words):
    (tmp_path / "supernet.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"supernet\.pth: .*{words}"):
        Checkpoint(tmp_path / "supernet.pth", small_space)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a/data.pkl", "a/constants.pkl", "a/code/x.py"), "a TorchScript program"),
        (("a/archive_format", "a/models/model.json"), "a program of torch.export"),
        (("arr_0.npy",), "a zip archive that torch.save has not written"),
    ],
)
def test_other_archives_are_named(tmp_path, small_space, names, words):
    archive(tmp_path / "x.pth", *names)
    with pytest.raises(ConfigError, match=words):
        Checkpoint(tmp_path / "x.pth", small_space)


def test_a_pickled_module_is_refused_and_says_what_to_save(tmp_path, small_space):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(
        ConfigError, match=r"refused: .*\(torch\.nn\.modules\.linear\.Linear\).*state_dict\(\)"
    ):
        Checkpoint(tmp_path / "x.pth", small_space)


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_refused_and_named_in_every_form(tmp_path, small_space, protocol):
    import os
    import pickle

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"model": {}, "x": Code()}, tmp_path / "new.pth")
    torch.save({"model": {}, "x": Code()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"x": Code()}, protocol))
    for name, words in (("new.pth", "mkdir"), ("old.pth", "mkdir"), ("plain.pth", "could run code")):
        with pytest.raises(ConfigError, match=rf"refused: .*{words}"):
            Checkpoint(tmp_path / name, small_space)
    assert not (tmp_path / "executed").exists()


def test_an_archive_that_was_packed_again_is_read(tmp_path, small_space, small_supernet, expected):
    """Its entries are compressed, so they cannot be memory-mapped."""
    path, packed = published(tmp_path / "p.pth", small_supernet), tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as again:
        for name in whole.namelist():
            again.writestr(name, whole.read(name))
    assert torch.equal(middle(Checkpoint(packed, small_space)), expected)


def test_the_state_of_a_training_is_named(tmp_path, small_space, small_supernet):
    state = {f"model.{key}": tensor for key, tensor in small_supernet.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6"}, tmp_path / "training.ckpt")
    with pytest.raises(ConfigError, match=r"state of a training; the weights are the .safetensors beside it"):
        Checkpoint(tmp_path / "training.ckpt", small_space)


def test_a_path_that_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / ("x" * 300)):
        with pytest.raises(
            ConfigError, match=r"there is no such checkpoint|cannot be read: File name too long"
        ):
            Checkpoint(path)


def test_whatever_is_wrong_with_the_tensors_is_a_sentence(tmp_path, small_space, small_supernet):
    """Tensors left out, cut, flattened, renamed; in every layout."""
    subnet = small_supernet.extract(small_space.middle).state_dict()
    for start in (published_tensors(small_supernet), subnet, timm_to_hub(subnet)):
        for seed in range(60):
            draw, tensors = random.Random(seed), dict(start)
            for key in draw.sample(sorted(tensors), 2):
                tensor = tensors.pop(key)
                change = draw.choice(("out", "cut", "flat", "scalar", "name", "long"))
                if change != "out":
                    tensors[f"{key}x" if change == "name" else key] = {
                        "cut": tensor[:1],
                        "flat": tensor.flatten()[: draw.randint(1, 7)],
                        "scalar": tensor.flatten()[0],
                        "name": tensor,
                        "long": torch.cat((tensor, tensor)),
                    }[change]
            torch.save({key: tensor.clone() for key, tensor in tensors.items()}, tmp_path / "x.pth")
            with pytest.raises(ConfigError, match=r"x\.pth: "):
                checkpoint = Checkpoint(tmp_path / "x.pth", small_space)
                checkpoint.subnet(checkpoint.architecture("smallest"))
                checkpoint.supernet()

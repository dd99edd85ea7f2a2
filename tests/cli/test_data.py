"""``nni-autoformer data subset`` and ``check``."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from nni_autoformer.cli import main
from nni_autoformer.data import draw_selection, open_data, read_selection


def run(*words):
    return main(["data", *[str(word) for word in words]])


def test_the_subset_is_the_list_that_train_draws(image_folder, capsys):
    assert run("subset", "--root", image_folder, "--per-class", 4, "--seed", 3) == 0
    source = open_data("folder", image_folder).train
    listed = read_selection(image_folder / "selection.txt", source)
    assert listed == draw_selection(source, 4, seed=3)
    assert "lists 12 images, 4 of each of 3 classes." in capsys.readouterr().out
    assert run("subset", "--root", image_folder, "--per-class", 4, "--seed", 3) == 0
    assert run("subset", "--root", image_folder, "--per-class", 4) == 2
    assert "selection.txt lists other images already; give another --output" in capsys.readouterr().err


@pytest.mark.parametrize("copy", [False, True])
def test_the_published_subset_is_a_folder(image_folder, tmp_path, capsys, copy):
    more = ["--copy"] if copy else []
    for _ in range(2):
        assert run("subset", "--root", image_folder, "--per-class", 2, "--published", *more) == 0
    folder = image_folder / "subImageNet"
    source = open_data("folder", image_folder).train
    chosen = [source.identifiers[i] for i in read_selection(image_folder / "subImageNet.txt", source)]
    assert sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*.png")) == [
        name.removeprefix("train/") for name in sorted(chosen)
    ]
    image_folder = image_folder.rename(tmp_path / "moved")  # relative links go with it
    for name in chosen:
        found = image_folder / "subImageNet" / name.removeprefix("train/")
        assert found.is_symlink() is not copy
        assert found.read_bytes() == (image_folder / name).read_bytes()
    outside = tmp_path / "outside"
    assert run("subset", "--root", image_folder, "--per-class", 2, "--published", "--output", outside) == 0
    assert len([path for path in outside.glob("*/*.png") if path.resolve().is_file()]) == 6


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--per-class 0", "--per-class is 0"),
        ("--per-class 12", "leaves nothing to train on: class 'one' has 12"),
        ("--copy", "--copy needs --published"),
        ("--dataset cifar10 --published", "--dataset cifar10 has a list only"),
        ("--dataset mnist", "there is no such data set; known are folder, cifar10"),
    ],
)
def test_bad_subset_flags(image_folder, capsys, words, sentence):
    assert run("subset", "--root", image_folder, *words.split()) == 2
    assert sentence in capsys.readouterr().err
    assert not (image_folder / "selection.txt").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("imagenet --root {long}", "cannot be read (File name too long)"),
        ("subset --root {long}", "cannot be read (File name too long)"),
        ("check --data {long}", "cannot be read (File name too long)"),
        ("subset --root {root} --per-class 2 --output {long}", "File name too long"),
        ("subset --root {root} --per-class 2 --output {root}", "the list cannot be there"),
        ("subset --root {root} --per-class 2 --output {root}/pipe", "is no regular file"),
        ("subset --root {root} --per-class 2 --output {root}/train/one/00.png/list", "Not a directory"),
    ],
)
def test_places_that_cannot_be_are_sentences(image_folder, capsys, words, sentence):
    os.mkfifo(image_folder / "pipe")
    places = {"root": image_folder, "long": image_folder / ("n" * 300)}
    assert run(*words.format(**places).split()) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("error:") == 1


def test_what_a_killed_process_has_left_of_a_subset_is_removed(image_folder):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    torn = [image_folder / f".subImageNet.{number}.tmp" for number in (process.pid, os.getppid(), 10**30)]
    for folder in torn:
        (folder / "one").mkdir(parents=True)
    assert run("subset", "--root", image_folder, "--per-class", 2, "--published") == 0
    assert [folder.exists() for folder in torn] == [False, True, False]


def test_a_folder_in_the_way_is_not_touched(image_folder, capsys):
    (image_folder / "subImageNet").mkdir()
    assert run("subset", "--root", image_folder, "--per-class", 2, "--published") == 2
    assert "subImageNet exists already" in capsys.readouterr().err


def test_the_subset_of_a_set_without_files(tmp_path):
    listing = tmp_path / "digits.txt"
    assert run("subset", "--dataset", "digits", "--per-class", 2, "--output", listing) == 0
    assert len(read_selection(listing, open_data("digits", None).train)) == 20
    assert run("subset", "--dataset", "digits", "--per-class", 2) == 2


def test_check_names_every_bad_image(image_folder, capsys):
    assert run("check", "--data", image_folder) == 0
    assert "All 51 images can be read." in capsys.readouterr().out
    for name in ("train/two/03.png", "val/six/01.png"):
        (image_folder / name).write_bytes(b"no image")
    assert run("check", "--data", image_folder) == 2
    said = capsys.readouterr().err
    assert "train/two/03.png: the file cannot be read" in said
    assert "val/six/01.png: the file cannot be read" in said
    assert "error: 2 of 51 images cannot be read" in said


def test_check_says_what_it_found(image_folder, capsys):
    six = image_folder / "train" / "six"
    exif = Image.Exif()
    exif[0x0112] = 8
    with Image.open(six / "00.png") as image:
        image.save(six / "turned.jpg", exif=exif)
        image.convert("L").save(six / "grey.jpg", "PNG")
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(10, 40)).save(six / "deep.png")
    for name in ("a.heic", "b.heic", ".DS_Store"):
        (six / name).write_text("")
    (image_folder / "test").mkdir()
    assert run("check", "--data", image_folder) == 0
    said = capsys.readouterr().out
    for words in (
        "train/                    39 training images, 3 classes",
        "left out                  2 .heic, 1 hidden or system",
        "modes                     RGB 37, I;16 1, L 1",
        "formats                   PNG 38, JPEG 1",
        "sizes                     8 x 8 to 40 x 10 pixels",
        "orientation tags          1, shown upright",
        "suffix of another format  1, the content counts",
        "val/                      15 test images, 3 classes",
        "Not used: test/.",
        "All 54 images can be read.",
    ):
        assert words in said, words


def test_the_paper_s_way_of_selecting(toy, toy_command, tmp_path, capsys):
    """Trained on all images, searched by some of them; and the list of a held-out set, in `train`."""
    published = tmp_path / "sub"
    assert (
        run("subset", "--root", toy / "images", "--per-class", 3, "--published", "--output", published) == 0
    )
    command = toy_command(toy, tmp_path / "run", "--epochs", "2")
    assert main([*command, "--selection", "none"]) == 0
    search = f"search --checkpoint {tmp_path}/run/supernet.safetensors --data {toy}/images --device cpu "
    search += f"--output {tmp_path}/search --population-size 2 --num-parents 1 --num-mutations 1 "
    search += f"--num-crossovers 0 --generations 1 --selection {published}.txt"
    assert main(search.split()) == 0
    assert "may have been trained on the selection images" in capsys.readouterr().err
    listing = tmp_path / "list.txt"
    assert run("subset", "--root", toy / "images", "--per-class", 3, "--output", listing) == 0
    command = toy_command(toy, tmp_path / "held", "--epochs", "2")
    assert main([*command, "--selection", str(listing)]) == 0
    assert (tmp_path / "held" / "selection.txt").read_text() == listing.read_text()

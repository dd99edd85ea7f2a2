"""``nni-autoformer data``: on small folders in ImageNet's layout, with a devkit made for them."""

import hashlib
import itertools
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from nni_autoformer.cli import main
from nni_autoformer.data import draw_selection, open_data, read_selection

WNIDS = ("n01440764", "n01443537", "n02085620")
CLASS_OF = [2, 0, 1, 1, 2, 0, 0, 2, 1]
"""Of each validation image, among the sorted WordNet ids."""

ID_OF = (17, 3, 8)
"""The devkit numbers the classes in an order of its own."""


def photograph(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    china = load_sample_images().images[0]
    Image.fromarray(china[number * 7 : number * 7 + 16, :16]).save(path, "JPEG")


def val_name(number):
    return f"ILSVRC2012_val_{number:08d}.JPEG"


@pytest.fixture
def imagenet(tmp_path):
    """A folder with train/WNID/… of 3 classes and a flat val/ of 9 images."""
    root = tmp_path / "imagenet"
    for wnid in WNIDS:
        for number in range(4):
            photograph(root / "train" / wnid / f"{wnid}_{number}.JPEG", number)
    for number in range(1, 10):
        photograph(root / "val" / val_name(number), number)
    return root


def write_devkit(folder):
    from scipy.io import savemat

    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    names = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")
    synsets = np.zeros(4, dtype=[(name, object) for name in names])
    for place, (number, wnid) in enumerate(zip(ID_OF, WNIDS)):
        synsets[place] = (number, wnid, f"{wnid}, word", "", 0)
    synsets[3] = (1001, "n00001740", "entity", "", 3)
    savemat(data / "meta.mat", {"synsets": synsets})
    truth = "".join(f"{ID_OF[number]}\n" for number in CLASS_OF)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    return data.parent


def archive(folder, monkeypatch):
    from torchvision.datasets.imagenet import ARCHIVE_META

    devkit = write_devkit(folder / "made")
    path = folder / "ILSVRC2012_devkit_t12.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(devkit, devkit.name)
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(ARCHIVE_META, "devkit", (path.name, digest))
    return path


def meta_bin(folder, monkeypatch):
    from torchvision.datasets.imagenet import parse_devkit_archive

    made = archive(folder, monkeypatch)
    parse_devkit_archive(str(folder), made.name)
    made.unlink()
    return folder / "meta.bin"


def solution(folder, monkeypatch):
    rows = [f"{val_name(i + 1)[:-5]},{WNIDS[c]} 1 2 3 4 \n" for i, c in enumerate(CLASS_OF)]
    (folder / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(reversed(rows)))
    return folder / "LOC_val_solution.csv"


def caffe(folder, monkeypatch):
    (folder / "val.txt").write_text("".join(f"{val_name(i + 1)} {c}\n" for i, c in enumerate(CLASS_OF)))
    return folder / "val.txt"


def wnid_lines(folder, monkeypatch):
    lines = "".join(f"{val_name(i + 1)} {WNIDS[c]}\n" for i, c in enumerate(CLASS_OF))
    (folder / "val.txt").write_text(lines)
    return folder / "val.txt"


def run(*words):
    return main(["data", *[str(word) for word in words]])


def places(root):
    return {p.name: p.parent.name for p in root.glob("val/**/*.JPEG")}


SORTED = {val_name(i + 1): WNIDS[c] for i, c in enumerate(CLASS_OF)}


@pytest.mark.parametrize(
    "truth",
    [lambda folder, _: write_devkit(folder), archive, meta_bin, solution, caffe, wnid_lines],
    ids=["devkit", "archive", "meta.bin", "kaggle", "caffe", "lines"],
)
def test_a_flat_val_is_sorted_from_every_kind_of_truth(imagenet, monkeypatch, capsys, truth):
    found = truth(imagenet, monkeypatch)
    before = sorted(path.name for path in imagenet.iterdir())
    assert run("imagenet", "--root", imagenet, "--dry-run") == 0
    said = capsys.readouterr().out
    assert f"9 images of val/ would be moved into class folders by {found}" in said
    assert set(places(imagenet).values()) == {"val"}
    assert run("imagenet", "--root", imagenet) == 0
    assert places(imagenet) == SORTED
    after = capsys.readouterr().out
    assert after == said.replace("would be", "were")
    assert "val/    9 images, 3 classes, 3 to 3 per class" in after
    assert run("imagenet", "--root", imagenet) == 0
    assert places(imagenet) == SORTED
    assert "moved" not in capsys.readouterr().out
    assert sorted(path.name for path in imagenet.iterdir()) == before
    assert len(open_data("folder", imagenet).test) == 9


def test_the_report_names_what_is_off(imagenet, monkeypatch, capsys):
    wnid_lines(imagenet, monkeypatch)
    photograph(imagenet / "train" / "extra" / "x.JPEG", 1)
    (imagenet / "train" / "n09999999").mkdir()
    photograph(imagenet / "train" / "stray.JPEG", 1)
    photograph(imagenet / "val" / "holiday.JPEG", 1)
    photograph(imagenet / "val" / WNIDS[2] / val_name(1), 1)
    photograph(imagenet / "val" / WNIDS[1] / val_name(2), 1)
    assert run("imagenet", "--root", imagenet, "--counts") == 0
    said = capsys.readouterr().out
    for words in (
        "train/  13 images, 5 classes, 0 to 4 per class",
        "train/ has folders that are no WordNet id: extra.",
        "train/ has classes without an image: n09999999.",
        "train/ has 5 classes; ImageNet-1k has 1,000.",
        "val/ has 10 images; ImageNet-1k has 50,000 (49,990 missing).",
        "classes that only train/ has: extra, n09999999.",
        "than 50: n01440764 (3), n01443537 (4), n02085620 (3).",
        "train/ has 1 images outside of the class folders, as stray.JPEG.",
        "1 images of val/ are not in",
        "as holiday.JPEG.",
        f"1 images of val/ stay, because their class folder has a file of the same name, as {val_name(1)}.",
        f"1 images of val/ lie in another class's folder than {imagenet / 'val.txt'} says, as "
        f"{WNIDS[1]}/{val_name(2)}.",
        "n01440764  train 4  val 3",
    ):
        assert words in said, words
    assert (imagenet / "val" / val_name(1)).exists()


def test_a_stopped_sorting_is_finished_by_the_next_run(imagenet, monkeypatch, capsys):
    wnid_lines(imagenet, monkeypatch)
    rename, done = os.rename, []

    def stop_at_the_fifth(start, goal):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(goal)
        rename(start, goal)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", stop_at_the_fifth)
        assert run("imagenet", "--root", imagenet) == 130
    assert sorted(places(imagenet).values()).count("val") == 5
    assert run("imagenet", "--root", imagenet) == 0
    assert "5 images of val/ were moved" in capsys.readouterr().out
    assert places(imagenet) == SORTED


def test_kaggles_layout_finds_the_solution_beside_it(imagenet, tmp_path, monkeypatch):
    root = tmp_path / "kaggle" / "ILSVRC" / "Data" / "CLS-LOC"
    root.parent.mkdir(parents=True)
    imagenet.rename(root)
    solution(tmp_path / "kaggle", monkeypatch)
    assert run("imagenet", "--root", root) == 0
    assert places(root) == SORTED


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda root: None, "9 images lie flat in val/, and nothing says their classes: none of ILSVRC2012"),
        (lambda root: (root / "val.txt").write_text("a 1 2\n"), "each line should hold an image's name"),
        (
            lambda root: (root / "val.txt").write_text("ILSVRC2012_val_00000001 50000\n"),
            "numbers the images, up to 50000, and does not say their classes; Kaggle's are in LOC_val",
        ),
        (
            lambda root: (root / "val.txt").write_text("ILSVRC2012_val_00000001 7\n"),
            "numbers the classes from 0 to 7, and train/, which would say their names, has 3",
        ),
        (lambda root: (root / "val.txt").write_text("a.JPEG tench\n"), "'tench' is no WordNet id"),
        (lambda root: (root / "devkit" / "data").mkdir(parents=True), "meta.mat"),
        (lambda root: os.mkfifo(root / "val.txt"), "val.txt: .*it is no regular file"),
        (lambda root: (root / "meta.bin").write_bytes(b"no"), "meta.bin: the classes .* cannot be read"),
        (
            lambda root: (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"half"),
            "not present in the root directory or is corrupted",
        ),
        (lambda root: (root / "LOC_val_solution.csv").write_text("a,b\n1,2\n"), "cannot be read from it"),
    ],
)
def test_a_truth_that_is_none_is_a_sentence(imagenet, capsys, prepare, words):
    import re

    prepare(imagenet)
    assert run("imagenet", "--root", imagenet) == 2
    said = capsys.readouterr().err
    assert said.startswith("nni-autoformer: error: ") and said.count("\n") == 1
    assert re.search(words, said)
    assert len(list(imagenet.glob("val/*.JPEG"))) == 9


EVIL = (
    "../../../outside",
    "/tmp/outside",
    "n0144",
    "n01440764/..",
    "N01440764",
    "n٠١٤٤٠٧٦٤",
    "n01440764\n",
)


def evil_devkit(folder, name, monkeypatch):
    monkeypatch.setitem(globals(), "WNIDS", (name, *WNIDS[1:]))
    return write_devkit(folder)


def evil_archive(folder, name, monkeypatch):
    monkeypatch.setitem(globals(), "WNIDS", (name, *WNIDS[1:]))
    return archive(folder, monkeypatch)


def evil_meta(folder, name, monkeypatch):
    monkeypatch.setitem(globals(), "WNIDS", (name, *WNIDS[1:]))
    return meta_bin(folder, monkeypatch)


def evil_solution(folder, name, monkeypatch):
    (folder / "LOC_val_solution.csv").write_text(
        f"ImageId,PredictionString\n{val_name(1)[:-5]},{name} 1 2 3 4\n"
    )


def evil_lines(folder, name, monkeypatch):
    (folder / "val.txt").write_text(f"{val_name(1)} {name}\n")


@pytest.mark.parametrize(
    ("write", "name"),
    [
        *itertools.product((evil_devkit, evil_archive, evil_meta), EVIL),
        *itertools.product((evil_solution, evil_lines), EVIL[:-1]),  # a line's end is no part of a word there
    ],
)
def test_a_class_that_is_no_wordnet_id_moves_nothing(imagenet, monkeypatch, capsys, write, name):
    before = sorted(imagenet.rglob("*.JPEG"))
    write(imagenet, name, monkeypatch)
    assert run("imagenet", "--root", imagenet) == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1 and "cannot be read from it" in said
    assert sorted(imagenet.rglob("*.JPEG")) == before


def test_no_image_leaves_through_a_link(imagenet, tmp_path, monkeypatch, capsys):
    wnid_lines(imagenet, monkeypatch)
    (tmp_path / "outside").mkdir()
    (imagenet / "val" / WNIDS[1]).symlink_to(tmp_path / "outside")
    assert run("imagenet", "--root", imagenet) == 2
    assert "is a link; the images of the class are not moved through it" in capsys.readouterr().err
    assert len(list(imagenet.glob("val/*.JPEG"))) == 9


def test_what_systems_leave_and_links_that_lead_back_do_not_count(imagenet, monkeypatch, capsys):
    wnid_lines(imagenet, monkeypatch)
    assert run("imagenet", "--root", imagenet) == 0
    said = capsys.readouterr().out
    (imagenet / "train" / ".ipynb_checkpoints").mkdir()
    (imagenet / "train" / WNIDS[0] / "again").symlink_to("..")
    (imagenet / "train" / WNIDS[0] / "._a.JPEG").write_text("")
    (imagenet / "val" / "._ILSVRC2012_val_00000001.JPEG").write_text("")
    (imagenet / "val" / "__MACOSX").mkdir()
    os.mkfifo(imagenet / "val" / WNIDS[0] / "pipe.JPEG")
    assert run("imagenet", "--root", imagenet) == 0
    assert capsys.readouterr().out == said.split("\n", 1)[1]


def test_missing_folders_are_named(imagenet, tmp_path, capsys):
    assert run("imagenet", "--root", tmp_path / "nowhere") == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert run("imagenet", "--root", tmp_path) == 2
    assert "holds neither train/ nor val/; ILSVRC2012_img_train.tar" in capsys.readouterr().err
    for path in imagenet.glob("val/*"):
        path.unlink()
    (imagenet / "val").rmdir()
    assert run("imagenet", "--root", imagenet) == 0
    assert "val/ is missing." in capsys.readouterr().out


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
    assert "may have been trained on the selection images" in capsys.readouterr().out
    listing = tmp_path / "list.txt"
    assert run("subset", "--root", toy / "images", "--per-class", 3, "--output", listing) == 0
    command = toy_command(toy, tmp_path / "held", "--epochs", "2")
    assert main([*command, "--selection", str(listing)]) == 0
    assert (tmp_path / "held" / "selection.txt").read_text() == listing.read_text()

"""``nni-autoformer data imagenet``: on small folders in ImageNet's layout, with a devkit made for them."""

import hashlib
import itertools
import os
import tarfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from nni_autoformer.cli import main
from nni_autoformer.data import open_data

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
    for dry_run in ((), ("--dry-run",)):
        assert run("imagenet", "--root", imagenet, *dry_run) == 2
        printed = capsys.readouterr()
        assert "val/ is missing." in printed.out and "train/" in printed.out
        assert "val/ is missing; ILSVRC2012_img_val.tar is unpacked there." in printed.err

"""The folder of a run: one owner, nothing of the user's deleted, an old run kept until the new one has a
result.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from nni_autoformer import ConfigError, DataSet
from nni_autoformer.jobs.reads import FileRead, ImagesRead, files_read
from nni_autoformer.jobs.run_folder import LOCK_FILE, RunFolder, run_once
from nni_autoformer.training.ranks import Ranks


def folder(path, job="train", reads=None, inputs=(), **config):
    return RunFolder(path, job, config, reads, inputs)


def run(run_folder, work=lambda: None, **flags):
    return run_once(run_folder, Ranks(), work, **{"resume": False, "overwrite": False, **flags})


def finished(path, **config):
    """A finished run with a result, and a file of the user's beside it."""
    run(folder(path, **config), lambda: (path / "supernet.safetensors").write_text("old"))
    (path / "training.ckpt").write_text("old state")
    (path / "notes.txt").write_text("mine")
    return path


def test_the_second_process_is_told_who_the_first_is(tmp_path):
    script = (
        "import sys, time; from nni_autoformer.jobs.run_folder import RunFolder\n"
        "taken = RunFolder(sys.argv[1], 'train', {})\ntaken.open(resume=False, overwrite=False)\n"
        "print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        for flags in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(
                ConfigError, match=f"another process works in this folder .process {other.pid} on"
            ):
                run(folder(tmp_path), **flags)
        other.send_signal(signal.SIGKILL)
    assert run(folder(tmp_path), resume=True)  # nothing is left in the way


def test_the_workers_of_a_killed_run_are_waited_for(tmp_path):
    script = (
        "import os, sys, time; from nni_autoformer.jobs.run_folder import RunFolder\n"
        "taken = RunFolder(sys.argv[1], 'train', {})\ntaken.open(resume=False, overwrite=False)\n"
        "child = os.fork()\n"
        "if not child: time.sleep(2); os._exit(0)\n"
        "print('open', flush=True); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        other.wait()
        start = time.monotonic()
        assert run(folder(tmp_path), resume=True)
        assert time.monotonic() - start > 0.5


def test_a_folder_is_free_again_after_its_run(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            run(folder(tmp_path), lambda: 1 / 0, resume=(tmp_path / "run.json").is_file())
    assert run(folder(tmp_path), resume=True)


@pytest.mark.parametrize("name", ["supernet.safetensors", "notes.txt", "epochs/0001.safetensors"])
def test_an_input_is_never_deleted(tmp_path, name):
    path = finished(tmp_path / "run")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("input")
    with pytest.raises(ConfigError, match="--overwrite would delete"):
        run(folder(path, "search", inputs=[path / name]), overwrite=True)
    link = tmp_path / "link.safetensors"
    link.symlink_to(path / name)
    with pytest.raises(ConfigError, match="--overwrite would delete"):
        run(folder(path, "search", inputs=[link]), overwrite=True)
    (tmp_path / "outside").write_text("input")
    (path / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "link of a link").symlink_to(path / "link")
    for entry in (path / "link", tmp_path / "link of a link"):
        with pytest.raises(ConfigError, match="--overwrite would delete"):
            run(folder(path, "search", inputs=[entry]), overwrite=True)
    assert (path / name).read_text() == "input" and json.loads((path / "run.json").read_text())[
        "job"
    ] == "train"


def test_overwriting_leaves_other_peoples_files(tmp_path):
    path = finished(tmp_path / "run")
    run(folder(path, seed=1), lambda: (path / "training.ckpt").write_text("new"), overwrite=True)
    assert (path / "notes.txt").read_text() == "mine" and (path / "training.ckpt").read_text() == "new"
    assert not (path / "supernet.safetensors").exists()
    assert {entry.name for entry in path.iterdir()} == {"notes.txt", "training.ckpt", "run.json", LOCK_FILE}


def test_the_old_run_comes_back_when_the_new_one_has_no_result(tmp_path):
    path = finished(tmp_path / "run")
    before = {entry.name: entry.read_text() for entry in path.iterdir() if entry.name != LOCK_FILE}

    def fail():
        (path / "recipe.yaml").write_text("half")
        raise ConfigError("the disk is full.")

    with pytest.raises(ConfigError, match="the disk is full"):
        run(folder(path, seed=1), fail, overwrite=True)
    assert {e.name: e.read_text() for e in path.iterdir() if e.name != LOCK_FILE} == before


@pytest.mark.parametrize("result", [False, True])
def test_a_kill_while_overwriting_loses_neither(tmp_path, result):
    path = finished(tmp_path / "run")

    def killed():
        if result:
            (path / "training.ckpt").write_text("new")
        os._exit(9)

    child = os.fork()
    if not child:
        run(folder(path, seed=1), killed, overwrite=True)
    os.waitpid(child, 0)
    assert (path / ".before" / "run.json").is_file()
    assert run(folder(path, **({"seed": 1} if result else {})), resume=True) == result
    assert (path / "training.ckpt").read_text() == ("new" if result else "old state")
    assert (path / "supernet.safetensors").exists() != result


def test_a_kill_between_two_moves_loses_nothing(tmp_path, monkeypatch):
    path, replace, moves = finished(tmp_path / "run"), os.replace, []

    def some(source, goal):
        if ".before" in str(goal):
            moves.append(source)
            if len(moves) == 2:
                raise MemoryError
        replace(source, goal)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(os, "replace", some)
        run(folder(path, seed=1), overwrite=True)
    assert not run(folder(path), resume=True)
    assert (path / "supernet.safetensors").read_text() == "old" and (path / "training.ckpt").exists()


def test_what_a_run_reads_must_be_the_same(tmp_path):
    path, file = tmp_path / "run", tmp_path / "supernet.safetensors"
    file.write_text("one")
    reads = files_read(checkpoint=file, selection="100-per-class")
    assert list(reads) == ["checkpoint"]
    with pytest.raises(ZeroDivisionError):
        run(folder(path, reads=reads), lambda: 1 / 0)
    file.write_text("two")
    with pytest.raises(
        ConfigError, match=r"since the run began the checkpoint changed: the content of .*supernet"
    ):
        run(folder(path, reads=reads), resume=True)
    file.write_text("one")
    assert run(folder(path, reads=reads | {"new": FileRead(file)}), resume=True)
    file.write_text("two")
    assert not run(folder(path, reads=reads), resume=True)  # finished: nothing is read any more


@pytest.mark.parametrize("change", ["label", "gone", "new", "pixels"])
def test_changed_images_are_named(image_folder, tmp_path, change):
    def reads():
        return {"training images": ImagesRead(DataSet(data=str(image_folder)).open().train)}

    with pytest.raises(ZeroDivisionError):
        run(folder(tmp_path / "run", reads=reads()), lambda: 1 / 0)
    one, two = image_folder / "train" / "one", image_folder / "train" / "two"
    words = {"label": "the classes of images", "pixels": "the content of images"}
    if change == "label":
        (one / "99.png").write_bytes((one / "11.png").read_bytes())
        (one / "99.png").replace(two / "00a.png")
        (two / "11.png").unlink()
        words["label"] = "which images there are"
    elif change == "gone":
        (one / "03.png").unlink()
    elif change == "new":
        (one / "90.png").write_bytes((one / "01.png").read_bytes())
    else:
        (one / "03.png").write_bytes((two / "03.png").read_bytes())
    with pytest.raises(ConfigError, match="the training images changed") as caught:
        run(folder(tmp_path / "run", reads=reads()), resume=True)
    assert words.get(change, "the number of images") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "the file should hold keys with values"),
        ('{"status": "running", "config": {}}', "job is None; it should be text"),
        ('{"job": "train", "status": 1, "config": {}}', "status is 1; it should be text"),
        (
            '{"job": "train", "status": "odd", "config": {}}',
            "status is odd; it should be running or finished",
        ),
        ('{"job": "train", "status": "running", "config": [1]}', "config is [1]; it should be keys"),
        ('{"job": "train", "status": "running", "config": {}, "sessions": 3}', "sessions is 3; it should"),
        ("{", "cannot be read as JSON"),
        ("[" * 5000, "cannot be read as JSON"),
    ],
)
def test_a_damaged_record_is_a_sentence(tmp_path, text, words):
    (tmp_path / "run.json").write_text(text)
    for flags in ({"resume": True}, {}):
        with pytest.raises(ConfigError) as caught:
            run(folder(tmp_path), **flags)
        assert words in str(caught.value) and "run.json" in str(caught.value)


def test_names_that_cannot_be_are_sentences(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        with pytest.raises(ConfigError, match="--output"):
            run(folder(path))


@pytest.mark.parametrize("change", ["nothing", "one", "a copy"])
def test_an_image_that_was_replaced_in_a_large_set_is_named(
    image_folder, tmp_path, monkeypatch, caplog, change
):
    """Size and time are as before; a copy in the set's place has other inodes throughout, and is the same."""
    monkeypatch.setattr("nni_autoformer.data.contents.SMALL", 0)
    for path in image_folder.rglob("*.png"):
        os.utime(path, (10**9, 10**9))

    def reads():
        return {"training images": ImagesRead(DataSet(data=str(image_folder)).open().train)}

    moment = time.time_ns() + 10**12
    monkeypatch.setattr(time, "time_ns", lambda: moment)
    with pytest.raises(ZeroDivisionError):
        run(folder(tmp_path / "run", reads=reads()), lambda: 1 / 0)
    target = image_folder / "train" / "two" / "03.png"
    if change == "one":
        content = bytearray(target.read_bytes())
        content[-1] ^= 1
        target.write_bytes(content)
        os.utime(target, (10**9, 10**9))
    elif change == "a copy":
        image_folder.rename(tmp_path / "old")
        shutil.copytree(tmp_path / "old", image_folder)
    with caplog.at_level("WARNING", "nni_autoformer"):
        assert run(folder(tmp_path / "run", reads=reads()), resume=True)
    warned = [record.getMessage() for record in caplog.records if "replaced" in record.getMessage()]
    assert len(warned) == (change == "one")
    assert all(f": {target}. The run" in text for text in warned)


def test_a_run_from_before_a_setting_goes_on_with_its_default(tmp_path):
    run(folder(tmp_path, job="search", evolution={"seed": 3}))
    for rank_by in ("top1", "loss"):
        now = {"evolution": {"seed": 3, "rank_by": rank_by}}
        later = RunFolder(tmp_path, "search", now, defaults={"evolution": {"seed": 0, "rank_by": "top1"}})
        if rank_by == "top1":
            assert not run(later, resume=True)  # finished
        else:
            with pytest.raises(ConfigError, match=r"evolution\.rank_by was top1 when the run began and is"):
                run(later, resume=True)


def test_a_run_with_a_setting_that_is_no_more_cannot_go_on(tmp_path):
    run(folder(tmp_path / "plain", job="search", racing=None))
    assert not run(folder(tmp_path / "plain", job="search"), resume=True)  # finished
    run(folder(tmp_path / "raced", job="search", racing=0.95))
    with pytest.raises(ConfigError, match="it was started with --racing, which this version does not have"):
        run(folder(tmp_path / "raced", job="search"), resume=True)

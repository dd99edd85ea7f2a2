"""A mistake of the user's under torchrun: told once, reported once, not tried again."""

import os
import re
import subprocess
import sys
import threading
import time

import pytest

from nni_autoformer.cli import launched, main


@pytest.fixture
def as_rank(tmp_path, monkeypatch):
    """Be one of two processes that torchrun has started, in its first attempt or a further one."""
    monkeypatch.setattr(launched, "PATIENCE", 0.1)

    def become(rank, attempt=0):
        folder = tmp_path / "torchelastic" / f"attempt_{attempt}" / str(rank)
        facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        facts |= {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_RESTART_COUNT": attempt}
        for name, value in (facts | {"TORCHELASTIC_ERROR_FILE": folder / "error.json"}).items():
            monkeypatch.setenv(name, str(value))

    (tmp_path / "torchelastic").mkdir()
    return become


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("info nowhere.pth", "'info' is the work of one process; start it without torchrun"),
        ("demo", "'demo' is the work of one process"),
        ("search --checkpoint a --data b --output c --engine nni", "--engine nni starts a process for each"),
        ("search --checkpoint a --data b --output c --batch-size 0", "--batch-size is 0"),
        ("train --space", "expected one argument"),
    ],
)
def test_one_process_tells_it_and_fails(as_rank, capsys, words, sentence):
    def status():
        try:
            return main(words.split())
        except SystemExit as stop:
            return stop.code

    as_rank(0)
    assert status() == 2
    assert sentence in capsys.readouterr().err
    as_rank(1, attempt=0)
    # the first one has failed with the same, so this one does not add to torchrun's report; it is not given
    # up before its own attempt, as it started together with the first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launched, "given_up", lambda: None)
        assert status() == 0
    assert capsys.readouterr() == ("", "")
    for rank, expected in ((1, 0), (0, 2)):  # torchrun's report has one entry
        as_rank(rank, attempt=1)
        assert main(words.split()) == expected
    assert capsys.readouterr() == ("", "")


def test_a_mistake_that_one_process_alone_meets_is_told(as_rank, capsys):
    as_rank(1)
    assert launched.leave("its disk is full.", lambda: print("told")) == 2
    assert capsys.readouterr().out == "told\n"
    as_rank(0, attempt=1)
    assert launched.given_up() == 2


def test_the_process_that_others_wait_for_tells_it(as_rank, capsys):
    """Rank 1 has failed, and rank 0 knows it from that."""
    as_rank(0)
    assert launched.leave("an image is bad.", None) == 2
    as_rank(1)
    assert launched.leave("an image is bad.", lambda: print("told")) == 0
    assert capsys.readouterr().out == "told\n"


def test_the_process_that_tells_it_is_given_time(as_rank, tmp_path, capsys):
    """Longer than others are: if this one failed first, torchrun would end it before it has told."""
    as_rank(0)
    assert launched.leave("an image is bad.", lambda: print("told")) == 2
    (mark,) = (tmp_path / "torchelastic").glob("mistake-*")
    told = mark.rename(tmp_path / "later")
    as_rank(1)
    timer = threading.Timer(5 * launched.PATIENCE, told.rename, [mark])
    timer.start()
    assert launched.leave("an image is bad.", None) == 0
    timer.join()
    assert capsys.readouterr().out == "told\n"


def test_the_first_process_leaves_last(as_rank, tmp_path, monkeypatch):
    """In each attempt anew, where another one's process has left for long."""
    monkeypatch.setattr(launched, "PATIENCE", 0.3)
    gone = subprocess.Popen(["true"])
    gone.wait()
    as_rank(0)
    for content, waits in ((None, True), (os.getpid(), True), (gone.pid, False)):
        if content is not None:
            (tmp_path / "torchelastic" / "left-0-1").write_text(str(content))
        start = time.monotonic()
        assert launched.leave("no.", None) == 2
        assert (time.monotonic() - start > 0.3) == waits
    as_rank(0, attempt=1)
    start = time.monotonic()
    assert launched.given_up() == 2 and time.monotonic() - start > 0.3


def test_without_torchrun_nothing_changes(capsys):
    assert launched.leave("no.", lambda: print("told")) == 2
    assert capsys.readouterr().out == "told\n" and launched.given_up() is None


@pytest.mark.slow
def test_what_torchrun_prints(tmp_path):
    """Four processes and three restarts: one sentence, one entry of torchrun's own report."""
    flags = ["--standalone", "--nproc_per_node", "4", "--max-restarts", "3", "-m", "nni_autoformer"]
    command = [sys.executable, "-m", "torch.distributed.run", *flags, "info", "nowhere.safetensors"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.count("nni-autoformer: error: ") == 1
    assert len(re.findall(r"exitcode +: 2 ", ended.stderr)) == 1 and "<NO_OTHER_FAILURES>" in ended.stderr
    assert "closing signal" not in ended.stderr

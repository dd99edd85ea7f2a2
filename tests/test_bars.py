"""Progress bars: a line that is written over on a terminal, a line now and then elsewhere."""

import io
import logging
import os
import sys

import pytest

from nni_autoformer import bars
from nni_autoformer.bars import MINUTE, Bar


@pytest.fixture
def clock(monkeypatch):
    """The time, which passes as the test says."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(bars, "time", clock)
    return clock


def test_in_a_file_a_bar_is_a_line_a_minute_and_the_last_one(clock, capsys):
    with Bar(1200, "decode images") as bar:
        for _ in range(1200):
            clock.now += 0.25
            bar.update()
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == "" and "\r" not in captured.err
    assert lines[0] == "decode images, 0:04:00 left, 240/1,200 images"
    assert lines[-1] == "decode images, done in 0:05:00, 1,200/1,200 images" and len(lines) == 5


def test_a_milestone_is_shown_at_first_and_at_most_once_a_minute(clock, capsys):
    with Bar(40, "", "", interval=600) as bar:
        for epoch in range(40):
            clock.now += 10
            bar.name, bar.left, bar.done = f"epoch {epoch + 1}/40", 390.0 - 10 * epoch, epoch + 1
            bar.milestone()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        *(f"epoch {epoch}/40" for epoch in range(1, 41, 6)),
        "epoch 40/40",
    ]
    assert lines[1] == "epoch 7/40, 0:05:30 left"


def test_within_an_epoch_of_hours_it_says_that_it_lives(clock, capsys):
    with Bar(3600, "epoch 1/2", interval=600, leave=False) as bar:
        for _ in range(3600):
            clock.now += 1
            bar.update()
    assert len(capsys.readouterr().err.splitlines()) == 6


def test_on_a_terminal_it_fits_80_columns_and_begins_with_name_and_time(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    written = _Terminal()
    monkeypatch.setattr(sys, "stderr", written)
    with Bar(1_281_167, "epoch 299/300") as bar:
        bar.note = "3120 img/s 12.2 GiB loss 6.23 top-1 83.2 % {not a field}"
        for _ in range(4):
            clock.now += MINUTE
            bar.update(100_000)
    looks = [look for look in written.getvalue().split("\r") if look.strip()]
    assert looks and all(len(look.rstrip("\n")) < 80 for look in looks)
    assert all(look.startswith("epoch 299/300, 0:") and " left " in look[:30] for look in looks)


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_warnings_alone_leave_no_bar(capsys):
    logger = logging.getLogger("nni_autoformer")
    before = logger.level
    try:
        logger.setLevel(logging.WARNING)
        with Bar(10, "decode") as bar:
            bar.update(10)
    finally:
        logger.setLevel(before)
    with Bar(10, "decode", shown=False) as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""


def test_a_closed_standard_error_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with Bar(10, "decode") as bar:
        bar.update(10)


def test_a_real_terminal_of_80_columns(monkeypatch):
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Bar(10, "decode images") as bar:
            bar.update(10)
        terminal.flush()
        seen = os.read(ours, 10_000).decode()
    assert "decode images, done in 0:00:00 |" in seen and "10/10 images" in seen
    os.close(ours)

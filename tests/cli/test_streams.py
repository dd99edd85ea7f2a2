"""Standard output and standard error that are closed, cut off, full, or have no letters but ASCII."""

import io
import os
import subprocess
import sys

import pytest

from nni_autoformer.cli.streams import Stream

SPACE = f"{sys.executable} -m nni_autoformer space --space tiny"
HELP = f"{sys.executable} -m nni_autoformer train --help-all"


def shell(line, **environment):
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, env={**buffered, **environment}
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"{SPACE} | head -1", 0),
        (f"{SPACE} | true", 0),
        (f"{SPACE} >&-", 0),
        (f"{SPACE} 2>&-", 0),
        (f"{HELP} | head -1", 0),
        (f"{sys.executable} -m nni_autoformer space --space nowhere 2>&- >&-", 2),
    ],
)
def test_a_reader_that_has_gone_is_no_traceback(line, code):
    result = shell(line)
    assert (result.returncode, result.stderr) == (code, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no such device")
def test_a_full_disk_is_a_sentence():
    result = shell(f"{SPACE} > /dev/full")
    assert result.returncode == 2
    assert result.stderr.startswith(b"nni-autoformer: error: ") and result.stderr.count(b"\n") == 1
    assert b"No space left on device." in result.stderr


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_terminal_of_ascii_alone(environment):
    result = shell(HELP, COLUMNS="80", **environment)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"DIR/train/CLASS/" in result.stdout


def test_what_the_encoding_has_not_is_written_in_ascii():
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = Stream(plain)
    stream.write("224 × 224 – 5 … größer, \udcff\n")
    stream.flush()
    assert plain.buffer.getvalue() == rb"224 x 224 - 5 ... gr\xf6\xdfer, \udcff" + b"\n"
    assert stream.encoding == "ascii" and not stream.isatty()

"""Standard output and standard error as a command finds them: closed, cut off by `head`, with ASCII alone."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PLAIN = {"…": "...", "–": "-", "—": "-", "×": "x", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "█": "#"}
"""What takes a character's place where the stream has none of it; for others a backslash and its number."""


class Stream:
    """A text stream that never fails because of its reader: what it cannot write in its encoding is written
    in ASCII, and once the reader is gone, what follows is dropped.

    Args:
        stream: what is written to; None for a stream that was closed when the process began.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            return self.write(_encodable(text, self.encoding))
        except (AttributeError, ValueError):  # closed
            return len(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Send on what was written, or drop it."""
        try:
            self._stream.flush()
        except (AttributeError, ValueError):
            pass
        except OSError as error:
            self._drop(error)

    def isatty(self) -> bool:
        """Whether a person sees it at once."""
        try:
            return self._stream.isatty()
        except (AttributeError, ValueError):
            return False

    @property
    def encoding(self) -> str:
        """Name of the encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def _drop(self, error: OSError) -> None:
        """Let everything from here on go nowhere, Python's own last flush too.

        Raises:
            OSError: it is not the reader that has gone.
        """
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if error.errno not in (errno.EPIPE, errno.EBADF, errno.EIO):
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _encodable(text: str, encoding: str) -> str:
    text = "".join(PLAIN.get(letter, letter) if not letter.isascii() else letter for letter in text)
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Put a `Stream` around standard output and standard error.

    Raises:
        OSError: the disk is full that standard output goes to.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, error = Stream(before[0]), Stream(before[1])  # type: ignore[assignment]
    try:
        try:
            yield
        finally:
            error.flush()
            out.flush()
    finally:
        sys.stdout, sys.stderr = before

"""Files that a stranger may have put in place: no device, no pipe, and not too large."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

# State files and sweep files are small; anything larger is something else.
LARGEST_TEXT_BYTES = 1_000_000


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; raise `OSError` for a device, pipe, socket or folder.

    It returns at once: to open a pipe would otherwise wait for a writer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return file


def read_small_text(path: str | os.PathLike[str], errors: str = "strict") -> str:
    """Return the text of a small file.

    Raises `OSError` if it is larger than a megabyte, and `UnicodeDecodeError`.
    """
    with open_regular(path) as file:
        content = file.read(LARGEST_TEXT_BYTES + 1)
    if len(content) > LARGEST_TEXT_BYTES:
        raise OSError(errno.EFBIG, "larger than 1 MB", os.fspath(path))
    return content.decode("utf-8", errors)

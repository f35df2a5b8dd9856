"""Check of a file that a stranger may have put in place of another."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise `OSError` if a path is no file, or a device, pipe, socket or folder.

    To open a pipe would wait for a writer, and to read a device may never end.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))

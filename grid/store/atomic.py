"""Atomic writes: a file is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.results.regular_file import read_small_text
from grid.errors import StoreError

# Errors that say that there is no room, for anybody or for this user.
FULL = (errno.ENOSPC, errno.EDQUOT)
# A file that is being written grows at least this often, in seconds.
STALE_S = 60.0


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Raise `StoreError` if the disk refuses to do something with `path` while the block runs."""
    try:
        yield
    except OSError as error:
        remedy = "make room" if error.errno in FULL else "see that it can be written"
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); what finished is kept: "
            f"{remedy} and run the same command again"
        ) from None


def write_whole(path: Path, data: bytes | memoryview, *, flush: bool = True) -> None:
    """Write a file under another name, flush it to disk and rename it.

    Raises `StoreError` if the disk refuses.
    """
    # A name of its own: a worker out of sight may write the same file at the same time.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with storing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                file.write(data)
                if flush:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def remove(path: Path) -> None:
    """Remove a file, if it exists. Raises `StoreError` if the disk refuses."""
    with storing(path):
        path.unlink(missing_ok=True)


def remove_temporary(folder: Path, older_than_s: float = STALE_S) -> list[Path]:
    """Remove the files that killed processes were writing; return their paths.

    Younger files stay: a process may be writing them now.
    """
    removed = []
    for path in folder.rglob("*.tmp"):
        with contextlib.suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()
                removed.append(path)
    return removed


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a small state file; empty if it is absent or unreadable."""
    try:
        content = json.loads(read_small_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}

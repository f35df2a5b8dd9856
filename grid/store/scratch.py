"""Short-lived folders on this machine's own disk, removed even after a process was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "cnngrid-"
# Its owner holds a lock on this file of the folder.
LOCK = "lock"
_locks: dict[Path, int] = {}


def scratch_folder() -> Path:
    """A new folder, with a short path, that no other user may read, for `drop_scratch` to remove.

    Folders of our processes that were killed before they could are removed first. Containers, and
    machines that share such a folder, have the same process ids: only the kernel knows whether a
    lock is held.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), open(left / LOCK, "r+") as lock:
            if left.stat().st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    # Locked until this process ends, however it does.
    _locks[folder] = os.open(folder / "locking", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(_locks[folder], fcntl.LOCK_EX)
    (folder / "locking").rename(folder / LOCK)  # from here on it counts, and is locked
    return folder


def drop_scratch(folder: Path) -> None:
    """Remove such a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)

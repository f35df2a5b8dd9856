"""Short-lived folders on this machine's own disk, removed even if their process was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "cnngrid-"
# File of a scratch folder that its process keeps locked.
LOCK = "lock"
# Open lock files of this process, by folder.
_locks: dict[Path, int] = {}


def scratch_folder(parent: Path | None = None) -> Path:
    """Make a folder that no other user may read, by default in `TMPDIR`; `drop_scratch` removes it.

    First remove the folders that killed processes of ours left. Containers, and machines that share
    such a folder, have the same process ids: only the kernel knows whether a lock is held.
    """
    parent = parent or Path(tempfile.gettempdir())
    for leftover in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), open(leftover / LOCK, "r+", encoding="utf-8") as lock:
            if leftover.lstat().st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    # Locked until this process ends, however it ends.
    _locks[folder] = os.open(folder / "locking", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(_locks[folder], fcntl.LOCK_EX)
    (folder / "locking").rename(folder / LOCK)  # under this name others look at it: it is locked
    return folder


def drop_scratch(folder: Path) -> None:
    """Remove a scratch folder."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)

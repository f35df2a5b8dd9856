"""Locks of folders in the cache. The kernel holds them, so a killed process lets go of its own.

A folder's file `lock` is locked alone by the process that fills or removes the folder, and
together by all that use the copy in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOCK = "lock"
# A folder that is being removed has this in its name, so no process takes it for a copy.
REMOVED = ".removed"
POLL_S = 0.2


class NoLocksError(OSError):
    """Error of a file system that cannot lock files."""


@contextlib.contextmanager
def held(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Make a folder if it is missing, and hold it alone; `waiting` is called while another does.

    Raises `OSError` if the folder cannot be written, `NoLocksError` if its disk has no locks.
    """
    lock = _acquire(folder, waiting)
    try:
        yield
    finally:
        os.close(lock)


def use(folder: Path) -> int | None:
    """Keep a folder from being removed until the returned file is closed; None if it has no lock.

    Waits while another process removes it.
    """
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:  # a copy of an earlier version
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError:
        os.close(lock)
        return None
    return lock


def remove_unused(folder: Path) -> None:
    """Remove a folder unless a process fills or uses it, or has no lock to tell."""
    with contextlib.suppress(OSError):
        lock = os.open(folder / LOCK, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            removed = folder.with_name(f"{folder.name}.{os.getpid()}{REMOVED}")
            folder.rename(removed)
        finally:
            os.close(lock)
    for left in folder.parent.glob(f"{folder.name}.*{REMOVED}"):
        shutil.rmtree(left, ignore_errors=True)


def _acquire(folder: Path, waiting: Callable[[], None]) -> int:
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the folder was renamed or removed in between
            continue
        try:
            # A folder of another name or age may have the file that was opened.
            while _lies_at(lock, folder / LOCK):
                if _locked(lock) and _lies_at(lock, folder / LOCK):
                    return lock
                waiting()
                time.sleep(POLL_S)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise NoLocksError(*error.args) from None
        raise
    return True


def _lies_at(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except OSError:
        return False

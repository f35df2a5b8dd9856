"""Bytes that a results folder takes on the disk now."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

GIB = 2**30
MIB = 2**20
# Folders that other programs than the driver write, or that it removes itself.
NOT_COUNTED = ("report", "run")


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder that need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def taken(folder: Path) -> int:
    """Return the bytes of a results folder, without the folders `NOT_COUNTED`."""
    return sum(tree_bytes(folder / name) for name in _names(folder) if name not in NOT_COUNTED)


def taken_by_trial(checkpoints: Path) -> dict[str, int]:
    """Return the bytes of every trial's checkpoints, unfinished files included."""
    return {name: tree_bytes(checkpoints / name) for name in _names(checkpoints)}


def tree_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; files that went count nothing."""
    paths = [path]
    for folder, _, names in os.walk(path):
        paths += [Path(folder, name) for name in names]
    total = 0
    for one in paths:
        with contextlib.suppress(OSError):
            status = one.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []

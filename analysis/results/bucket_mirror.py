"""Copies of results in an object store: what is new is copied once, and questions ask the copy.

Copies are kept below `~/.cache/cnngrid/results` by name, size and modification time, so none ever
changes. Every question sees a folder of links to those that were listed when it was asked: others
may ask at the same time, and the sweep may go on.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from analysis.results.bucket import Bucket, BucketError, Entry
from analysis.results.location import last_part

# What a question may need at once; tables are copied when a question first asks for them.
AT_ONCE = ("sweep.yaml", "run/driver.json", "run/trials")
# Objects of these come and go while a sweep runs; others go only when they were merged.
MAY_GO = {*AT_ONCE, "paused"}


def cache_folder() -> Path:
    """Where copies are kept: `$XDG_CACHE_HOME/cnngrid/results`, else below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cnngrid" / "results"


@dataclass
class Copy:
    """A folder that looks like the results folder did when it was listed."""

    folder: Path
    _kept: Path
    _bucket: Bucket
    _listed: dict[str, Entry]
    _filled: set[str] = field(default_factory=set)

    def fill(self, part: str) -> None:
        """Copy what the folder `part`, or the file of this name, holds."""
        if part in self._filled:
            return
        self._filled.add(part)
        wanted = {
            name: self._kept / f"{name}~{entry.size}-{entry.mtime_ns}"
            for name, entry in self._listed.items()
            if name == part or name.startswith(f"{part}/")
        }
        self._bucket.get_all({name: kept for name, kept in wanted.items() if not kept.is_file()})
        gone = [name for name, kept in wanted.items() if not _link(kept, self.folder / name)]
        if gone and part not in MAY_GO:
            raise BucketError(
                f"{self._bucket.address}: {gone[0]} went while it was read; ask again"
            )
        self._forget_old(part, set(wanted.values()))

    def _forget_old(self, part: str, wanted: set[Path]) -> None:
        """Remove copies of what the store no longer has; a question that has links keeps them."""
        for path in [*self._kept.glob(f"{part}~*"), *(self._kept / part).rglob("*~*")]:
            if path not in wanted:
                path.unlink(missing_ok=True)


def _link(kept: Path, link: Path) -> bool:
    """Let a file have a second name; False where it is gone."""
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(kept, link)
    except FileNotFoundError:
        return False
    except OSError:  # a file system without links
        shutil.copyfile(kept, link)
    return True


# The copies that this process asks, by folder.
_open: dict[Path, Copy] = {}


def copy_of(address: str) -> Path:
    """A folder for questions to results in an object store; it goes with this process.

    Raises `BucketError`.
    """
    bucket = Bucket(address)
    bucket.check()
    listed = bucket.list()
    # Names of buckets are unique only within a service.
    which = f"{address} {os.environ.get('AWS_ENDPOINT_URL', '')}"
    own = f"{hashlib.sha256(which.encode()).hexdigest()[:12]}-{last_part(address)}"
    root = cache_folder() / own
    (root / "asked").mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_leftovers(root / "asked")
    scratch = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root / "asked"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    folder = scratch / last_part(address)
    folder.mkdir()
    copy = Copy(folder, root / "kept", bucket, listed)
    for part in AT_ONCE:
        copy.fill(part)
    for table in ("plan", "trials"):  # what a results folder is known by
        if any(name.startswith(f"{table}/") for name in listed):
            (folder / table).mkdir()
    _open[folder] = copy
    return folder


def fill(folder: Path, part: str) -> None:
    """Copy a part of the results that a folder shows; nothing where it is no copy."""
    if folder in _open:
        _open[folder].fill(part)


def _remove_leftovers(asked: Path) -> None:
    """Remove what was left by processes of this machine that were killed."""
    for path in asked.iterdir():
        pid = path.name.partition("-")[0]
        if pid.isdigit() and not _exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""Local copies of results in an object store: new objects are downloaded once, questions read them.

Copies are cached below `~/.cache/cnngrid/results` by name, size and modification time, so none ever
changes. A question sees a folder of links to the objects that were listed when it was asked: other
questions may run at the same time, and the sweep may go on.
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
from analysis.results.processes import process_exists

# Parts that every question needs; tables are copied when a question first asks for them.
COPIED_FIRST = ("sweep.yaml", "run/driver.json", "run/trials")
# Objects of these parts come and go while a sweep runs; others go only if they were merged.
MAY_GO = {*COPIED_FIRST, "paused"}


def cache_folder() -> Path:
    """Return the cache folder: `$XDG_CACHE_HOME/cnngrid/results`, else below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cnngrid" / "results"


@dataclass
class Copy:
    """A folder that looks like the results folder at the time of its listing."""

    folder: Path
    _cache: Path
    _bucket: Bucket
    _listed: dict[str, Entry]
    _filled: set[str] = field(default_factory=set)

    def fill(self, part: str) -> None:
        """Copy the folder `part`, or the file of this name."""
        if part in self._filled:
            return
        self._filled.add(part)
        wanted = {
            name: self._cache / f"{name}~{entry.size}-{entry.mtime_ns}"
            for name, entry in self._listed.items()
            if name == part or name.startswith(f"{part}/")
        }
        self._bucket.get_all({name: path for name, path in wanted.items() if not path.is_file()})
        gone = [name for name, path in wanted.items() if not _link(path, self.folder / name)]
        if gone and part not in MAY_GO:
            raise BucketError(
                f"{self._bucket.address}: {gone[0]} went while it was read; ask again"
            )
        self._forget_old(part, set(wanted.values()))

    def _forget_old(self, part: str, wanted: set[Path]) -> None:
        """Remove copies of objects that are gone; questions that have links to them keep these."""
        for path in [*self._cache.glob(f"{part}~*"), *(self._cache / part).rglob("*~*")]:
            if path not in wanted:
                path.unlink(missing_ok=True)


def _link(cached: Path, link: Path) -> bool:
    """Link a cached file into a folder; return False if the file is gone."""
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(cached, link)
    except FileNotFoundError:
        return False
    except OSError:  # a file system without links
        shutil.copyfile(cached, link)
    return True


# Open copies of this process, by folder.
_open: dict[Path, Copy] = {}


def copy_of(address: str) -> Path:
    """Return a folder that shows results in an object store; it is removed when this process ends.

    Raises `BucketError`.
    """
    bucket = Bucket(address)
    bucket.check()
    listed = bucket.list()
    # Names of buckets are unique only within a service.
    full_address = f"{address} {os.environ.get('AWS_ENDPOINT_URL', '')}"
    digest = hashlib.sha256(full_address.encode()).hexdigest()[:12]
    root = cache_folder() / f"{digest}-{last_part(address)}"
    (root / "asked").mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_leftovers(root / "asked")
    scratch = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root / "asked"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    folder = scratch / last_part(address)
    folder.mkdir()
    copy = Copy(folder, root / "kept", bucket, listed)
    for part in COPIED_FIRST:
        copy.fill(part)
    for table in ("plan", "trials"):  # the marks of a results folder
        if any(name.startswith(f"{table}/") for name in listed):
            (folder / table).mkdir()
    _open[folder] = copy
    return folder


def fill(folder: Path, part: str) -> None:
    """Copy a part of the results into a folder of `copy_of`; do nothing for any other folder."""
    if folder in _open:
        _open[folder].fill(part)


def _remove_leftovers(asked: Path) -> None:
    """Remove the folders of killed processes of this machine."""
    for path in asked.iterdir():
        pid = path.name.partition("-")[0]
        if pid.isdigit() and not process_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)

"""Files in an object store: a mirror on this machine's disk, and objects put and got whole.

Each process has a mirror of its own with the files it needs: the driver has every table that a
resumed sweep needs, a worker its trial's checkpoint. Files are uploaded as they are written, except
for epochs, their metrics and claims, which would cost a request per epoch.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from analysis.results.bucket import Bucket, BucketError, Entry
from analysis.results.location import last_part
from grid.errors import ResultsError, StoreError
from grid.store.atomic import write_whole
from grid.store.files import ClaimLimits, DiskFiles, Files
from grid.store.scratch import drop_scratch, scratch_folder

# Tables with rows of every epoch, and the shortest time between two uploads of such a file while
# its trial runs, in seconds.
BY_EPOCH = ("epochs", "metrics")
EPOCHS_S = 60.0
# The same of its claim, and between two downloads of it by its own attempt. A trial counts as hung
# only after several claims were due.
CLAIMS = ClaimLimits(write_every_s=25.0, check_every_s=25.0, silence_s=120.0, may_be_lost=True)
# A lost connection is retried for this long before the sweep is given up.
PATIENCE_S = 120.0
# Attempts to read a state file that somebody is just writing.
READ_ATTEMPTS = 5
# Files that this process reads again, so the mirror keeps them; others are only uploaded.
MIRRORED = ("sweep.yaml", "trials", "epochs", "metrics", "paused", "plan", "asked")


class BucketFiles(Files):
    """Objects below an address such as `s3://bucket/prefix/sweep`.

    `patience_s` is the time for which a lost connection is retried, by default `PATIENCE_S`.
    """

    exclusive_create = False
    all_on_disk = False
    claim_limits = CLAIMS

    def __init__(self, address: str, patience_s: float | None = None) -> None:
        self._address = address.rstrip("/")
        scratch = scratch_folder()
        self._clean = weakref.finalize(self, drop_scratch, scratch)
        self._mirror = DiskFiles(scratch / last_part(self._address))
        self.folder = self._mirror.folder
        try:
            self._bucket = Bucket(self._address, PATIENCE_S if patience_s is None else patience_s)
        except BucketError as problem:
            raise ResultsError(str(problem)) from None
        # Objects by name, as of the last `fetch_tables`.
        self._listed: dict[str, Entry] = {}
        # Times of the last upload of files by epoch, and those of them with rows not uploaded yet.
        self._put_at: dict[str, float] = {}
        self._behind: set[str] = set()

    @property
    def origin(self) -> str:
        """The address."""
        return self._address

    @property
    def location(self) -> str:
        """The address."""
        return self._address

    # -- reading -----------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names right below the address, as of the last `fetch_tables`."""
        return sorted({name.partition("/")[0] for name in self._listed})

    def list_paths(self, folder: str, suffix: str) -> list[str]:
        """Return the sorted paths of a folder's files in the mirror."""
        return self._mirror.list_paths(folder, suffix)

    def has(self, path: Path) -> bool:
        """Return whether an object existed when the tables were fetched."""
        return path.is_file() or self._name(path) in self._listed

    def fetch(self, path: Path) -> bool:
        """Download an object into the mirror; return whether it exists."""
        if path.is_file():
            return True
        with self._storing():
            self._bucket.get_all({self._name(path): path})
        return path.is_file()

    def fetch_tables(self) -> None:
        """List the objects, and download those that a resumed sweep needs."""
        try:
            self._bucket.check()
            self._listed = self._bucket.list()
        except BucketError as problem:
            raise ResultsError(str(problem)) from None
        self.fetch_folders(MIRRORED)

    def fetch_folders(self, folders: Collection[str]) -> None:
        """Download all objects of the folders that were listed and are not in the mirror."""
        try:
            self._bucket.get_all(
                {
                    name: self.folder / name
                    for name in self._listed
                    if name.partition("/")[0] in folders and not (self.folder / name).is_file()
                }
            )
        except BucketError as problem:
            raise ResultsError(str(problem)) from None

    def read_json(self, path: Path) -> dict[str, Any]:
        """Download a state file's content; empty if it is absent or unreadable."""
        # An object that is replaced during a read is cut to the size it had before.
        for _ in range(READ_ATTEMPTS):
            with self._storing():
                data = self._bucket.get(self._name(path))
            if data is None:
                break
            try:
                content = json.loads(data)
            except ValueError:
                continue
            return content if isinstance(content, dict) else {}
        return {}

    # -- writing -----------------------------------------------------------------------------

    def check_present(self, *, expected: bool = False) -> None:
        """Do nothing: an address stays where it is."""

    def write(self, path: Path, data: bytes | memoryview, *, flush: bool = True) -> None:
        """Upload a file; epochs at most once a minute, but before their trial's row."""
        name = self._name(path)
        table = name.partition("/")[0]
        if table in MIRRORED:
            write_whole(path, data, flush=False)  # the mirror does not outlive this process
        by_epoch = table in BY_EPOCH
        if by_epoch and time.monotonic() - self._put_at.get(name, -EPOCHS_S) < EPOCHS_S:
            self._behind.add(name)
            return
        if table == "trials":
            self._upload_epochs(path.stem)
        with self._storing():
            self._bucket.put(name, data)
        if by_epoch:
            self._put_at[name] = time.monotonic()
            self._behind.discard(name)

    def upload(self, path: Path) -> None:
        """Upload a checkpoint, and before it the epochs that it holds."""
        self._upload_epochs(path.parent.name)
        with self._storing():
            self._bucket.put_file(self._name(path), path)

    def remove(self, *paths: Path) -> None:
        """Remove objects, and their files in the mirror."""
        self._mirror.remove(*paths)
        with self._storing():
            self._bucket.remove(*map(self._name, paths))

    def remove_folder(self, folder: Path) -> None:
        """Remove all objects below a prefix."""
        shutil.rmtree(folder, ignore_errors=True)
        with self._storing():
            self._bucket.remove_all(self._name(folder))

    def set_aside(self, path: Path) -> None:
        """Rename a damaged object to `*.damaged`."""
        name = self._name(path)
        with self._storing():
            self._bucket.rename(name, f"{name}.damaged")
        self._mirror.set_aside(path)

    def close(self) -> None:
        """Remove the mirror."""
        self._clean()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _upload_epochs(self, trial_id: str) -> None:
        for name in [f"{table}/{trial_id}.parquet" for table in BY_EPOCH]:
            if name in self._behind:
                with self._storing():
                    self._bucket.put_file(name, self.folder / name)
                self._put_at[name] = time.monotonic()
                self._behind.discard(name)

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except BucketError as problem:
            raise StoreError(
                f"{problem}; what finished is kept: run the same command again"
            ) from None

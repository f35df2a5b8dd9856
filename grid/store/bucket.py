"""Results in an object store: a mirror on this machine's disk, and objects put and got whole.

Each process has a mirror of its own, of what it needs: the driver every table that a sweep is gone
on from, a worker its trial's checkpoint. What is written goes into the object store at once, except
for epochs and claims, which would be a request for every epoch.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import weakref
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.results.bucket import Bucket, BucketError, Entry
from analysis.results.location import last_part
from grid.errors import ResultsError, StoreError
from grid.store.atomic import write_whole
from grid.store.folder import PER_TRIAL, Store
from grid.store.scratch import drop_scratch, scratch_folder

# A trial's epochs are put at most this often while it runs, in seconds, its claim so often.
EPOCHS_S = 60.0
CLAIM_S = 25.0
# How long a lost connection is waited for before the sweep is given up.
PATIENCE_S = 120.0
# How often a state file is read again that somebody was just writing.
RACES = 5
# What a store is asked for; anything else is only written.
ASKED_FOR = ("sweep.yaml", "trials", "epochs", "paused", "plan", "asked")


class BucketStore(Store):
    """The results below an address such as `s3://bucket/prefix/sweep`."""

    remote = True

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        scratch = scratch_folder()
        self._clean = weakref.finalize(self, drop_scratch, scratch)
        super().__init__(scratch / last_part(self.address))
        try:
            self.bucket = Bucket(self.address, PATIENCE_S)
        except BucketError as problem:
            raise ResultsError(str(problem)) from None
        self._listed: dict[str, Entry] = {}
        # When a trial's epochs and claim were put last, and whose epochs were written since.
        self._epochs_put: dict[str, float] = {}
        self._claim_put: dict[str, float] = {}
        self._behind: set[str] = set()

    @property
    def location(self) -> str:
        """The address."""
        return self.address

    @property
    def display_name(self) -> str:
        """The address."""
        return self.address

    # -- opening ---------------------------------------------------------------------------

    def fetch_tables(self) -> None:
        """Copy what a sweep is gone on from. Raises `ResultsError`."""
        try:
            self.bucket.check()
            self._listed = self.bucket.list()
            self._fetch(ASKED_FOR)
        except BucketError as problem:
            raise ResultsError(str(problem)) from None

    def check_usable(self, sweep: str) -> None:
        """The same check, of what is there now."""
        self.fetch_tables()
        super().check_usable(sweep)

    def contents(self) -> list[str]:
        """Names of what lies right below the address."""
        return sorted({name.partition("/")[0] for name in self._listed})

    def _fetch(self, parts: Collection[str]) -> None:
        self.bucket.get_all(
            {
                name: self.folder / name
                for name in self._listed
                if name.partition("/")[0] in parts and not (self.folder / name).is_file()
            }
        )

    # -- files -----------------------------------------------------------------------------

    def write_file(self, path: Path, data: bytes | pa.Buffer, *, flush: bool = True) -> None:
        """Put an object; epochs not more often than once a minute, but before their trial's row."""
        name = self._name(path)
        table = name.partition("/")[0]
        if table in ASKED_FOR:
            write_whole(path, data, flush=False)  # the mirror does not outlive this process
        if table == "epochs" and time.monotonic() - self._epochs_put.get(path.stem, -EPOCHS_S) < (
            EPOCHS_S
        ):
            self._behind.add(path.stem)
            return
        if table == "trials":
            self._put_epochs(path.stem)
        with self._stored():
            self.bucket.put(name, data)
        if table == "epochs":
            self._epochs_put[path.stem] = time.monotonic()
            self._behind.discard(path.stem)

    def was_written(self, path: Path) -> None:
        """Put a checkpoint, and before it the epochs that it holds."""
        self._put_epochs(path.parent.name)
        with self._stored():
            self.bucket.put_file(self._name(path), path)

    def remove(self, *paths: Path) -> None:
        """Remove objects, and what the mirror has of them."""
        super().remove(*paths)
        with self._stored():
            self.bucket.remove(*map(self._name, paths))

    def remove_folder(self, folder: Path) -> None:
        """Remove all objects below a prefix."""
        shutil.rmtree(folder, ignore_errors=True)
        with self._stored():
            self.bucket.remove_all(self._name(folder))

    def set_aside(self, path: Path) -> None:
        """Let a damaged object be known by another name."""
        name = self._name(path)
        with self._stored():
            self.bucket.rename(name, f"{name}.damaged")
        super().set_aside(path)

    def has(self, path: Path) -> bool:
        """Whether there was such an object when the tables were fetched."""
        return path.is_file() or self._name(path) in self._listed

    def fetch(self, path: Path) -> bool:
        """Whether there is such an object; the mirror has it then."""
        if path.is_file():
            return True
        with self._stored():
            self.bucket.get_all({self._name(path): path})
        return path.is_file()

    def settle(self, trial_id: str) -> None:
        """Put what is behind, and let go of the trial's checkpoints here."""
        shutil.rmtree(self.checkpoints(trial_id), ignore_errors=True)
        with contextlib.suppress(StoreError):  # its epochs are trained again
            self._put_epochs(trial_id)

    def close(self) -> None:
        """Remove the mirror."""
        self._clean()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _put_epochs(self, trial_id: str) -> None:
        if trial_id not in self._behind:
            return
        path = self.table_path("epochs", trial_id)
        with self._stored():
            self.bucket.put_file(self._name(path), path)
        self._epochs_put[trial_id] = time.monotonic()
        self._behind.discard(trial_id)

    @contextlib.contextmanager
    def _stored(self) -> Iterator[None]:
        try:
            yield
        except BucketError as problem:
            raise StoreError(
                f"{problem}; what finished is kept: run the same command again"
            ) from None

    # -- what runs now ---------------------------------------------------------------------

    def read_run(self, name: str) -> dict[str, Any]:
        """What a state file says now; empty where it is absent or unreadable."""
        # An object that is replaced while it is read comes cut to the size it had before.
        for _ in range(RACES):
            with self._stored():
                content = self.bucket.get(f"run/{name}")
            if content is None:
                break
            try:
                said = json.loads(content)
            except ValueError:
                continue
            return said if isinstance(said, dict) else {}
        return {}

    def read_claim(self, trial_id: str) -> dict[str, Any]:
        """What the last attempt of a trial, on whatever node, left."""
        return self.read_run(f"trials/{trial_id}.json")

    def write_claim(self, trial_id: str, claim: Mapping[str, Any]) -> None:
        """Say where a trial runs, now and then. Where that is lost the sweep goes on."""
        now = time.monotonic()
        if claim["heartbeat"] and now - self._claim_put.get(trial_id, -CLAIM_S) < CLAIM_S:
            return
        self._claim_put[trial_id] = now
        with contextlib.suppress(StoreError):
            super().write_claim(trial_id, claim)

    def silence_claim(self, trial_id: str) -> None:
        """Say that a trial no longer runs, where that can be said."""
        with contextlib.suppress(StoreError):
            super().silence_claim(trial_id)

    # -- many small files into few ---------------------------------------------------------

    def compact(self) -> dict[str, int]:
        """Merge the objects of ended trials: all of them are copied here and put back as few."""
        try:
            self._fetch(PER_TRIAL)
        except BucketError as problem:
            raise ResultsError(str(problem)) from None
        return super().compact()

    def tidy(self) -> None:
        """Nothing: every object would go through the driver while trials wait for it."""

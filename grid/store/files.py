"""Files of one set of results: the interface, and the files of a folder on a disk.

The tables and claims of `grid/store/folder.py` and `grid/store/claims.py` are kept over these
methods alone, so another place for results replaces nothing else (`grid/store/bucket.py`).
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grid.errors import StoreError
from grid.store.atomic import read_json, remove, storing, write_whole


@dataclass(frozen=True)
class ClaimLimits:
    """Limits on the claims of running trials; a disk has none."""

    # Shortest times in seconds: between two heartbeats of a running trial that are written, between
    # two looks for a later attempt, and without a heartbeat that count as a hang.
    write_every_s: float = 0.0
    check_every_s: float = 0.0
    silence_s: float = 0.0
    # True if a claim may be absent although its trial runs: a failed write is no error then.
    may_be_lost: bool = False


class Files(ABC):
    """Files below `folder`, which this process opens and reads as usual.

    Every change goes through a method. Methods that change or fetch files raise `StoreError`.
    """

    folder: Path
    # True if a file can be created on condition that it does not exist, as the lock needs.
    exclusive_create: bool
    # True if every file is on this machine's disk: to count or merge them transfers nothing.
    all_on_disk: bool
    claim_limits: ClaimLimits

    @property
    @abstractmethod
    def origin(self) -> Path | str:
        """The folder or the address, as it was given."""

    @property
    @abstractmethod
    def location(self) -> str:
        """The argument of `open_store` in another process (`grid/store/open.py`)."""

    # -- reading -----------------------------------------------------------------------------

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of files and folders right below the top."""

    @abstractmethod
    def list_paths(self, folder: str, suffix: str) -> list[str]:
        """Return the sorted paths of the files in a folder that can be opened now."""

    @abstractmethod
    def has(self, path: Path) -> bool:
        """Return whether a file exists."""

    @abstractmethod
    def fetch(self, path: Path) -> bool:
        """Return whether a file exists, and make sure that it can be opened."""

    @abstractmethod
    def fetch_tables(self) -> None:
        """Fetch what a resumed sweep needs. Raises `ResultsError`."""

    @abstractmethod
    def fetch_folders(self, folders: Collection[str]) -> None:
        """Fetch all files of the folders that are known so far. Raises `ResultsError`."""

    @abstractmethod
    def read_json(self, path: Path) -> dict[str, Any]:
        """Return a state file's newest content; empty if it is absent or unreadable."""

    # -- writing -----------------------------------------------------------------------------

    @abstractmethod
    def check_present(self, *, expected: bool = False) -> None:
        """Raise `StoreError` if the results were there before, or are `expected`, and are gone.

        Every write would otherwise make a new folder in their place.
        """

    @abstractmethod
    def write(self, path: Path, data: bytes | memoryview, *, flush: bool = True) -> None:
        """Write a file atomically; with `flush` it survives a loss of power."""

    @abstractmethod
    def upload(self, path: Path) -> None:
        """Store a checkpoint that was written to its path without `write`."""

    @abstractmethod
    def remove(self, *paths: Path) -> None:
        """Remove files, if they exist."""

    @abstractmethod
    def remove_folder(self, folder: Path) -> None:
        """Remove a folder of files, if it exists."""

    @abstractmethod
    def set_aside(self, path: Path) -> None:
        """Rename a damaged file to `*.damaged`."""

    @abstractmethod
    def close(self) -> None:
        """Free what this object holds; it cannot be used any more."""


class DiskFiles(Files):
    """Files of a folder on a disk, which machines may share."""

    exclusive_create = True
    all_on_disk = True
    claim_limits = ClaimLimits()

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        # True once the sweep file was there: a run writes it first.
        self._seen = False

    @property
    def origin(self) -> Path:
        """The folder."""
        return self.folder

    @property
    def location(self) -> str:
        """The absolute path."""
        return str(self.folder.resolve())

    def names(self) -> list[str]:
        """Return the names in the folder; none if it does not exist."""
        return os.listdir(self.folder) if self.folder.is_dir() else []

    def list_paths(self, folder: str, suffix: str) -> list[str]:
        """Return the sorted paths of the files in a folder."""
        try:
            with os.scandir(self.folder / folder) as entries:
                return sorted(
                    entry.path
                    for entry in entries
                    if entry.name.endswith(suffix) and entry.is_file()
                )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def has(self, path: Path) -> bool:
        """Return whether a file exists."""
        return path.is_file()

    def fetch(self, path: Path) -> bool:
        """Return whether a file exists."""
        return path.is_file()

    def fetch_tables(self) -> None:
        """Do nothing: the files are here."""

    def fetch_folders(self, folders: Collection[str]) -> None:
        """Do nothing: the files are here."""

    def read_json(self, path: Path) -> dict[str, Any]:
        """Return a state file's content; empty if it is absent or unreadable."""
        return read_json(path)

    def check_present(self, *, expected: bool = False) -> None:
        """Raise `StoreError` if the folder is no longer the sweep's."""
        try:
            os.stat(self.folder / "sweep.yaml")
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
            if gone and (expected or self._seen):
                raise StoreError(
                    f"{self.folder}: the results folder is gone: it was deleted, moved or renamed "
                    "while the sweep ran; put it back and run the same command again"
                ) from None
        else:
            self._seen = True

    def write(self, path: Path, data: bytes | memoryview, *, flush: bool = True) -> None:
        """Write a file atomically."""
        self.check_present()
        write_whole(path, data, flush=flush)

    def upload(self, path: Path) -> None:
        """Do nothing: the file has its place already."""

    def remove(self, *paths: Path) -> None:
        """Remove files, if they exist."""
        for path in paths:
            remove(path)

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder of files, if it exists."""
        if folder.is_symlink():  # not ours: its target stays as it is
            self.remove(folder)
        if folder.is_dir():
            self.remove(*folder.glob("*"))
            with storing(folder):
                folder.rmdir()

    def set_aside(self, path: Path) -> None:
        """Rename a damaged file to `*.damaged`."""
        with storing(path):
            path.rename(path.with_suffix(".parquet.damaged"))

    def close(self) -> None:
        """Do nothing: no resource is held."""

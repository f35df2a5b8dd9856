"""Opening of results wherever they are: a folder, or a prefix of an object store."""

from __future__ import annotations

from pathlib import Path

from analysis.results.location import as_folder, is_address
from grid.store.folder import Store


def open_store(location: str | Path, *, patience_s: float | None = None) -> Store:
    """Return the store of a results folder, or of an address such as `s3://bucket/prefix/sweep`.

    `patience_s` is the time for which a lost connection to an object store is retried, by default
    that of a sweep. Raises `ResultsError` for an address that no filesystem is known for.
    """
    if not is_address(location):
        return Store(as_folder(location))
    from grid.store.bucket import BucketFiles

    return Store(BucketFiles(str(location), patience_s))

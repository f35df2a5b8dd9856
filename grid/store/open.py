"""Opens results wherever they are: a folder, or a prefix of an object store."""

from __future__ import annotations

from pathlib import Path

from analysis.results.location import as_folder, is_address
from grid.store.folder import Store


def open_store(place: str | Path) -> Store:
    """The store of a results folder, or of an address such as `s3://bucket/prefix/sweep`.

    Raises `ResultsError` for an address that no filesystem is known for.
    """
    if not is_address(place):
        return Store(as_folder(place))
    from grid.store.bucket import BucketStore

    return BucketStore(str(place))

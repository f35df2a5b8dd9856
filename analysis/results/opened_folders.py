"""The results folders that a database is opened on: checked, named, copied from a bucket."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.results.errors import AnalysisError
from analysis.results.location import as_folder, is_address


def name_folders(locations: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """Return each results folder with its name in the column `results`, in the given order.

    The name is the last part of the location, or all of it if two folders share the last part.
    Raises `AnalysisError` if a location is no results folder.
    """
    if not locations:
        raise AnalysisError("no results folder given; give one or more, like results/digits")
    distinct = list(dict.fromkeys(map(str, locations)))
    paths = [_local_folder(location) for location in distinct]
    for location, path in zip(distinct, paths, strict=True):
        if not path.is_dir():
            raise AnalysisError(f"there is no results folder {location}{_neighbours(path)}")
        if not any((path / part).exists() for part in ("sweep.yaml", "plan", "trials")):
            raise AnalysisError(
                f"{location} is not a results folder: it has no sweep.yaml, plan/ or trials/"
                f"{_neighbours(path / 'x')}"
            )
    full_names = {
        path: location if is_address(location) else str(path)
        for location, path in zip(distinct, paths, strict=True)
    }
    last_parts = [path.name for path in full_names]
    return [
        (path.name if last_parts.count(path.name) == 1 else full_name, path)
        for path, full_name in full_names.items()
    ]


def _local_folder(location: str | Path) -> Path:
    """Return the folder itself or, for an address, a copy that has the objects' newest versions."""
    if not is_address(location):
        return Path(os.path.abspath(as_folder(location)))
    from analysis.results.bucket import BucketError
    from analysis.results.bucket_mirror import copy_of

    try:
        return copy_of(str(location))
    except BucketError as problem:
        raise AnalysisError(str(problem)) from None


def _neighbours(path: Path) -> str:
    """Return the results folders beside a path, as the end of a message."""
    if not path.parent.is_dir():
        return ""
    folders = sorted(str(file.parent) for file in path.parent.glob("*/sweep.yaml"))
    if not folders:
        return ""
    return f"; there are: {', '.join(os.path.relpath(folder) for folder in folders)}"


def complete(folder: Path, part: str) -> None:
    """Download the rest of a part, such as `epochs`, if the folder is a copy of a bucket."""
    if "analysis.results.bucket_mirror" not in sys.modules:  # then no folder is a copy
        return
    from analysis.results.bucket import BucketError
    from analysis.results.bucket_mirror import fill

    try:
        fill(folder, part)
    except BucketError as problem:
        raise AnalysisError(str(problem)) from None

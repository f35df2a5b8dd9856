"""Merging of a table's small files into a few large ones.

Safe to kill: a merged file is complete before the first of its parts is removed, and readers take
the newest row of a trial, so a trial that is read twice counts once. Readers list the files again
if one went while they read (`grid/store/folder.py`, `analysis/results/table_files.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from analysis.results.parquet_file import looks_whole
from grid.store.files import Files
from grid.store.parquet import encode, read_files
from grid.store.records import schema

# Tables whose files are merged, with a file per trial or suggestion.
MERGED = (
    *("trials", "epochs", "metrics", "classes", "predictions", "enhancement"),
    "asked",
)
# A folder with fewer small files of a table is left as it is: a question takes no longer.
FEW_FILES = 100
# So many small files become one, which bounds the memory that merging takes.
MOST_FILES = 1_000


def is_merged(file: str) -> bool:
    """Return whether a file is one that merging made."""
    return _number(file) is not None


def age(file: str) -> tuple[bool, int]:
    """Return a key that sorts a table's files by age: merged ones first, by their number."""
    number = _number(file)
    return number is None, number or 0


def small_files(files: Files, table: str) -> list[Path]:
    """Return the files of a table that were not merged yet."""
    return [Path(path) for path in files.list_paths(table, ".parquet") if not is_merged(path)]


def merge(files: Files, table: str, parts: Iterable[Path]) -> int:
    """Merge files of a table; return how many there were, 0 below two."""
    whole = [path for path in parts if looks_whole(path)]
    if len(whole) < 2:
        return 0
    for start in range(0, len(whole), MOST_FILES):
        some = whole[start : start + MOST_FILES]
        content = encode(table, read_files([str(path) for path in some], schema(table)))
        number = max(
            (_number(path) or 0 for path in files.list_paths(table, ".parquet")), default=0
        )
        path = files.folder / table / f"compacted-{number + 1}.parquet"
        files.write(path, content)
        files.remove(*some)
    return len(whole)


def _number(file: str) -> int | None:
    match = re.search(r"compacted-(\d+)\.parquet$", file)
    return int(match.group(1)) if match else None

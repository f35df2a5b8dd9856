"""The two ends of a Parquet file, which tell a whole file from a damaged one."""

from __future__ import annotations

import os

from analysis.results.regular_file import open_regular

MAGIC = b"PAR1"  # the first and the last four bytes of every Parquet file


def looks_whole(path: str | os.PathLike[str]) -> bool:
    """Return whether a Parquet file has both its ends: the magic bytes and a footer that fits."""
    try:
        size, start, tail = _read_ends(path)
    except OSError:
        return False
    if size < 12 or start != MAGIC or tail[-4:] != MAGIC:
        return False
    return int.from_bytes(tail[:4], "little") <= size - 12


def damage_at_ends(path: str | os.PathLike[str]) -> str | None:
    """Return the reason why a file cannot be a whole Parquet file, by its magic bytes alone.

    None if both are there, or if the file is gone.
    """
    try:
        size, start, tail = _read_ends(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    if size == 0:
        return "it is empty"
    if start != MAGIC:
        return "it is not a Parquet file"
    return None if tail[-4:] == MAGIC and size > 12 else "it is cut short"


def _read_ends(path: str | os.PathLike[str]) -> tuple[int, bytes, bytes]:
    """Return the size in bytes, the first four bytes and the last eight, fewer if there are."""
    with open_regular(path) as file:
        start = file.read(4)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        return size, start, file.read(8)

"""Where a picture lies: a file, or a row of a Parquet file; and its content."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from cnncore.data.errors import DataError
from cnncore.processors import machine_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")
# Pictures that wait for a thread, each. More would hold more of a Parquet file in memory.
WAITING = 16


class Row(NamedTuple):
    """Row of a Parquet file, counted from 0, whose `column` holds the bytes of a picture."""

    shard: Path
    number: int
    column: str


Place = Path | Row
EITHER = "file or folder"


def file_of(place: Place) -> Path:
    """Return the file in which a picture lies."""
    return place.shard if isinstance(place, Row) else place


def name_of(place: Place) -> str:
    """Return a short name for a message."""
    if isinstance(place, Row):
        return f"row {place.number + 1:,} of {place.shard.name}"
    return place.name


def full_name(place: Place) -> str:
    """Return a name that tells where the picture lies."""
    if isinstance(place, Row):
        return f"{place.shard} row {place.number + 1:,}"
    return str(place)


def find_path(name: str, path: str, data_dir: Path, kind: str) -> Path:
    """Return what lies at a path that is absolute, or below `data_dir` or the current folder.

    `kind` is "file", "folder" or `EITHER`. Raises `DataError` if neither has it.
    """
    if not path.strip():
        raise DataError(f"{name}: the path of a {kind} must stand after the colon")
    expanded = Path(path).expanduser()
    candidates = [data_dir / expanded, Path.cwd() / expanded]
    for candidate in candidates:
        if candidate.exists() and (kind == EITHER or candidate.is_dir() == (kind == "folder")):
            return candidate
    tried = " nor ".join(dict.fromkeys(str(folder) for folder in candidates))
    raise DataError(f"{name}: there is no {kind} {tried}")


def contents(places: Iterable[Place]) -> Iterator[Path | bytes]:
    """Yield each picture's file, or the bytes of its row, in order; empty bytes for a null.

    Rows of one Parquet file should stand together and ascend, because they are read together.
    """
    for shard, together in itertools.groupby(
        places, lambda place: (place.shard, place.column) if isinstance(place, Row) else None
    ):
        if shard is None:
            yield from (file_of(place) for place in together)
        else:
            from cnncore.data.folders.parquet_rows import read_contents

            numbers = [place.number for place in together if isinstance(place, Row)]
            yield from read_contents(*shard, numbers)


def on_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Yield `function` of each item, in order; only a few items are taken in advance."""
    threads = threads or machine_cpus()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= threads * WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def suffix_of(places: Sequence[Place]) -> list[str]:
    """Return the suffixes of those pictures that are files."""
    return [place.suffix.lower() or "no suffix" for place in places if isinstance(place, Path)]

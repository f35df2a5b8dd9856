"""One short digest of many files, remembered so that unchanged files are not read again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path


def files_digest(root: Path, paths: Sequence[Path], roots: Iterable[Path], method: str) -> str:
    """16 hex digits that change when the name below `root` or the content of a file does.

    `method` is the hash of each file, as `hashlib` calls it. Kept in the first writable of
    `roots` by the listing of paths, sizes and times of change.
    """
    listing = hashlib.sha256()
    for path in paths:
        status = path.stat()
        listing.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    kept = f"listing-{listing.hexdigest()[:32]}"
    for folder in roots:
        try:
            return (folder / kept).read_text()
        except OSError:
            continue
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(partial(_file_digest, method=method), paths))
    names = (path.relative_to(root).as_posix() for path in paths)
    value = joint_digest(zip(names, digests, strict=True))
    for folder in roots:
        part = folder / f"{kept}.{os.getpid()}.tmp"
        try:
            part.write_text(value)
            part.replace(folder / kept)
            break
        except OSError:
            continue
    return value


def joint_digest(files: Iterable[tuple[str, str]]) -> str:
    """The digest of files known by name and hash, which `files_digest` gives for their content."""
    content = hashlib.sha256()
    for name, digest in files:
        content.update(f"{name}\0{digest}\n".encode())
    return content.hexdigest()[:16]


def _file_digest(path: Path, method: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, partial(hashlib.new, method, usedforsecurity=False)
        ).hexdigest()

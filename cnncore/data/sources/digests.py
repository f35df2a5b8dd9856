"""What was found out about many files at once, remembered while the files stay as they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path


def remembered(
    what: str, paths: Sequence[Path], roots: Iterable[Path], find_out: Callable[[], str]
) -> str:
    """What `find_out` says, called again only when a path, size or time of change does.

    Kept as `<what>-<hash>` in the first of `roots` that can be written.
    """
    listing = hashlib.sha256()
    for path in paths:
        status = path.stat()
        listing.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    kept = f"{what}-{listing.hexdigest()[:32]}"
    for folder in roots:
        try:
            return (folder / kept).read_text(encoding="utf-8")
        except OSError:
            continue
    value = find_out()
    for folder in roots:
        part = folder / f"{kept}.{os.getpid()}.tmp"
        try:
            part.write_text(value, encoding="utf-8")
            part.replace(folder / kept)
            break
        except OSError:
            continue
    return value


def files_digest(root: Path, paths: Sequence[Path], roots: Iterable[Path], method: str) -> str:
    """16 hex digits that change when the name below `root` or the content of a file does.

    `method` is the hash of each file, as `hashlib` calls it; remembered in `roots`.
    """

    def find_out() -> str:
        with ThreadPoolExecutor() as pool:
            digests = list(pool.map(partial(_file_digest, method=method), paths))
        names = (path.relative_to(root).as_posix() for path in paths)
        return joint_digest(zip(names, digests, strict=True))

    return remembered("listing", paths, roots, find_out)


def joint_digest(files: Iterable[tuple[str, str]]) -> str:
    """The digest of files known by name and hash, which `files_digest` gives for their content."""
    content = hashlib.sha256()
    for name, digest in files:
        content.update(f"{name}\0{digest}\n".encode())
    return content.hexdigest()[:16]


def _file_digest(path: Path, method: str) -> str:
    with path.open("rb") as file:
        new = partial(hashlib.new, method, usedforsecurity=False)
        return hashlib.file_digest(file, new).hexdigest()

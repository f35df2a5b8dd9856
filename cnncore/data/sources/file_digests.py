"""Results of reading many files, such as their joint digest, cached until a file changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from cnncore.data.errors import DataError
from cnncore.processors import machine_cpus
from cnncore.regular_file import check_regular


def cached_for(
    name: str, paths: Sequence[Path], roots: Iterable[Path], compute: Callable[[], str]
) -> str:
    """Return the result of `compute`, cached until a path, size or modification time changes.

    The cache is a file `<name>-<hash>` in the first of `roots` that can be written.
    """
    listing = hashlib.sha256()
    for path in paths:
        status = path.stat()
        listing.update(
            f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape")
        )
    file_name = f"{name}-{listing.hexdigest()[:32]}"
    for folder in roots:
        try:
            return (folder / file_name).read_text(encoding="utf-8")
        except OSError:
            continue
    value = compute()
    for folder in roots:
        temporary = folder / f"{file_name}.{os.getpid()}.tmp"
        try:
            temporary.write_text(value, encoding="utf-8")
            temporary.replace(folder / file_name)
            break
        except OSError:
            continue
    return value


def files_digest(root: Path, paths: Sequence[Path], roots: Iterable[Path], method: str) -> str:
    """Return 16 hex digits that change with the content of a file or its name below `root`.

    `method` is `hashlib`'s name of the hash of each file. The result is cached in `roots`.
    """

    def compute() -> str:
        with ThreadPoolExecutor(machine_cpus()) as pool:
            digests = list(pool.map(partial(_file_digest, method=method), paths))
        names = (path.relative_to(root).as_posix() for path in paths)
        return joint_digest(zip(names, digests, strict=True))

    return cached_for("listing", paths, roots, compute)


def joint_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the digest that `files_digest` gives for files with these names and hashes."""
    content = hashlib.sha256()
    for name, digest in files:
        content.update(f"{name}\0{digest}\n".encode(errors="surrogateescape"))
    return content.hexdigest()[:16]


def _file_digest(path: Path, method: str) -> str:
    try:
        check_regular(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; remove it") from None
    with path.open("rb") as file:
        new = partial(hashlib.new, method, usedforsecurity=False)
        return hashlib.file_digest(file, new).hexdigest()

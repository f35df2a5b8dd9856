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
    """Return the result of `compute`, cached until a path or a file's `stamp` changes.

    The cache is a file `<name>-<hash>` in the first of `roots` that can be written.
    """
    roots = list(roots)
    listing = hashlib.sha256()
    for path in paths:
        marks = "\0".join(map(str, (path, *stamp(path))))
        listing.update(f"{marks}\n".encode("utf-8", "surrogateescape"))
    file_name = f"{name}-{listing.hexdigest()[:32]}"
    for folder in roots:
        try:
            return (folder / file_name).read_text(encoding="utf-8")
        except OSError:
            continue
    value = compute()
    write_cache(file_name, value, roots)
    return value


def stamp(path: Path) -> list[int]:
    """Return what changes with a file: its size and its times of modification and of change.

    The time of change also tells of a file whose modification time was set back (`cp -p`, `touch`).
    """
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def below(root: Path, path: Path) -> str:
    """Return the name of a path below `root`, with slashes; faster than `Path.relative_to`."""
    return path.as_posix()[len(root.as_posix()) :].lstrip("/")


def write_cache(file_name: str, text: str, roots: Iterable[Path]) -> None:
    """Write a file of the cache into the first of `roots` that can be written, if one can."""
    for folder in roots:
        temporary = folder / f"{file_name}.{os.getpid()}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(folder / file_name)
            return
        except OSError:
            continue


def files_digest(root: Path, paths: Sequence[Path], roots: Iterable[Path], method: str) -> str:
    """Return 16 hex digits that change with the content of a file or its name below `root`.

    `method` is `hashlib`'s name of the hash of each file. The result is cached in `roots`.
    """

    def compute() -> str:
        with ThreadPoolExecutor(machine_cpus()) as pool:
            digests = list(pool.map(partial(_file_digest, method=method), paths))
        names = (below(root, path) for path in paths)
        return joint_digest(zip(names, digests, strict=True))

    return cached_for("listing", paths, roots, compute)


def joint_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the digest that `files_digest` gives for files with these names and hashes."""
    content = hashlib.sha256()
    for name, digest in files:
        content.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
    return content.hexdigest()[:16]


def _file_digest(path: Path, method: str) -> str:
    try:
        check_regular(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; remove it") from None
    with path.open("rb") as file:
        new = partial(hashlib.new, method, usedforsecurity=False)
        return hashlib.file_digest(file, new).hexdigest()

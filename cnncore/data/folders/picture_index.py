"""Facts about the files of a folder, read once and cached by file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

from cnncore.data.file_digests import below, stamp, write_cache
from cnncore.data.folders import pictures
from cnncore.data.folders.pictures import Picture
from cnncore.data.progress import tell_progress
from cnncore.processors import machine_cpus

# Part of the cache's name: a change of what is stored reads all files again.
FORMAT = 1


def read_pictures(
    name: str, root: Path, paths: Sequence[Path], roots: Iterable[Path], *, fully: bool
) -> dict[Path, Picture]:
    """Return the facts of each file; only files that changed since the last time are read.

    `roots` are the folders for the cache. With `fully` every picture is decoded once, to find those
    that are damaged.
    """
    from PIL import __version__ as pillow

    kind = f"{FORMAT}\0{pillow}\0{root}".encode("utf-8", "surrogateescape")
    file_name = f"pictures-{hashlib.sha256(kind).hexdigest()[:32]}.json"
    roots = list(roots)
    stored = _stored(file_name, roots)
    keys = {path: below(root, path) for path in paths}
    found: dict[Path, tuple[list[int], Picture]] = {}
    to_read: list[Path] = []
    for path, key in keys.items():
        entry = stored.get(key)
        now = _stamp_or_none(path)
        if entry and entry[0] == now and _serves(entry[1], fully):
            found[path] = entry
        else:
            to_read.append(path)
    if to_read:
        found.update(_read(name, to_read, fully))
        entries = {keys[path]: (mark, *astuple(item)) for path, (mark, item) in found.items()}
        write_cache(file_name, json.dumps(entries, separators=(",", ":")), roots)
    return {path: found[path][1] for path in paths}


def _read(
    name: str, paths: Sequence[Path], fully: bool
) -> Iterable[tuple[Path, tuple[list[int], Picture]]]:
    with ThreadPoolExecutor(machine_cpus()) as pool:
        # Stamps come first: a file that changes while it is read is read again the next time.
        stamps = [_stamp_or_none(path) or [] for path in paths]
        facts = pool.map(partial(pictures.look_at, fully=fully), paths)
        for done, (path, mark, picture) in enumerate(zip(paths, stamps, facts, strict=True), 1):
            tell_progress(f"reading {name}", done, len(paths))
            yield path, (mark, picture)


def _serves(picture: Picture, fully: bool) -> bool:
    return picture.decoded or not fully or not picture.mode


def _stamp_or_none(path: Path) -> list[int] | None:
    try:
        return stamp(path)
    except OSError:  # a link to nothing
        return None


def _stored(file_name: str, roots: Iterable[Path]) -> dict[str, Any]:
    for folder in roots:
        try:
            entries = json.loads((folder / file_name).read_text(encoding="utf-8"))
            return {key: (mark, Picture(*rest)) for key, (mark, *rest) in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError):  # missing or damaged
            continue
    return {}

"""Facts about the pictures of a data set, read once and cached by file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from cnncore.data.file_digests import stamp, write_cache
from cnncore.data.folders import pictures
from cnncore.data.folders.pictures import Picture
from cnncore.data.folders.places import Place, contents, file_of, on_threads
from cnncore.data.progress import tell_progress

# Part of the cache's name: a change of what is stored reads all files again.
FORMAT = 1


def read_pictures(
    name: str,
    index: object,
    places: Sequence[Place],
    roots: Iterable[Path],
    *,
    key: Callable[[Place], str],
    fully: bool,
    listed: bool = False,
) -> dict[Place, Picture]:
    """Return the facts of each picture; only files that changed since the last time are read.

    `roots` are the folders for the cache, `index` names a file in it, and `key` a picture in that
    file. With `fully` every picture is decoded once, to find those that are damaged. `listed` as
    for `look_at`.
    """
    from PIL import __version__ as pillow

    kind = f"{FORMAT}\0{pillow}\0{index}".encode("utf-8", "surrogateescape")
    file_name = f"pictures-{hashlib.sha256(kind).hexdigest()[:32]}.json"
    roots = list(roots)
    stored = _stored(file_name, roots)
    # Stamps come first: a file that changes while it is read is read again the next time.
    stamps = {file: _stamp_or_none(file) for file in dict.fromkeys(map(file_of, places))}
    keys = {place: key(place) for place in places}
    found: dict[Place, tuple[list[int], Picture]] = {}
    to_read: list[Place] = []
    for place, own_key in keys.items():
        entry = stored.get(own_key)
        if entry and entry[0] == stamps[file_of(place)] and _serves(entry[1], fully):
            found[place] = entry
        else:
            to_read.append(place)
    if to_read:
        for place, picture in _read(name, to_read, fully, listed):
            found[place] = (stamps[file_of(place)] or [], picture)
        entries = {keys[place]: (mark, *astuple(item)) for place, (mark, item) in found.items()}
        write_cache(file_name, json.dumps(entries, separators=(",", ":")), roots)
    return {place: found[place][1] for place in places}


def _read(
    name: str, places: Sequence[Place], fully: bool, listed: bool
) -> Iterator[tuple[Place, Picture]]:
    def look(content: Path | bytes) -> Picture:
        return pictures.look_at(content, fully=fully, listed=listed)

    facts = on_threads(look, contents(places))
    for done, (place, picture) in enumerate(zip(places, facts, strict=True), 1):
        tell_progress(f"reading {name}", done, len(places))
        yield place, picture


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

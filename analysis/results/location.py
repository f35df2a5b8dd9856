"""Locations of results: a folder, or the address of a prefix in an object store."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

# Two letters or more: a single letter is a Windows drive.
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_address(location: str | Path) -> bool:
    """Return whether it is an address such as `s3://bucket/prefix`; `file://` is a folder."""
    return bool(SCHEME.match(str(location))) and not str(location).startswith("file://")


def as_folder(location: str | Path) -> Path:
    """Return a location that is no address, as a path."""
    text = str(location)
    return Path(unquote(urlsplit(text).path)) if text.startswith("file://") else Path(location)


def inside(location: str | Path, name: str) -> str | Path:
    """Return the location of `name` below it; an address keeps the settings after its `?`."""
    if not is_address(location):
        return as_folder(location) / name
    parts = urlsplit(str(location))
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def last_part(address: str | Path) -> str:
    """Return the last part of an address's path, or its bucket if the path is empty."""
    parts = urlsplit(str(address))
    return parts.path.rstrip("/").rpartition("/")[2] or parts.netloc

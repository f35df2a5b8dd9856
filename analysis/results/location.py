"""Where results are: a folder, or the address of an object store's prefix."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

# Two letters or more: a drive of Windows is one.
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_address(place: str | Path) -> bool:
    """Whether a place is an address such as `s3://bucket/prefix`; `file://` is a folder."""
    return bool(SCHEME.match(str(place))) and not str(place).startswith("file://")


def as_folder(place: str | Path) -> Path:
    """A place that is no address, as a path."""
    text = str(place)
    return Path(unquote(urlsplit(text).path)) if text.startswith("file://") else Path(place)


def inside(place: str | Path, name: str) -> str | Path:
    """What lies in a place: the settings after an address's `?` stay at its end."""
    if not is_address(place):
        return as_folder(place) / name
    parts = urlsplit(str(place))
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def last_part(place: str | Path) -> str:
    """The name of what an address ends in."""
    parts = urlsplit(str(place))
    return parts.path.rstrip("/").rpartition("/")[2] or parts.netloc

"""Data sets that a decoded copy serves: a copy that serves none any more is removed.

A copy has a file below `origins/` for each data set that was found to have its content, with what
is known of that data set. A data set whose pictures have changed leaves its copy for a new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cnncore.data.copies.locks import LOCK, remove_unused

ORIGINS = "origins"


@dataclass(frozen=True)
class Origin:
    """A data set on this machine: its name with absolute paths, its data folder, its options.

    `skipped` counts unreadable pictures that are left out, `validation` the images of a validation
    split of its own.
    """

    name: str
    data_dir: str
    skip_unreadable: bool
    skipped: int = 0
    validation: int = 0

    @property
    def file_name(self) -> str:
        """Name of its file, which no other data set has."""
        content = f"{self.name}\0{self.data_dir}\0{self.skip_unreadable}"
        return f"{hashlib.sha256(content.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"


def note_origin(folder: Path, origin: Origin) -> None:
    """Note that a copy serves a data set; does nothing if the copy cannot be written."""
    with contextlib.suppress(OSError):
        (folder / ORIGINS).mkdir(exist_ok=True)
        (folder / LOCK).touch()
        path = folder / ORIGINS / origin.file_name
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(origin)), encoding="utf-8")
        temporary.replace(path)


def noted_origin(folder: Path, origin: Origin) -> Origin | None:
    """Return what a copy knows of a data set; None if it is not known to serve it."""
    try:
        text = (folder / ORIGINS / origin.file_name).read_text(encoding="utf-8")
        return Origin(**json.loads(text))
    except (OSError, ValueError, TypeError):
        return None


def leave_others(folders: Iterable[Path], origin: Origin) -> None:
    """Take a data set from these copies; remove those that serve no other and that nobody uses."""
    for folder in folders:
        path = folder / ORIGINS / origin.file_name
        with contextlib.suppress(OSError):
            if not path.exists():
                continue
            if all(other == path for other in path.parent.glob("*.json")):
                remove_unused(folder)
            else:
                path.unlink()

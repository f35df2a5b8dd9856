"""Short-lived folders on this machine's own disk, removed even after a process was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from grid.lock import process_started

PREFIX = "cnngrid-"


def scratch_folder() -> Path:
    """A new folder, with a short path, that no other user may read; whoever asks removes it.

    Folders of our processes that were killed before they could are removed first.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if (
                pid.isdigit()
                and folder.stat().st_uid == os.getuid()
                and not process_started(int(pid))
            ):
                shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))

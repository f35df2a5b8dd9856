"""Processes of this machine."""

from __future__ import annotations

import os


def process_exists(pid: int) -> bool:
    """Return whether a process of this id exists, whoever runs it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

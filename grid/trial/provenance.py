"""Provenance of a row: commit and host."""

from __future__ import annotations

import os
import socket
import subprocess
from functools import cache
from pathlib import Path

# Environment variable of a job: the commit of the folder it was launched from.
COMMIT = "CNNGRID_COMMIT"


@cache
def host() -> str:
    """Return this machine's name."""
    return socket.gethostname()


def git_commit(folder: Path) -> str | None:
    """Return the commit of `folder`'s repository, with `-dirty` if it has changes, else None.

    A job that runs in a copy of a folder takes it from its environment.
    """
    if commit := os.environ.get(COMMIT):
        return commit

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if git("status", "--porcelain", "--untracked-files=no") else commit

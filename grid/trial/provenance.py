"""What is needed to run a sweep again: commit, versions, host and the data's fingerprint."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

# Where a job finds the commit of the folder it was launched from.
COMMIT = "CNNGRID_COMMIT"
RECORDED = ("cnngrid", "torch", "torchvision", "ray", "optuna", "pyarrow", "numpy")


@cache
def versions() -> str:
    """Versions of Python and of what can change a number, as JSON; reads no library itself."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return json.dumps(found)


@cache
def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def git_commit(folder: Path) -> str | None:
    """Commit of the repository that `folder` is in, `-dirty` if it has changes; None without.

    A job that runs in a copy of a folder is told by its environment.
    """
    if told := os.environ.get(COMMIT):
        return told

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

"""Provenance of a row: commit, versions and host."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

# Environment variable of a job: the commit of the folder it was launched from.
COMMIT = "CNNGRID_COMMIT"
RECORDED = ("cnngrid", "torch", "torchvision", "ray", "optuna", "pyarrow", "numpy")


@cache
def versions(*packages: str | None) -> str:
    """Return the versions of Python and of the libraries that can change a number, as JSON.

    `packages` are others that networks are taken from, or that the user's own code imports; None
    stands for none. Imports none of them.
    """
    versions_of = {"python": platform.python_version()}
    for name in (*RECORDED, *filter(None, packages)):
        if name in sys.stdlib_module_names or name in versions_of:
            continue
        with suppress(metadata.PackageNotFoundError):
            versions_of[name] = metadata.version(name)
            continue
        for distribution in _distributions().get(name, ()) if name not in RECORDED else ():
            versions_of[distribution] = metadata.version(distribution)
    return json.dumps(versions_of)


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return the distributions that bring each importable name."""
    return metadata.packages_distributions()


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

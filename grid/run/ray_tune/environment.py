"""Ray's environment variables, set before its import, and a folder for its files."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from grid.errors import GridError
from grid.store.folder import Store
from grid.store.scratch import drop_scratch, scratch_folder

# The results folder is the only record, so Tune writes none of its own.
SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ray would print a page of its own records for every lost node; the driver prints a line.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    # Ray would run trials at low priority: any other load then slows their steps many times over,
    # because each step waits for its slowest thread, and times would differ from `--local`.
    "RAY_worker_niceness": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune would print a page for every lost trial; the driver prints a line.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
# A socket's path has at most 107 characters on Linux, 103 on a Mac; Ray's longest one is this below
# the folder of temporary files.
RAY_SOCKET = "/cnngrid-12345678/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
LONGEST_FOLDER = (103 if sys.platform == "darwin" else 107) - len(RAY_SOCKET)
# Used if the path of `TMPDIR` is too long.
SHORT_FOLDERS = ("/tmp", "/var/tmp")


def tune_folder(store: Store) -> Path:
    """Return the folder of Tune's files on a cluster; each driver of a store has its own."""
    return (store.run / f"ray-{socket.gethostname()}-{os.getpid()}").resolve()


@contextlib.contextmanager
def ray_environment(address: str | None) -> Iterator[Path]:
    """Set the variables while the block runs; yield a temporary folder.

    Its path is short, as Ray's sockets require, and no other user's Ray shares it. A Ray of our own
    follows none of the user's settings for another one, such as `RAY_ADDRESS`, and gets a token of
    its own: by default it would write a readable one into the home directory. For a cluster at
    `address` the user's settings of Ray stay, but those of Tune do not.
    """
    before = {name: os.environ.pop(name) for name in [*os.environ] if _harms(name, address)}
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    scratch = scratch_folder(_short_folder())
    try:
        if address is None:
            path = scratch / "token"
            path.touch(mode=0o600)
            path.write_text(_token())
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
        yield scratch
    finally:
        if address is None:
            del os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN_PATH"]
        os.environ.update(before)
        drop_scratch(scratch)


def _harms(name: str, address: str | None) -> bool:
    """Return whether a variable of the user's may spoil a run."""
    if not name.isupper():  # a limit of Ray's
        return False
    prefixes = ("TUNE_", "RAY_TUNE_") if address else ("TUNE_", "RAY_")
    return name in SETTINGS or name.startswith(prefixes)


def _short_folder() -> Path:
    """Return the folder of temporary files, or if its path is too long another one.

    Raises `GridError` if there is none.
    """
    usual = Path(tempfile.gettempdir())
    for folder in (usual, *map(Path, SHORT_FOLDERS)):
        if len(os.fsencode(folder)) <= LONGEST_FOLDER and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise GridError(
        f"TMPDIR: the path {usual} has {len(os.fsencode(usual))} characters, Ray's sockets allow "
        f"{LONGEST_FOLDER}, and {' and '.join(SHORT_FOLDERS)} cannot be written; set TMPDIR to a "
        "folder with a short path, or run with --local"
    )


@functools.cache
def _token() -> str:
    """Return the token of this process: Ray reads it once and keeps it."""
    return secrets.token_hex(32)

"""What must be in the environment before Ray is imported, and a folder for all that it writes."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from grid.store.folder import Store
from grid.store.scratch import drop_scratch, scratch_folder

# Our store is the only record, so Tune writes none of its own.
SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Of every node that is lost Ray would print a page of its own records; the driver says a line.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    # Ray would run trials at low priority: any other load then slows their steps many times over,
    # because each step waits for its slowest thread, and times would differ from `--local`.
    "RAY_worker_niceness": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The driver says in a line which trial was lost; Tune would print a page.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def tunes_folder(store: Store) -> Path:
    """Where Tune writes on a cluster; this driver's own, for others may share the folder."""
    return (store.run / f"ray-{socket.gethostname()}-{os.getpid()}").resolve()


@contextlib.contextmanager
def ray_environment(address: str | None) -> Iterator[Path]:
    """Set it up while the block runs; yields a short-lived folder with a short path, as Ray's
    sockets want, that no other user's Ray shares.

    A Ray of our own gets a token of its own: left alone it would write a readable one into the
    home directory. For a cluster at `address` the user's settings stay.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    scratch = scratch_folder()
    own_token = address is None and "RAY_AUTH_MODE" not in os.environ
    try:
        if own_token:
            path = scratch / "token"
            path.touch(mode=0o600)
            path.write_text(_token())
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
        yield scratch
    finally:
        if own_token:
            del os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN_PATH"]
        drop_scratch(scratch)


@functools.cache
def _token() -> str:
    """One token a process: Ray reads it once and keeps it."""
    return secrets.token_hex(32)

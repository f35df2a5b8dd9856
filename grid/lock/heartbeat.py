"""Whether a driver lives, seen by its process or by its heartbeat."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from grid.store.atomic import read_json
from grid.store.folder import Store

HEARTBEAT_S = 5.0
# How often a driver looks whether it is asked to stop.
LISTEN_S = 1.0
# A driver on another machine whose heartbeat has not changed for this long is taken for dead.
EXPIRES_S = 30.0
# One that seems to have been silent for this long is not watched first. Clocks of a cluster differ
# by less: munge, which Slurm relies on, refuses what is more than 5 minutes old.
LONG_DEAD_S = 600.0
# How often a driver on another machine is looked at while it may be dead.
POLL_S = 0.5
Read = Callable[[], dict[str, Any] | None]


class HeartbeatWatch:
    """Whether the driver that says something lives, seen by its heartbeat; `alive` is None while
    unsure.

    On this machine its process tells at once. On another what it says must change, or stay as it is
    for `patience_s`; only where it seems silent for very long is nothing waited for. `read` gives
    what it says now: None where it said nothing, empty where that cannot be read.
    """

    def __init__(self, read: Read, patience_s: float | None = None) -> None:
        self._read = read
        self.content = read() or {}
        self._patience_s = EXPIRES_S if patience_s is None else patience_s
        self._since = time.monotonic()
        self._moved = False

    @property
    def alive(self) -> bool | None:
        """True, False, or None where one must look again later."""
        content = self._read()
        if content is None:
            return False
        if content and is_here(content):
            self.content = content
            return process_lives(content)
        if content != self.content:
            self.content, self._since, self._moved = content, time.monotonic(), True
        if time.monotonic() - self._since >= self._patience_s:
            return False
        if self._moved:
            return True
        heartbeat = float(content.get("heartbeat", 0))
        return False if content and time.time() - heartbeat > LONG_DEAD_S else None


def in_file(path: Path) -> dict[str, Any] | None:
    content = read_json(path)
    return content if content or path.exists() else None


def watch_file(path: Path) -> HeartbeatWatch:
    """Watch the driver behind a file."""
    return HeartbeatWatch(partial(in_file, path))


def in_bucket(store: Store) -> Read:
    """What the driver of an object store says."""
    return lambda: store.read_run("driver.json") or None


def myself() -> dict[str, Any]:
    """What this driver says of itself."""
    return {
        "host": socket.gethostname(),
        "boot": boot(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "started_at": time.time(),
    }


def stop_this_process(*, now: bool) -> None:
    """Do what a user's Ctrl-C does, twice where it is to be at once."""
    os.kill(os.getpid(), signal.SIGTERM)
    if now:
        time.sleep(POLL_S)  # else the two are one
        os.kill(os.getpid(), signal.SIGTERM)


def process_lives(holder: dict[str, Any]) -> bool:
    """Whether a driver of this machine that left this still runs."""
    pid = holder.get("pid")
    return isinstance(pid, int) and process_started(pid) == holder.get("process_started")


def is_here(holder: dict[str, Any]) -> bool:
    """Whether a driver is on this machine; hosts far apart may have one name, but not one start."""
    start = holder.get("boot", boot())
    return holder.get("host") == socket.gethostname() and bool(start == boot())


def boot() -> str:
    """What the kernel calls this start of the machine; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def process_started(pid: int) -> str | None:
    """When a process of this machine started, in the kernel's ticks; None if it is gone.

    Together with the pid this names a process for good: pids are used again.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _exists(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]


def _exists(pid: int) -> str | None:
    """The same on a system without /proc: only whether the process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "?"
    return "?" if not Path("/proc/self").exists() else None

"""Heartbeats of drivers: a driver lives if its process runs, or elsewhere if its heartbeat changes.

A driver's file holds its machine, its process and the time of its last heartbeat.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from analysis.results.processes import process_exists
from grid.store.atomic import read_json
from grid.store.folder import Store

HEARTBEAT_S = 5.0
# How often a driver checks for a request to stop.
LISTEN_S = 1.0
# A driver on another machine whose heartbeat has not changed for this long counts as dead.
EXPIRES_S = 30.0
# A driver that seems silent for this long is not watched first. Clocks of a cluster differ by less:
# munge, which Slurm relies on, refuses messages that are more than 5 minutes old.
LONG_DEAD_S = 600.0
# How often a driver on another machine is looked at while it may be dead.
POLL_S = 0.5
Read = Callable[[], dict[str, Any] | None]


class HeartbeatWatch:
    """A watch on one driver: `alive` tells whether it lives, None while that is unsure.

    On this machine its process decides at once. On another machine its content must change, or stay
    the same for `patience_s`; only a driver that seems silent for very long is not waited for.
    `read` returns the content: None if there is none, empty if it is unreadable.
    """

    def __init__(self, read: Read, patience_s: float | None = None) -> None:
        self._read = read
        self.content = read() or {}
        self._patience_s = EXPIRES_S if patience_s is None else patience_s
        self._since = time.monotonic()
        self._changed = False

    @property
    def alive(self) -> bool | None:
        """True, False, or None if one must look again later."""
        content = self._read()
        if content is None:
            return False
        if content and is_here(content):
            self.content = content
            return process_lives(content)
        if content != self.content:
            self.content, self._since, self._changed = content, time.monotonic(), True
        if time.monotonic() - self._since >= self._patience_s:
            return False
        if self._changed:
            return True
        heartbeat = float(content.get("heartbeat", 0))
        return False if content and time.time() - heartbeat > LONG_DEAD_S else None


def read_driver(path: Path) -> dict[str, Any] | None:
    """Return the content of a driver's file: None if there is none, empty if it is unreadable."""
    content = _checked(read_json(path))
    return content if content or path.exists() else None


def read_bucket_driver(store: Store) -> dict[str, Any] | None:
    """Return what the driver of an object store wrote: None if it is absent or unreadable."""
    return _checked(store.read_run("driver.json")) or None


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """Return a driver's content, empty if it is not what a driver writes."""
    numbers = (content.get(key, 0.0) for key in ("heartbeat", "started_at"))
    right = (
        isinstance(content.get("host", ""), str)
        and isinstance(content.get("pid", 0), int)
        and all(isinstance(number, (int, float)) for number in numbers)
    )
    return content if right else {}


def watch_file(path: Path) -> HeartbeatWatch:
    """Watch the driver that writes a file."""
    return HeartbeatWatch(partial(read_driver, path))


@contextlib.contextmanager
def beating(beat: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `beat` in a thread of its own while the block runs; its event is set at the end."""
    ended = threading.Event()
    thread = threading.Thread(target=beat, args=(ended,), name="driver-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def this_driver() -> dict[str, Any]:
    """Return the content of this driver's file, without a heartbeat."""
    return {
        "host": socket.gethostname(),
        "boot": boot(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "started_at": time.time(),
    }


def stop_this_process(*, now: bool) -> None:
    """Send this process the signal of a user's Ctrl-C, twice if it must stop at once."""
    os.kill(os.getpid(), signal.SIGTERM)
    if now:
        time.sleep(POLL_S)  # else the two are one
        os.kill(os.getpid(), signal.SIGTERM)


def process_lives(driver: dict[str, Any]) -> bool:
    """Return whether the process of a driver of this machine still runs."""
    pid = driver.get("pid")
    return isinstance(pid, int) and process_started(pid) == driver.get("process_started")


def is_here(driver: dict[str, Any]) -> bool:
    """Return whether a driver is on this machine.

    Machines far apart may have the same name, but not the same boot.
    """
    start = driver.get("boot", boot())
    return driver.get("host") == socket.gethostname() and bool(start == boot())


def boot() -> str:
    """Return the kernel's id of this boot of the machine; empty if it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def process_started(pid: int) -> str | None:
    """Return the start of a process of this machine, in the kernel's ticks; None if it is gone.

    Together with the pid this names a process for good: pids are used again. If the kernel does not
    tell the start, as without /proc, it is "?".
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "?" if process_exists(pid) else None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]

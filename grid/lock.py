"""One driver at a time holds a results folder: `run/driver.json`, exclusive, with a heartbeat."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grid.errors import ResultsError
from grid.store import Store, read_json, write_whole

HEARTBEAT_S = 5.0
# How often a driver looks whether it is asked to stop.
LISTEN_S = 1.0
# A driver on another machine that has said nothing for this long is taken for dead.
EXPIRES_S = 30.0
# How often a driver on another machine is looked at while it may be dead.
POLL_S = 0.5


@contextlib.contextmanager
def hold(store: Store) -> Iterator[None]:
    """Hold the folder while the block runs. Raises `ResultsError` if another driver does."""
    if store.remote:
        from grid.bucket_lock import hold_bucket

        with hold_bucket(store):
            yield
        return
    path = store.run / "driver.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "started_at": time.time(),
    }
    _take(path, {**mine, "heartbeat": time.time()})
    ended = threading.Event()

    asked = store.run / "stop.json"
    asked.unlink(missing_ok=True)  # meant for an earlier driver

    def beat() -> None:
        beaten = time.monotonic()
        while not ended.wait(LISTEN_S):
            if asked.exists():
                _stop_here(asked)
            if time.monotonic() - beaten < HEARTBEAT_S:
                continue
            beaten = time.monotonic()
            # A full disk must not end the sweep here; the next write of a result will say so.
            with contextlib.suppress(Exception):
                content = json.dumps({**mine, "heartbeat": time.time()}).encode()
                write_whole(path, content, flush=False)

    thread = threading.Thread(target=beat, name="driver-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.unlink(missing_ok=True)
        asked.unlink(missing_ok=True)


def driver_alive(store: Store) -> dict[str, Any] | None:
    """The driver that holds the folder now, if one does."""
    holder = store.read_run("driver.json")
    return holder if holder and is_alive(holder) else None


def ask_to_stop(store: Store, *, now: bool) -> None:
    """Tell the driver of a folder, on whatever machine, to end in order, or at once."""
    store.write_file(store.run / "stop.json", json.dumps({"now": now}).encode())


def _stop_here(asked: Path) -> None:
    now = bool(read_json(asked).get("now"))
    asked.unlink(missing_ok=True)
    stop_this_process(now=now)


def stop_this_process(*, now: bool) -> None:
    """Do what a user's Ctrl-C does, twice where it is to be at once."""
    os.kill(os.getpid(), signal.SIGTERM)
    if now:
        time.sleep(POLL_S)  # else the two are one
        os.kill(os.getpid(), signal.SIGTERM)


def _take(path: Path, content: dict[str, Any]) -> None:
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            holder = read_json(path)
            # A file just created may still be empty: give its writer the benefit of the doubt.
            fresh = not holder and _age_s(path) < HEARTBEAT_S
            if fresh or (holder and is_alive(holder) and not _falls_silent(path, holder)):
                raise ResultsError(
                    f"{path.parent.parent}: another driver holds this folder "
                    f"(process {holder.get('pid', '?')} on {holder.get('host', '?')}); wait for "
                    "it, or stop it"
                ) from None
            _remove_dead(path, holder)
        else:
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file)
            return
    raise ResultsError(f"{path.parent.parent}: another driver took this folder just now")


def _falls_silent(path: Path, holder: dict[str, Any]) -> bool:
    """Watch a driver on another machine: killed a moment ago, it looks alive until it expires."""
    if holder.get("host") == socket.gethostname():
        return False
    while is_alive(holder):
        time.sleep(POLL_S)
        if read_json(path) not in ({}, holder):
            return False
    return True


def _remove_dead(path: Path, holder: dict[str, Any]) -> None:
    """Move a dead holder's file away; of several drivers that see it, renaming lets one win."""
    aside = path.with_name(f"driver-dead-{os.getpid()}.json")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if read_json(aside) != holder:  # another driver was quicker: this file is already its own
            os.replace(aside, path)
        aside.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def is_alive(holder: dict[str, Any]) -> bool:
    """Whether a driver that left this in `run/driver.json` still runs, as far as can be told."""
    if is_here(holder):
        pid = holder.get("pid")
        return isinstance(pid, int) and process_started(pid) == holder.get("process_started")
    return time.time() - float(holder.get("heartbeat", 0)) < EXPIRES_S


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

"""Drivers of a results folder: one alone, or several that share it, each with a heartbeat.

A driver alone holds `run/driver.json`. Drivers that share have a file each under `run/drivers/`
and take units of work (`grid/lock/share.py`). Clocks of machines differ, so a driver on another
machine is judged by whether its heartbeat changes, on our own clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from grid.errors import ResultsError, StoreError
from grid.lock.bucket import hold_bucket
from grid.lock.heartbeat import (
    EXPIRES_S,
    HEARTBEAT_S,
    LISTEN_S,
    POLL_S,
    HeartbeatWatch,
    beating,
    read_bucket_driver,
    read_driver,
    stop_this_process,
    this_driver,
    watch_file,
)
from grid.store.atomic import read_json, storing, write_whole
from grid.store.folder import Store


@contextlib.contextmanager
def hold(store: Store) -> Iterator[None]:
    """Hold the folder alone while the block runs. Raises `ResultsError` if another driver works."""
    if not store.files.exclusive_create:
        with hold_bucket(store):
            yield
        return
    path = store.run / "driver.json"
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        driver = this_driver()
        _take(path, {**driver, "heartbeat": time.time()})
    with _beating(store, path, driver):
        if (holder := _living(_sharing(store))) is not None:
            raise _held(store.folder, holder, "shares")
        shutil.rmtree(store.run / "taken", ignore_errors=True)  # left by dead drivers
        yield


@contextlib.contextmanager
def join(store: Store) -> Iterator[str]:
    """Work on the folder beside others that joined it; yields this driver's name there.

    Raises `ResultsError` if a driver holds the folder alone.
    """
    driver = this_driver()
    path = driver_file(store, _name(driver))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({**driver, "heartbeat": time.time()}).encode(), flush=False)
    with _beating(store, path, driver):
        if (holder := _living([store.run / "driver.json"])) is not None:
            raise _held(store.folder, holder, "holds")
        yield path.stem


def driver_file(store: Store, name: str) -> Path:
    """Return the file of a driver that shares the folder."""
    return store.run / "drivers" / f"{name}.json"


def drivers_alive(store: Store) -> list[dict[str, Any]]:
    """Return the drivers that work on the folder now: none, one, or several that share it.

    A user does not want to wait, so a heartbeat is believed if its clock seems to be ours.
    """
    reads = (
        [partial(read_driver, path) for path in (store.run / "driver.json", *_sharing(store))]
        if store.files.exclusive_create
        else [partial(read_bucket_driver, store)]
    )
    drivers = []
    for read in reads:
        watch = HeartbeatWatch(read, HEARTBEAT_S + LISTEN_S)
        ours = abs(time.time() - float(watch.content.get("heartbeat", 0))) < EXPIRES_S
        while (alive := watch.alive) is None and not ours:
            time.sleep(POLL_S)
        if watch.content and alive is not False:
            drivers.append(watch.content)
    return drivers


def ask_to_stop(store: Store, *, now: bool) -> None:
    """Ask the drivers of a folder, on any machine, to end in order, or at once."""
    request = json.dumps({"now": now}).encode()
    if not store.files.exclusive_create:
        store.files.write(store.run / "stop.json", request)
        return
    for path in (store.run / "driver.json", *_sharing(store)):
        if path.exists():
            write_whole(path.with_suffix(".stop"), request)


@contextlib.contextmanager
def _beating(store: Store, path: Path, driver: dict[str, Any]) -> Iterator[None]:
    """Renew the heartbeat in a driver's file, and obey its stop file, while the block runs."""
    request = path.with_suffix(".stop")
    request.unlink(missing_ok=True)  # meant for an earlier driver

    def beat(ended: threading.Event) -> None:
        heartbeat_at = time.monotonic()
        while not ended.wait(LISTEN_S):
            if request.exists():
                _stop_here(request)
            if time.monotonic() - heartbeat_at < HEARTBEAT_S:
                continue
            heartbeat_at = time.monotonic()
            # A full disk, or results that are gone, must not end the sweep here; the next write of
            # a result raises.
            with contextlib.suppress(Exception):
                store.files.check_present()
                content = json.dumps({**driver, "heartbeat": time.time()}).encode()
                write_whole(path, content, flush=False)

    try:
        with beating(beat):
            yield
    finally:
        with contextlib.suppress(OSError):  # the disk may be read-only by now
            path.unlink(missing_ok=True)
            request.unlink(missing_ok=True)


def let_go(store: Store) -> None:
    """Release the folder, for a driver that ends without leaving its `hold` or `join` block."""
    if not store.files.exclusive_create:
        with contextlib.suppress(StoreError):  # else it expires
            store.files.remove(store.run / "driver.json")
        return
    driver = this_driver()
    for path in (store.run / "driver.json", driver_file(store, _name(driver))):
        if read_json(path).get("pid") == driver["pid"]:
            path.unlink(missing_ok=True)


def _name(driver: dict[str, Any]) -> str:
    return f"{driver['host']}-{driver['pid']}"


def _sharing(store: Store) -> list[Path]:
    return sorted((store.run / "drivers").glob("*.json"))


def _held(folder: Path, holder: dict[str, Any], verb: str) -> ResultsError:
    return ResultsError(
        f"{folder}: another driver {verb} this folder (process {holder.get('pid', '?')} on "
        f"{holder.get('host', '?')}); wait for it, or stop it: cnngrid stop {folder}"
    )


def _stop_here(request: Path) -> None:
    now = bool(read_json(request).get("now"))
    request.unlink(missing_ok=True)
    stop_this_process(now=now)


def _living(paths: Iterable[Path]) -> dict[str, Any] | None:
    """Return a driver of these files that lives; if none does, remove the files."""
    watches = {path: watch_file(path) for path in paths if path.exists()}
    while True:
        alive = {path: watch.alive for path, watch in watches.items()}
        for path, lives in alive.items():
            if lives:
                return watches[path].content
        if None not in alive.values():
            break
        time.sleep(POLL_S)
    for path, watch in watches.items():
        _remove_dead(path, watch.content)
    return None


def _take(path: Path, content: dict[str, Any]) -> None:
    """Create a driver's file exclusively, after removing a dead driver's."""
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            watch = watch_file(path)
            while watch.alive is None:
                time.sleep(POLL_S)
            if watch.alive:
                raise _held(path.parent.parent, watch.content, "holds") from None
            _remove_dead(path, watch.content)
        else:
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file)
            return
    raise ResultsError(f"{path.parent.parent}: another driver took this folder just now")


def _remove_dead(path: Path, holder: dict[str, Any]) -> None:
    """Move a dead holder's file away; of several drivers that see it, renaming lets one win."""
    aside = path.with_name(f"{path.stem}-dead-{socket.gethostname()}-{os.getpid()}.json")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if read_json(aside) != holder:  # another driver was quicker: this file is already its own
            os.replace(aside, path)
        aside.unlink(missing_ok=True)

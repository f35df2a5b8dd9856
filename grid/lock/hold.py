"""Who works on a results folder: one driver, or several that share it, each with a heartbeat.

A driver alone holds `run/driver.json`; drivers that share have a file each under `run/drivers/`
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
from grid.lock.heartbeat import (
    EXPIRES_S,
    HEARTBEAT_S,
    LISTEN_S,
    POLL_S,
    HeartbeatWatch,
    in_bucket,
    in_file,
    myself,
    stop_this_process,
    watch_file,
)
from grid.store.atomic import read_json, storing, write_whole
from grid.store.folder import Store


@contextlib.contextmanager
def hold(store: Store) -> Iterator[None]:
    """Hold the folder alone while the block runs. Raises `ResultsError` if another driver works."""
    if store.remote:
        from grid.lock.bucket import hold_bucket

        with hold_bucket(store):
            yield
        return
    path = store.run / "driver.json"
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = myself()
        _take(path, {**mine, "heartbeat": time.time()})
    with _beating(path, mine):
        if (holder := _living(_sharing(store))) is not None:
            raise _held(store, holder, "shares")
        shutil.rmtree(store.run / "taken", ignore_errors=True)  # what dead ones had
        yield


@contextlib.contextmanager
def join(store: Store) -> Iterator[str]:
    """Work on the folder beside others that joined it; yields this driver's name there.

    Raises `ResultsError` if a driver holds the folder alone.
    """
    mine = myself()
    path = driver_file(store, _name(mine))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({**mine, "heartbeat": time.time()}).encode(), flush=False)
    with _beating(path, mine):
        if (holder := _living([store.run / "driver.json"])) is not None:
            raise _held(store, holder, "holds")
        yield path.stem


def driver_file(store: Store, name: str) -> Path:
    """File of a driver that shares the folder."""
    return store.run / "drivers" / f"{name}.json"


def drivers_alive(store: Store) -> list[dict[str, Any]]:
    """The drivers that work on the folder now: none, one, or several that share it.

    For people, who do not want to wait: where its clock seems to be ours a heartbeat is believed.
    """
    paths = [store.run / "driver.json", *_sharing(store)]
    reads = [in_bucket(store)] if store.remote else [partial(in_file, path) for path in paths]
    found = []
    for read in reads:
        watch = HeartbeatWatch(read, HEARTBEAT_S + LISTEN_S)
        ours = abs(time.time() - float(watch.content.get("heartbeat", 0))) < EXPIRES_S
        while (alive := watch.alive) is None and not ours:
            time.sleep(POLL_S)
        if watch.content and alive is not False:
            found.append(watch.content)
    return found


def ask_to_stop(store: Store, *, now: bool) -> None:
    """Tell the drivers of a folder, on whatever machine, to end in order, or at once."""
    word = json.dumps({"now": now}).encode()
    if store.remote:
        store.write_file(store.run / "stop.json", word)
    for path in (store.run / "driver.json", *_sharing(store)):
        if path.exists():
            write_whole(path.with_suffix(".stop"), word)


@contextlib.contextmanager
def _beating(path: Path, mine: dict[str, Any]) -> Iterator[None]:
    """Renew the heartbeat in a driver's file, and heed its stop file, while the block runs."""
    ended = threading.Event()
    asked = path.with_suffix(".stop")
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
        with contextlib.suppress(OSError):  # the disk may be read-only by now
            path.unlink(missing_ok=True)
            asked.unlink(missing_ok=True)


def let_go(store: Store) -> None:
    """Give the folder back, for a driver that ends without leaving its `hold` or `join` block."""
    if store.remote:
        with contextlib.suppress(StoreError):  # else it expires
            store.remove(store.run / "driver.json")
        return
    mine = myself()
    for path in (store.run / "driver.json", driver_file(store, _name(mine))):
        if read_json(path).get("pid") == mine["pid"]:
            path.unlink(missing_ok=True)


def _name(driver: dict[str, Any]) -> str:
    return f"{driver['host']}-{driver['pid']}"


def _sharing(store: Store) -> list[Path]:
    return sorted((store.run / "drivers").glob("*.json"))


def _held(store: Store, holder: dict[str, Any], verb: str) -> ResultsError:
    return ResultsError(
        f"{store.folder}: another driver {verb} this folder (process {holder.get('pid', '?')} on "
        f"{holder.get('host', '?')}); wait for it, or stop it: cnngrid stop {store.folder}"
    )


def _stop_here(asked: Path) -> None:
    now = bool(read_json(asked).get("now"))
    asked.unlink(missing_ok=True)
    stop_this_process(now=now)


def _living(paths: Iterable[Path]) -> dict[str, Any] | None:
    """A driver that lives behind one of these files; where none does the files are removed."""
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
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            watch = watch_file(path)
            while watch.alive is None:
                time.sleep(POLL_S)
            if watch.alive:
                raise _held(Store(path.parent.parent), watch.content, "holds") from None
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

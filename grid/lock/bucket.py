"""One driver at a time where no file can be created exclusively: an object store.

`run/driver.json` is read, written, and read again a moment later. Of two drivers that start in the
same moment the one that wrote last stays. A driver that finds another's name there stops itself,
so two never go on for longer than a heartbeat; and what both wrote meanwhile is the same, because
a trial's numbers do not depend on who runs it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

from grid.errors import ResultsError, StoreError
from grid.lock.heartbeat import (
    EXPIRES_S,
    POLL_S,
    HeartbeatWatch,
    in_bucket,
    is_here,
    myself,
    process_lives,
    stop_this_process,
)
from grid.store.folder import Store
from grid.store.open import open_store

log = logging.getLogger(__name__)

# How often a driver says that it lives, and how often it looks whether it is to stop.
HEARTBEAT_S = 5.0
LISTEN_S = 1.0
# After writing its name a driver waits so long for another that read before that.
SETTLE_S = 1.5
# What this process holds now: it may have lost results earlier and could not say so.
_held: set[str] = set()


@contextlib.contextmanager
def hold_bucket(store: Store) -> Iterator[None]:
    """Hold the results while the block runs. Raises `ResultsError` if another driver does."""
    mine = {**myself(), "name": secrets.token_hex(8)}
    own = _impatient(store)
    try:
        _take(own, mine)
    except StoreError as problem:
        raise ResultsError(str(problem)) from None
    _held.add(mine["name"])
    ended = threading.Event()
    thread = threading.Thread(
        target=_beat, args=(own, mine, ended), name="driver-heartbeat", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _held.discard(mine["name"])
        with contextlib.suppress(StoreError):  # else it expires
            if own.read_run("driver.json").get("name") == mine["name"]:
                own.remove(own.run / "driver.json", own.run / "stop.json")
        own.close()


def _impatient(store: Store) -> Store:
    """The same results, opened for a thread that must not wait for a lost connection."""
    from grid.store.bucket import BucketStore

    own = open_store(store.location)
    assert isinstance(own, BucketStore)
    own.bucket.patience_s = 0.0
    return own


def _take(store: Store, mine: dict[str, Any]) -> None:
    watch = HeartbeatWatch(in_bucket(store))
    while (alive := watch.alive) is None:
        time.sleep(POLL_S)
    holder = watch.content
    lost = holder.get("pid") == os.getpid() and holder.get("name") not in _held
    if alive and not (is_here(holder) and lost):
        raise ResultsError(
            f"{store.display_name}: another driver holds these results "
            f"(process {holder.get('pid', '?')} on {holder.get('host', '?')}); wait for it, or "
            "stop it"
        )
    _say(store, mine)
    time.sleep(SETTLE_S)
    if store.read_run("driver.json").get("name") != mine["name"]:
        raise ResultsError(f"{store.display_name}: another driver took these results just now")
    store.remove(store.run / "stop.json")  # meant for an earlier driver


def _say(store: Store, mine: dict[str, Any]) -> None:
    content = json.dumps({**mine, "heartbeat": time.time()}).encode()
    store.write_file(store.run / "driver.json", content)


def _beat(store: Store, mine: dict[str, Any], ended: threading.Event) -> None:
    beaten = time.monotonic()
    while not ended.wait(LISTEN_S):
        # A lost connection must not end the sweep here; the next write of a result says so.
        with contextlib.suppress(StoreError):
            if asked := store.read_run("stop.json"):
                store.remove(store.run / "stop.json")
                stop_this_process(now=bool(asked.get("now")))
            if time.monotonic() - beaten < HEARTBEAT_S:
                continue
            holder = store.read_run("driver.json")
            other = holder.get("name", mine["name"]) != mine["name"]
            if other and (process_lives(holder) or not is_here(holder)):
                log.warning(
                    "%s: process %s on %s took these results over, after %g s without a word from "
                    "this driver; it stops",
                    *(store.display_name, holder.get("pid"), holder.get("host"), EXPIRES_S),
                )
                stop_this_process(now=False)
                return
            _say(store, mine)
            beaten = time.monotonic()

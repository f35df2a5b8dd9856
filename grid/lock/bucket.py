"""One driver at a time in an object store, which cannot create an object exclusively.

A driver reads `run/driver.json`, writes it, and reads it again a moment later. Of two drivers that
start in the same moment the one that wrote last stays. A driver that finds another's name there
stops itself, so two never go on for longer than a heartbeat. Both write the same results meanwhile,
because a trial's numbers do not depend on who runs it.
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
from functools import partial
from typing import Any

from grid.errors import ResultsError, StoreError
from grid.lock.heartbeat import (
    EXPIRES_S,
    HEARTBEAT_S,
    LISTEN_S,
    POLL_S,
    HeartbeatWatch,
    beating,
    is_here,
    process_lives,
    read_bucket_driver,
    stop_this_process,
    this_driver,
)
from grid.store.folder import Store
from grid.store.open import open_store

log = logging.getLogger(__name__)

# After it wrote its name a driver waits this long for another that read before that.
SETTLE_S = 1.5
# Names under which this process holds results. It may have lost others and could not remove its
# file there.
_held: set[str] = set()


@contextlib.contextmanager
def hold_bucket(store: Store) -> Iterator[None]:
    """Hold the results while the block runs. Raises `ResultsError` if another driver does."""
    driver = {**this_driver(), "name": secrets.token_hex(8)}
    # Opened again for a thread that must not wait for a lost connection.
    impatient = open_store(store.location, patience_s=0.0)
    try:
        _take(impatient, driver)
    except StoreError as problem:
        raise ResultsError(str(problem)) from None
    _held.add(driver["name"])
    try:
        with beating(partial(_beat, impatient, driver)):
            yield
    finally:
        _held.discard(driver["name"])
        with contextlib.suppress(StoreError):  # else it expires
            if impatient.read_run("driver.json").get("name") == driver["name"]:
                impatient.files.remove(impatient.run / "driver.json", impatient.run / "stop.json")
        impatient.close()


def _take(store: Store, driver: dict[str, Any]) -> None:
    watch = HeartbeatWatch(partial(read_bucket_driver, store))
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
    _write_heartbeat(store, driver)
    time.sleep(SETTLE_S)
    if store.read_run("driver.json").get("name") != driver["name"]:
        raise ResultsError(f"{store.display_name}: another driver took these results just now")
    store.files.remove(store.run / "stop.json")  # meant for an earlier driver


def _write_heartbeat(store: Store, driver: dict[str, Any]) -> None:
    content = json.dumps({**driver, "heartbeat": time.time()}).encode()
    store.files.write(store.run / "driver.json", content)


def _beat(store: Store, driver: dict[str, Any], ended: threading.Event) -> None:
    """Renew the heartbeat, and obey requests to stop, until the event is set."""
    heartbeat_at = time.monotonic()
    while not ended.wait(LISTEN_S):
        # A lost connection must not end the sweep here; the next write of a result raises.
        with contextlib.suppress(StoreError):
            if request := store.read_run("stop.json"):
                store.files.remove(store.run / "stop.json")
                stop_this_process(now=bool(request.get("now")))
            if time.monotonic() - heartbeat_at < HEARTBEAT_S:
                continue
            holder = store.read_run("driver.json")
            other = holder.get("name", driver["name"]) != driver["name"]
            if other and (process_lives(holder) or not is_here(holder)):
                log.warning(
                    "%s: process %s on %s took these results over, after %g s without a word from "
                    "this driver; it stops",
                    *(store.display_name, holder.get("pid"), holder.get("host"), EXPIRES_S),
                )
                stop_this_process(now=False)
                return
            _write_heartbeat(store, driver)
            heartbeat_at = time.monotonic()

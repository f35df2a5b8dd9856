"""Watch over the head of a Ray cluster: if it is gone, the driver ends in order.

Ray itself would wait for a minute and then end the process in the middle of its work.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from grid.errors import HeadLost
from grid.lock.hold import let_go
from grid.run.ray_tune.environment import tune_folder
from grid.screen import print

if TYPE_CHECKING:
    from grid.run.driver import Driver

# Time without an answer after which the head counts as gone: below Ray's own minute, and long
# enough for a short failure of the network. A cluster whose head restarts by itself needs more.
GONE_S = float(os.environ.get("CNNGRID_HEAD_TIMEOUT_S", "30"))
LOOK_EVERY_S = 1.0
CONNECT_WITHIN_S = 5.0
# Time for the driver to end by itself once the head is gone.
END_WITHIN_S = 5.0


@contextlib.contextmanager
def head_watched(driver: Driver, address: str) -> Iterator[None]:
    """End the driver if the head at `address` no longer answers while the block runs."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        answered_at = time.monotonic()
        while not ended.wait(LOOK_EVERY_S):
            if _answers(host, int(port)):
                answered_at = time.monotonic()
            elif time.monotonic() - answered_at >= GONE_S:
                _end(driver, address, ended)
                return

    threading.Thread(target=watch, name="head-watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), CONNECT_WITHIN_S).close()
    except OSError:
        return False
    return True


def _end(driver: Driver, address: str, ended: threading.Event) -> None:
    problem = HeadLost(
        f"--address {address}: the head of the Ray cluster has not answered for {GONE_S:.0f} s; "
        "what finished is kept: start Ray again and run the same command"
    )
    driver.fail(problem)
    if ended.wait(END_WITHIN_S):
        return
    # The main thread waits for an answer of the head and reacts to nothing else, not even a signal.
    for trial_id in [*driver.running]:
        with contextlib.suppress(Exception):
            driver.store.claims.silence(trial_id)
    shutil.rmtree(tune_folder(driver.store), ignore_errors=True)
    let_go(driver.store)
    driver.display.console.show_cursor(True)
    print(f"cnngrid: {problem}", file=sys.stderr, flush=True)
    os._exit(problem.exit_code)

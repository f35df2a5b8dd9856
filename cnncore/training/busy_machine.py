"""A watch over the processors: OpenMP's threads stop spinning while the machine has other work.

Between two parallel regions GNU OpenMP's threads spin for some milliseconds before they sleep. On
a quiet machine that saves a fifth of the time of a small network; where another process wants the
same processors it takes up to nine tenths of it, because a thread that spins holds the processor
that a thread with work waits for. libgomp itself spins almost not at all (100 rounds in place of
300,000) while it has more threads than there are processors; see GOMP_SPINCOUNT in its manual.
So the watch reads how long this process's threads wait for a processor, and while that is long it
keeps idle threads of its own, as many as it takes. The number of threads that train, and so every
number, stays as it is (`benchmarks/training/bench_busy.py`).
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

from cnncore.training.openmp import openmp

# Seconds between two looks.
LOOK_S = 0.5
# Share of its time for which a thread waits for a processor: above the first the machine is busy,
# below the second it is quiet. Measured with two threads on two processors: 0.03 with nothing
# beside, 0.35 with one busy process.
BUSY, QUIET = 0.15, 0.08


class BusyWatch:
    """A thread that looks at the processors from `start` to `stop`, for one trial.

    Does nothing where the kernel does not tell how long threads wait, as on other systems than
    Linux.
    """

    def __init__(self, threads: int) -> None:
        """`threads` is the number of threads that train; one alone never spins."""
        self.wait_share: float | None = None
        self._threads = threads
        self._crowd: Crowd | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="busy-watch", daemon=True)

    @property
    def busy(self) -> bool:
        """True while threads wait long for a processor."""
        return self.wait_share is not None and self.wait_share > BUSY

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch and its idle threads."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        last = waited_s()
        at = time.monotonic()
        while last is not None and not self._over.wait(LOOK_S):
            now, waited = time.monotonic(), waited_s()
            if waited is None:
                break
            self.wait_share = max(waited - last, 0.0) / (now - at) / self._threads
            last, at = waited, now
            if self._threads > 1:
                self._follow(self.wait_share)
        if self._crowd:
            self._crowd.leave()

    def _follow(self, wait_share: float) -> None:
        if self._crowd is None and wait_share > BUSY:
            self._crowd = Crowd()
        elif self._crowd is not None and wait_share < QUIET:
            self._crowd.leave()
            self._crowd = None


class Crowd:
    """Idle threads of OpenMP: with those that train, more than there are processors."""

    def __init__(self) -> None:
        self._over = threading.Event()
        here = threading.Event()
        self._thread = threading.Thread(
            target=self._stay, args=(here,), name="busy-crowd", daemon=True
        )
        self._thread.start()
        here.wait()

    def leave(self) -> None:
        """End the threads."""
        self._over.set()
        self._thread.join()

    def _stay(self, here: threading.Event) -> None:
        # A pool of threads belongs to the thread that opened a parallel region and ends with it.
        if library := openmp():
            nothing = ctypes.cast(
                ctypes.CDLL(None).free, ctypes.c_void_p
            )  # free(NULL) does nothing
            library.GOMP_parallel(nothing, None, _processors(), 0)
        here.set()
        self._over.wait()


def waited_s() -> float | None:
    """Return the seconds for which this process's threads waited for a processor, in all.

    None if the kernel does not tell. A thread that has ended no longer counts.
    """
    try:
        tasks = os.listdir("/proc/self/task")
    except OSError:
        return None
    total = None
    for task in tasks:
        try:
            fields = Path(f"/proc/self/task/{task}/schedstat").read_text().split()
            total = (total or 0.0) + int(fields[1]) / 1e9
        except (OSError, IndexError, ValueError):
            continue
    return total


def _processors() -> int:
    return len(os.sched_getaffinity(0))

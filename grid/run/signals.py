"""The signals that end a sweep in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from grid.errors import StoppedAtOnce

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopSignals:
    """Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP: the first ends the sweep in order, the second at once.

    A terminal that closes may send SIGHUP twice, so that one never counts as the second. If it is
    ignored from the start, as under `nohup`, it stays ignored.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        """Write what happens to `note`."""
        self.received = False
        self._note = note
        self._installed: tuple[signal.Signals, ...] = ()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals while the block runs; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        if before[signal.SIGHUP] is signal.SIG_IGN:
            del before[signal.SIGHUP]
        self._installed = tuple(before)
        self.reinstall()
        try:
            yield
        finally:
            self._installed = ()
            for number, handler in before.items():
                signal.signal(number, handler)

    def reinstall(self) -> None:
        """Put the handlers back: `ray.init` and Tune replace them by their own."""
        for number in self._installed:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGHUP:
            return
        if self.received:
            raise StoppedAtOnce
        self.received = True
        self._note("stopping: finished work is kept; press Ctrl-C again to stop at once")


@contextmanager
def hangup_ignored() -> Iterator[None]:
    """Let processes that start while the block runs ignore SIGHUP: a driver ends its own in order.

    A terminal that closes signals all processes of its command.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)

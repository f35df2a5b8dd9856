"""The signals that end a sweep in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Ctrl-C, SIGTERM and SIGUSR1: the first one ends the sweep in order, the second at once."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """Write what happens to `note`."""
        self.received = False
        self._note = note
        self._installed = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals while the block runs; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = [signal.getsignal(number) for number in SIGNALS]
        self._installed = True
        self.reinstall()
        try:
            yield
        finally:
            self._installed = False
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)

    def reinstall(self) -> None:
        """Put the handlers back: `ray.init` and Tune replace them by their own."""
        if self._installed:
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
        self._note("stopping: finished work is kept; press Ctrl-C again to stop at once")

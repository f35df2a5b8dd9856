"""Signals that end a sweep in order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from grid.run.signals import StopSignals


@pytest.fixture(autouse=True)
def hangup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_ends_in_order_however_often_it_says_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests were started with
    notes: list[str] = []
    signals = StopSignals(notes.append)
    with signals.installed():
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert len(notes) == 1


def test_under_nohup_a_closed_terminal_changes_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = StopSignals(print)
    with signals.installed():
        signals.reinstall()
        os.kill(os.getpid(), signal.SIGHUP)
        assert not signals.received
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

"""Waiting threads on a machine with other work."""

from __future__ import annotations

import os
import sys
import time

import pytest
import torch
from torch import nn

from cnncore.training import busy_machine
from cnncore.training.busy_machine import BUSY, QUIET, BusyWatch, Crowd
from cnncore.training.openmp import openmp

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def gradients() -> list[torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Flatten(), nn.LazyLinear(5))
    loss = network(torch.randn(64, 3, 16, 16)).square().sum()
    return list(torch.autograd.grad(loss, list(network.parameters())))


def test_a_crowd_changes_no_bit_and_leaves_no_thread() -> None:
    assert openmp(), "torch's OpenMP has another name now"
    before_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = gradients()
        quiet = threads()
        crowd = Crowd()
        # A thread that holds the others, and one fewer than there are processors.
        assert threads() == quiet + len(os.sched_getaffinity(0))
        beside = gradients()
        crowd.leave()
        end = time.monotonic() + 60
        while threads() > quiet and time.monotonic() < end:
            time.sleep(0.01)
        assert threads() == quiet
    finally:
        torch.set_num_threads(before_threads)
    assert all(map(torch.equal, alone, beside))


def test_a_watch_follows_the_machine_and_does_not_flutter(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = [0.0]
    looks = iter([0.0, 0.9 * BUSY, 2 * BUSY, (BUSY + QUIET) / 2, 0.5 * QUIET])
    crowded: list[bool] = []

    class Clock:
        """A second and a look at each call."""

        now = 0.0

        def monotonic(self) -> float:
            Clock.now += 1.0
            return Clock.now

    def wait(_: float) -> bool:
        crowded.append(watch._crowd is not None)
        if (share := next(looks, None)) is None:
            return True
        waited[0] += share * 2  # of two threads
        return False

    monkeypatch.setattr(busy_machine, "time", Clock())
    monkeypatch.setattr(busy_machine, "waited_s", lambda: waited[0])
    watch = BusyWatch(2)
    monkeypatch.setattr(watch._over, "wait", wait)
    watch.start()
    watch._thread.join()
    assert crowded == [False, False, False, True, True, False]


def test_waiting_for_a_processor_is_seen() -> None:
    assert busy_machine.waited_s() is not None

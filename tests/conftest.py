"""The order of all tests, and their threads."""

from __future__ import annotations

import os

import pytest

# Several workers whose operations wait for several threads each would mostly wait. Set before
# torch is loaded; what a trial is told by `cpus` is set by itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LONG = ("slurm", "slow", "ray")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: workers that run out of short ones take some over (`--dist worksteal`)."""
    items.sort(key=lambda item: [item.get_closest_marker(mark) is None for mark in LONG])

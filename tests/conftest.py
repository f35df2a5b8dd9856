"""The order of all tests, and their threads."""

from __future__ import annotations

import os

import pytest

# Several workers with several threads each would mostly wait for each other. Set before torch
# is loaded; a trial sets the number of threads from `cpus` itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LONG = ("slurm", "slow", "ray")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long tests first: workers without short ones take over some (`--dist worksteal`)."""
    items.sort(key=lambda item: [item.get_closest_marker(mark) is None for mark in LONG])

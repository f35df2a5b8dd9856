"""The order of all tests, and their threads."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

import pytest

# Several workers with several threads each would mostly wait for each other. Set before torch
# is loaded; a trial sets the number of threads from `cpus` itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What earlier commands of this user cached changes no test, and no test fills the user's cache.
# Workers of pytest-xdist take the folder of the process that started them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="cnngrid-tests-")
    os.environ["XDG_CACHE_HOME"] = CACHE.name

LONG = ("slurm", "slow", "ray")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long tests first: workers without short ones take over some (`--dist worksteal`)."""
    items.sort(key=lambda item: [item.get_closest_marker(mark) is None for mark in LONG])


@pytest.fixture(autouse=True)
def original_modules() -> Iterator[None]:
    """Import the user's modules from their files again: a trial leaves its stored copy in use."""
    yield
    if "cnncore.own_modules" in sys.modules:
        from cnncore.own_modules import use

        use(None)

"""The order of all tests."""

from __future__ import annotations

import pytest

LONG = ("slurm", "slow", "ray")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: workers that run out of short ones take some over (`--dist worksteal`)."""
    items.sort(key=lambda item: [item.get_closest_marker(mark) is None for mark in LONG])

"""Threads are as many as a trial was given, whatever the environment says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, torch
from cnncore.training.openmp import use_threads
def threads(): return len(os.listdir("/proc/self/task"))
use_threads(2)
before = threads()
torch.ones(1_000_000).exp()
print(threads() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OMP_DYNAMIC", "true", "1"),
        ("OMP_THREAD_LIMIT", "1", "OMP_THREAD_LIMIT=1 in the environment allows fewer threads"),
    ],
)
def test_the_environment_makes_threads_no_fewer(variable: str, value: str, says: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, variable: value, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert says in (result.stdout or result.stderr)

"""The folder for Ray's files: its owner, and its removal."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from grid.run.ray_tune.environment import ray_environment

HOLD = """
import sys
from grid.run.ray_tune.environment import ray_environment
with ray_environment("10.0.0.1:6379") as scratch:
    print(scratch, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_only_the_folders_of_processes_that_are_gone_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    other_folder = Path(other.stdout.readline().strip())
    assert other_folder.parent == tmp_path
    with ray_environment("10.0.0.1:6379") as own_folder:
        assert other_folder.is_dir()
        other.send_signal(signal.SIGKILL)
        other.communicate()
        with ray_environment("10.0.0.1:6379"):
            assert own_folder.is_dir()
            assert not other_folder.exists()
    assert not list(tmp_path.iterdir())

"""The folder for Ray's files: its owner, and its removal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from grid.errors import GridError
from grid.run.ray_tune.environment import ray_environment
from grid.store.scratch import drop_scratch, scratch_folder

HOLD = """
import sys
from grid.errors import GridError
from grid.store.scratch import scratch_folder
print(scratch_folder(), flush=True)
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
    own_folder = scratch_folder()
    assert other_folder.is_dir()
    other.send_signal(signal.SIGKILL)
    other.communicate()
    drop_scratch(scratch_folder())
    assert own_folder.is_dir()
    assert not other_folder.exists()
    drop_scratch(own_folder)
    assert not list(tmp_path.iterdir())


def test_a_ray_of_our_own_follows_no_settings_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "RAY_ADDRESS": "auto",
        "RAY_AUTH_MODE": "disabled",
        "RAY_AUTH_TOKEN": "secret",
        "RAY_REDIS_ADDRESS": "10.0.0.1:6379",
        "RAY_CHDIR_TO_TRIAL_DIR": "1",
        "TUNE_RESULT_BUFFER_LENGTH": "50",
        "RAY_memory_usage_threshold": "0.9",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def now() -> dict[str, str]:
        return {name: value for name in settings if (value := os.environ.get(name)) is not None}

    ours = {
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_RESULT_BUFFER_LENGTH": "1",
        "RAY_memory_usage_threshold": "0.9",
    }
    with ray_environment(None):
        assert now() == {**ours, "RAY_AUTH_MODE": "token"}
    assert now() == settings
    with ray_environment("10.0.0.1:6379"):
        assert now() == {**settings, **ours}
    assert now() == settings


def test_a_long_folder_of_temporary_files_is_not_used_for_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with ray_environment(None) as folder:
        assert folder.parent == Path("/tmp")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    monkeypatch.setattr("grid.run.ray_tune.environment.SHORT_FOLDERS", ("/nowhere",))
    with pytest.raises(GridError, match="Ray's sockets allow 22"), ray_environment(None):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("slow_starts", [1, 2])
def test_a_ray_that_starts_too_slowly_is_started_once_more_and_then_named(
    tmp_path, monkeypatch, slow_starts
):
    from grid.run.ray_tune import tune

    starts: list[str] = []

    def init(**settings):
        starts.append(settings["_temp_dir"])
        if len(starts) <= slow_starts:
            raise Exception("The current node timed out during startup. This could happen because")

    monkeypatch.setattr("ray.init", init)
    if slow_starts == 1:
        tune._start(tmp_path, {})
    else:
        with pytest.raises(GridError, match=r"Ray did not start .* twice: .* --local"):
            tune._start(tmp_path, {})
    assert len(set(starts)) == 2

"""A results disk that is read-only for a while, then full, then has room: nothing is lost."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grid.store.folder import Store
from tests.processes import Process, wait_for
from tests.small_sweeps import metrics, run_local

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Process]


def mount(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *words], capture_output=True, text=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB of the test's own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    result = mount("-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder))
    if result.returncode:
        pytest.skip(f"no disk can be mounted here: {result.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def change(disk: Path, option: str) -> None:
    """Remount a disk with other options, at a moment when no process writes to it."""
    deadline = time.monotonic() + 240
    while mount("-o", f"remount,{option}", str(disk)).returncode:
        assert time.monotonic() < deadline, "it is always busy"
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        ("--local",),
        pytest.param(("--slots", "1"), marks=[pytest.mark.ray, pytest.mark.soak]),
    ],
)
def test_a_disk_that_refuses_stops_the_sweep_in_order_and_the_same_command_goes_on(
    write_sweep: Write,
    tmp_path: Path,
    data_dir: Path,
    small_disk: Path,
    start: Start,
    cnngrid: Command,
    cnngrid_process: Command,
    how: tuple[str, ...],
) -> None:
    # A checkpoint takes 10 MB, and as much again while a new one is written.
    sweep = write_sweep(seeds=[0], keep="last", checkpoint_s=0.05, fixed={"epochs": 12})
    whole = tmp_path / "whole"
    run_local(sweep, whole, data_dir)
    again = ("run", sweep, *how, "--results", small_disk)
    folder = small_disk / "small"

    def ended_in_order(code: int, output: str, reason: str) -> None:
        assert code == 1, output
        assert "Traceback" not in output
        assert f"cannot be written ({reason}); what finished is kept: " in output
        assert "and run the same command again" in output
        status = cnngrid("status", folder)
        assert (status.returncode, status.stderr) == (0, "")
        assert "no driver is running" in status.stdout
        answer = cnngrid("sql", folder, "SELECT count(*) AS n FROM epochs", "--format", "csv")
        assert answer.stderr == ""
        assert int(answer.stdout.split()[1]) == len(Store(folder).epochs())

    process = start(*again)
    wait_for("two epochs", lambda: len(Store(folder).epochs()) >= 2, process)
    change(small_disk, "ro")
    output = process.end()
    ended_in_order(process.returncode, output, "Read-only file system")
    assert len(Store(folder).epochs()) >= 2
    change(small_disk, "rw")

    run = cnngrid if how == ("--local",) else cnngrid_process
    full = run(*again)
    ended_in_order(full.returncode, full.stderr, "No space left on device")
    change(small_disk, "size=100m")
    result = run(*again)
    assert result.returncode == 0, result.stderr
    assert metrics(folder) == metrics(whole / "small")

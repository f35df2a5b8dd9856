"""The same sweeps on a real Ray: equal numbers, reused actors, lost processes, Ctrl-C."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grid import load_sweep, run_sweep
from grid.progress import counted
from grid.store import Store
from tests.small_sweeps import metrics

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        assert process.poll() is None, f"ended before {what}:\n{process.communicate()[0]}"
        time.sleep(0.02)


def claims(folder: Path) -> dict[str, dict[str, Any]]:
    """What runs now, by trial."""
    names = [path.stem for path in (folder / "run" / "trials").glob("*.json")]
    return {name: claim for name in names if (claim := Store(folder).read_claim(name))}


def test_slots_ray_and_local_give_the_same_metrics(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid_process: Command
) -> None:
    sweep = write_sweep(fixed={"augment": ["flip", "crop"], "optimizer": "adam"})
    run_sweep(load_sweep(sweep), results=tmp_path / "local", data_dir=data_dir, local=True,
              quiet=True)  # fmt: skip
    expected = metrics(tmp_path / "local" / "small")
    assert len(expected["trials"]) == 4
    for slots in ("1", "2"):
        done = cnngrid_process("run", sweep, "--slots", slots, "--results", tmp_path / slots)
        assert done.returncode == 0, done.stderr
        assert metrics(tmp_path / slots / "small") == expected
        # Nothing of Ray's stays behind, and its chatter does not reach the user.
        assert not list((tmp_path / slots / "small" / "run").glob("ray*"))
        lines = done.stderr.splitlines()
        assert all(line.startswith("small: ") for line in lines), done.stderr


def test_a_killed_trial_process_changes_no_bit(
    write_sweep: Write, tmp_path: Path, data_dir: Path, start: Start
) -> None:
    sweep = write_sweep(checkpoint_s=0.001, fixed={"epochs": 40, "optimizer": "adam"}, seeds=[0])
    run_sweep(load_sweep(sweep), results=tmp_path / "whole", data_dir=data_dir, local=True,
              quiet=True)  # fmt: skip
    folder = tmp_path / "cut" / "small"
    process = start("run", sweep, "--slots", "1", "--results", tmp_path / "cut")
    killed: set[str] = set()
    while len(killed) < 2:
        wait_for(
            lambda: any(
                claim["epoch"] >= 3 and claim["attempt"] == 1 and name not in killed
                for name, claim in claims(folder).items()
            ),
            process,
            "the third epoch of a trial",
        )
        for name, claim in claims(folder).items():
            if name not in killed:
                os.kill(claim["pid"], signal.SIGKILL)
                killed.add(name)
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    assert output.count("lost: ") == 2
    assert metrics(folder) == metrics(tmp_path / "whole" / "small")
    rows = Store(folder).epochs()
    assert {row["attempt"] for row in rows} == {1, 2}


def test_a_killed_driver_changes_no_bit(
    write_sweep: Write, tmp_path: Path, data_dir: Path, start: Start, cnngrid_process: Command
) -> None:
    sweep = write_sweep(checkpoint_s=0.001, fixed={"epochs": 20})
    run_sweep(load_sweep(sweep), results=tmp_path / "whole", data_dir=data_dir, local=True,
              quiet=True)  # fmt: skip
    folder = tmp_path / "cut" / "small"
    process = start("run", sweep, "--slots", "2", "--results", tmp_path / "cut")
    wait_for(lambda: len(Store(folder).epochs()) >= 5, process, "an epoch")
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = cnngrid_process("run", sweep, "--slots", "2", "--results", tmp_path / "cut")
    assert done.returncode == 0, done.stderr
    assert metrics(folder) == metrics(tmp_path / "whole" / "small")


def test_a_signal_ends_in_order(
    write_sweep: Write, tmp_path: Path, start: Start, cnngrid_process: Command
) -> None:
    sweep = write_sweep(fixed={"epochs": 40}, seeds=[0, 1, 2])
    folder = tmp_path / "results" / "small"
    kept = 0
    for number in (signal.SIGINT, signal.SIGUSR1):
        process = start("run", sweep, "--slots", "2")
        wait_for(lambda: len(Store(folder).finished()) > kept, process, "a trial")  # noqa: B023
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 130, output
        assert "Traceback" not in output
        kept = len(Store(folder).finished())
    done = cnngrid_process("run", sweep, "--slots", "2")
    assert done.returncode == 0, done.stderr
    assert f"{counted(6 - kept, 'trial')} in" in done.stdout


def test_early_stopping_leaves_a_row_of_every_trial(write_sweep: Write, cnngrid_process: Command,
                                                    tmp_path: Path) -> None:  # fmt: skip
    sweep = write_sweep(
        compare={"arch": ["cnn3"], "optimizer": ["sgd", "adam"]},
        tune={"trials": 6, "axes": {"lr": {"log_uniform": [1e-4, 0.1]}}},
        stop={"asha": {"grace_epochs": 1, "reduction": 2}},
        fixed={"epochs": 4, "limit_train": 640},
        seeds=[0],
    )
    done = cnngrid_process("run", sweep, "--slots", "2")
    assert done.returncode == 0, done.stderr
    rows = Store(tmp_path / "results" / "small").finished().values()
    found = {(row.state, row.epochs_run == 4) for row in rows}
    assert found == {("complete", True), ("pruned", False)}
    assert len(rows) == 12


def test_more_slots_than_the_machine_has_is_an_error(
    write_sweep: Write, tmp_path: Path, cnngrid_process: Command
) -> None:
    done = cnngrid_process("run", write_sweep(), "--slots", "1000")
    assert done.returncode == 2
    assert "--slots 1000: 1000 trials of 1 CPU core each do not fit" in done.stderr


@pytest.fixture
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray of one node with two slots that somebody else started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scratch = tempfile.mkdtemp(prefix="r")  # Ray's sockets want a short path
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2",
         f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false",
         "--disable-usage-stats", f"--temp-dir={scratch}"],
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    lines = iter(process.stdout.readline, "")
    assert any("Ray runtime started" in line for line in lines)
    yield f"127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    shutil.rmtree(scratch, ignore_errors=True)


def test_a_running_ray_cluster_gives_the_same_metrics(
    write_sweep: Write,
    tmp_path: Path,
    data_dir: Path,
    cnngrid_process: Command,
    ray_cluster: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    sweep = write_sweep()
    run_sweep(load_sweep(sweep), results=tmp_path / "local", data_dir=data_dir, local=True,
              quiet=True)  # fmt: skip
    done = cnngrid_process(
        "run", sweep, "--address", ray_cluster, "--results", tmp_path / "cluster"
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "cluster" / "small"
    assert metrics(folder) == metrics(tmp_path / "local" / "small")
    assert not list((folder / "run").glob("ray*"))
    refused = cnngrid_process("run", sweep, "--address", ray_cluster, "--slots", "3",
                      "--results", tmp_path / "other")  # fmt: skip
    assert refused.returncode == 2
    assert "--slots 3: the cluster takes 2 trials at a time" in refused.stderr

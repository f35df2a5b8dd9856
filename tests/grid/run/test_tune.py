"""Small sweeps on a real Ray: equal numbers, reused actors, lost processes, Ctrl-C."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.clusters.ray_cluster import cluster
from grid.phrases import counted
from grid.store.folder import Store
from tests.processes import Process, wait_for
from tests.small_sweeps import metrics, run_local

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Process]


def claims(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the claims of running trials, by trial."""
    names = [path.stem for path in (folder / "run" / "trials").glob("*.json")]
    return {name: claim for name in names if (claim := Store(folder).claims.read(name))}


def test_slots_ray_and_local_give_the_same_metrics(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid_process: Command
) -> None:
    sweep = write_sweep(fixed={"augment": ["flip", "crop"], "optimizer": "adam"})
    run_local(sweep, tmp_path / "local", data_dir)
    expected = metrics(tmp_path / "local" / "small")
    assert len(expected["trials"]) == 4
    result = cnngrid_process("run", sweep, "--slots", "2", "--results", tmp_path / "ray")
    assert result.returncode == 0, result.stderr
    assert metrics(tmp_path / "ray" / "small") == expected
    # No process or file of Ray is left, and its messages do not reach the user.
    assert not list((tmp_path / "ray" / "small" / "run").glob("ray*"))
    lines = result.stderr.splitlines()
    assert all(line.startswith("small: ") for line in lines), result.stderr


@pytest.mark.soak
def test_killed_trials_a_killed_driver_and_signals_change_no_bit(
    write_sweep: Write, tmp_path: Path, data_dir: Path, start: Start, cnngrid: Command
) -> None:
    sweep = write_sweep(
        checkpoint_s=0.1, fixed={"epochs": 24, "optimizer": "adam"}, seeds=[*range(7)]
    )
    run_local(sweep, tmp_path / "whole", data_dir)
    folder = tmp_path / "cut" / "small"
    words = ("run", sweep, "--results", tmp_path / "cut")

    def ended() -> int:
        return len(Store(folder).finished())

    def further_than(finished: int) -> bool:
        return ended() > finished

    process = start(*words, "--slots", "1")
    killed: set[str] = set()
    while len(killed) < 2:
        wait_for(
            "the third epoch of a trial",
            lambda: any(
                claim["epoch"] >= 3 and claim["attempt"] == 1 and name not in killed
                for name, claim in claims(folder).items()
            ),
            process,
        )
        for name, claim in claims(folder).items():
            if name not in killed:
                os.kill(claim["pid"], signal.SIGKILL)
                killed.add(name)
    wait_for("the end of both trials", partial(further_than, 1), process)
    assert process.output.count("lost: ") == 2
    process.kill_and_wait()

    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        before = ended()
        process = start(*words, "--slots", "2")
        wait_for("a trial", partial(further_than, before), process)
        if number == signal.SIGHUP:  # a terminal that closes tells all of the command's processes
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        output = process.end()
        assert process.returncode == 130, output
        assert "Traceback" not in output

    kept = ended()
    assert kept < 14
    result = cnngrid(*words, "--local")
    assert result.returncode == 0, result.stderr
    assert f"{counted(14 - kept, 'trial')} in" in result.stdout
    assert metrics(folder) == metrics(tmp_path / "whole" / "small")
    assert {row["attempt"] for row in Store(folder).epochs()} > {1}


def test_more_slots_than_the_machine_has_is_an_error(
    write_sweep: Write, tmp_path: Path, cnngrid_process: Command
) -> None:
    result = cnngrid_process("run", write_sweep(), "--slots", "1000")
    assert result.returncode == 2
    said = r"--slots 1000: this machine takes \d+ trials? at a time: it has \d+ CPU"
    assert re.search(said, result.stderr)


@pytest.mark.soak
def test_a_running_ray_cluster_gives_the_same_metrics_and_stops_trials_early(
    write_sweep: Write,
    tmp_path: Path,
    data_dir: Path,
    cnngrid_process: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = write_sweep()
    run_local(sweep, tmp_path / "local", data_dir)
    with cluster(workers=1, cpus=2) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        words = ("run", sweep, "--address", running.address)
        result = cnngrid_process(*words, "--results", tmp_path / "cluster")
        assert result.returncode == 0, result.stderr
        folder = tmp_path / "cluster" / "small"
        assert metrics(folder) == metrics(tmp_path / "local" / "small")
        assert not list((folder / "run").glob("ray*"))
        refused = cnngrid_process(*words, "--slots", "3", "--results", tmp_path / "other")
        assert refused.returncode == 2
        assert "--slots 3: the cluster takes 2 trials at a time" in refused.stderr

        tuned = write_sweep(
            sweep="tuned",
            compare={"arch": ["cnn3"], "optimizer": ["sgd", "adam"]},
            tune={"trials": 4, "axes": {"lr": {"log_uniform": [1e-4, 0.1]}}},
            stop={"asha": {"grace_epochs": 1, "reduction": 2}},
            fixed={"limit_train": 320},
            seeds=[0],
        )
        result = cnngrid_process("run", tuned, "--address", running.address)
        assert result.returncode == 0, result.stderr
    rows = Store(tmp_path / "results" / "tuned").finished().values()
    endings = {(row.state, row.epochs_run == 3) for row in rows}
    assert endings == {("complete", True), ("pruned", False)}
    assert len(rows) == 8

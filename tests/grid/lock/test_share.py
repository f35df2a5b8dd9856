"""Several drivers on one results folder: each takes the free units only."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import open_results
from analysis.results.database import rows
from grid.errors import GridError, ResultsError
from grid.lock.hold import drivers_alive, hold, join
from grid.lock.share import Share
from grid.store.atomic import write_whole
from grid.store.folder import Store
from tests.processes import Process, wait_for
from tests.small_sweeps import metrics

Write = Callable[..., Path]
Start = Callable[..., Process]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def finish(*processes: Process) -> list[str]:
    outputs = [process.end() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


@pytest.mark.soak
@pytest.mark.slow
def test_two_drivers_share_a_grid_and_one_takes_over_what_the_other_left(
    write_sweep: Write, tmp_path: Path, start: Start, cnngrid: Command
) -> None:
    sweep = write_sweep(fixed={"epochs": 15}, checkpoint_s=0.1)
    folder = tmp_path / "results" / "small"
    words = ("run", sweep, "--local", "--share")
    doomed, other = start(*words), start(*words)
    claims = folder / "run" / "trials"
    wait_for("a trial of each", lambda: len(list(claims.glob("*.json"))) >= 2, doomed, other)
    assert len(drivers_alive(Store(folder))) == 2
    alone = cnngrid("run", sweep, "--local")
    assert alone.returncode == 2
    assert "another driver shares this folder" in alone.stderr
    doomed.kill()
    (output,) = finish(other)
    assert "small: 4 complete" in output
    assert metrics(folder) == metrics_of_a_local_run(sweep, tmp_path, cnngrid)
    taken = folder / "run" / "taken"
    assert [path.name for path in taken.iterdir()] in ([], ["sweep"])
    # Leftovers of the dead driver do not stop a driver that needs the folder alone.
    assert list((folder / "run" / "drivers").iterdir())
    assert "nothing to do" in cnngrid("run", sweep, "--local").stdout
    assert not list((folder / "run" / "drivers").iterdir())
    assert not taken.exists()


def metrics_of_a_local_run(sweep: Path, tmp_path: Path, cnngrid: Command) -> object:
    result = cnngrid("run", sweep, "--local", "--results", "alone")
    assert result.returncode == 0, result.stderr
    return metrics(tmp_path / "alone" / "small")


@pytest.mark.soak
@pytest.mark.slow
def test_the_search_of_a_cell_is_one_drivers(
    write_sweep: Write, tmp_path: Path, start: Start, cnngrid: Command
) -> None:
    sweep = write_sweep(
        compare={"optimizer": ["sgd", "adam", "adamw"]},
        tune={
            "trials": 4,
            "axes": {"lr": {"log_uniform": [1e-4, 0.1]}},
            "confirm": {"top": 1, "seeds": 1},
        },
        stop={"asha": {"grace_epochs": 1, "reduction": 2}},
        fixed={"arch": "cnn3"},
        seeds=[0],
    )
    words = ("run", sweep, "--local", "--share")
    finish(start(*words), start(*words))
    # Suggestions, decisions and numbers do not depend on which driver searched which cell.
    local = metrics_of_a_local_run(sweep, tmp_path, cnngrid)
    assert metrics(tmp_path / "results" / "small") == local
    again = cnngrid(*words)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


@pytest.mark.soak
@pytest.mark.slow
def test_of_all_that_several_drivers_ended_only_the_best_are_kept(
    write_sweep: Write, tmp_path: Path, start: Start
) -> None:
    sweep = write_sweep(seeds=[0, 1, 2, 3], keep={"top": 1}, fixed={"epochs": 2})
    words = ("run", sweep, "--local", "--share")
    finish(start(*words), start(*words))
    folder = tmp_path / "results" / "small"
    best = rows(
        open_results(folder),
        "SELECT list(trial_id ORDER BY val_top1 DESC, ended_at)[1] AS id FROM trials "
        "GROUP BY cell_id",
    )
    assert len(best) == 2
    kept = {path.parent.name for path in folder.glob("checkpoints/*/best.pt")}
    assert kept == {row["id"] for row in best}


def test_a_unit_is_taken_once_and_free_again_when_its_driver_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_whole(store.run / "drivers" / "far-1.json", b'{"host": "far", "pid": 1, "heartbeat": 0}')
    with join(store) as name:
        near, far = Share(store, name), Share(store, "far-1")
        assert near.take("a")
        assert near.take("a")
        assert not far.take("a")
        assert far.held("a")
        assert far.take("b")
        assert near.held("b") is False  # its heartbeat is decades old
        assert near.take("b")
        assert far.take("c")
        far.release()
        assert near.take("c")
        near.release(["a"])
        assert far.take("a")
        near.release()
    assert [path.name for path in (store.run / "taken").iterdir()] == ["a"]


@pytest.mark.slow
def test_whether_a_driver_elsewhere_lives_does_not_depend_on_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grid.lock.heartbeat.EXPIRES_S", 5.0)
    path = tmp_path / "run" / "driver.json"

    def write_heartbeat(clock_s: float) -> None:
        content = {"host": "elsewhere", "pid": 1, "heartbeat": time.time() + clock_s}
        write_whole(path, json.dumps(content).encode())

    for behind_or_ahead in (-300.0, 300.0):
        write_heartbeat(behind_or_ahead)
        timer = threading.Timer(0.5, write_heartbeat, [behind_or_ahead])
        timer.start()
        with pytest.raises(ResultsError, match="process 1 on elsewhere"), hold(Store(tmp_path)):
            pass
        timer.join()
        # Its heartbeat stopped.
        with hold(Store(tmp_path)):
            pass


def test_what_cannot_be_shared_is_refused(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    result = cnngrid("run", write_sweep(), "--local", "--share", "--retry", "failed")
    assert result.returncode == 2
    assert "--retry needs the results folder for itself" in result.stderr
    store = Store(tmp_path / "results" / "small")
    with hold(store), pytest.raises(GridError, match="another driver holds"), join(store):
        pass
    assert not list((store.run / "drivers").iterdir())

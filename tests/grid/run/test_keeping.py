"""Checkpoints that stay: the best of each cell, within a budget, over restarts."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis import open_results
from analysis.results.database import rows
from grid import load_sweep, make_plan
from grid.cost.disk import Sizes, trial_sizes
from grid.errors import StoreError
from grid.run.checkpoints import Keeper
from grid.store.folder import Store
from grid.store.usage import GIB, MIB, taken
from tests.small_sweeps import call_main, metrics, run_local

Write = Callable[..., Path]
ONE_CELL: dict[str, Any] = {"compare": {"arch": ["cnn3"]}}


def kept_trials(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("checkpoints/*/best.pt")}


def ranked(folder: Path) -> list[list[str]]:
    """Return the complete trials of every cell, best first; ties by their end time."""
    cells = rows(
        open_results(folder),
        "SELECT cell_id, list(trial_id ORDER BY val_top1 DESC, ended_at) AS ids FROM trials "
        "WHERE state = 'complete' GROUP BY cell_id",
    )
    return [row["ids"] for row in cells]


def best(folder: Path, top: int) -> set[str]:
    return {trial_id for ids in ranked(folder) for trial_id in ids[:top]}


@pytest.mark.slow
def test_the_best_two_of_each_cell_keep_their_weights_over_restarts(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    folder = tmp_path / "small"

    def again(top: int, seeds: list[int]) -> None:
        fixed = {"lr": 0.05, "epochs": 1}
        sweep = write_sweep(**ONE_CELL, keep={"top": top}, seeds=seeds, fixed=fixed)
        run_local(sweep, tmp_path, data_dir)
        assert len(kept_trials(folder)) == top
        assert kept_trials(folder) == best(folder, top)
        assert not list(folder.glob("checkpoints/*/last.pt"))

    again(2, [0, 1, 2])
    again(2, [0, 1, 2, 3, 4, 5])  # continues from the folder's state
    # A driver died before it removed a surplus checkpoint.
    loser = Store(folder).checkpoints(ranked(folder)[0][-1])
    loser.mkdir()
    (loser / "best.pt").touch()
    again(2, [0, 1, 2, 3, 4, 5])
    # A smaller limit applies from then on; missing checkpoints are no error.
    again(1, [0, 1, 2, 3, 4, 5])


@pytest.mark.slow
def test_confirmed_trials_of_a_search_keep_theirs_too_after_a_restart(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep(
        **ONE_CELL,
        tune={
            "trials": 3,
            "sampler": "random",
            "axes": {"lr": {"log_uniform": [1e-3, 0.1]}},
            "confirm": {"seeds": 2},
        },
        keep={"top": 4},
        seeds=[0],
    )
    run_local(sweep, tmp_path, data_dir)
    folder = tmp_path / "small"
    assert len(ranked(folder)[0]) == 5
    assert kept_trials(folder) == best(folder, 4)
    run_local(sweep, tmp_path, data_dir)
    assert kept_trials(folder) == best(folder, 4)


def watched(folder: Path, work: Callable[[], Any]) -> tuple[Any, int]:
    """Return a result, and the largest size of the folder meanwhile, in bytes."""
    most, run_ended = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not run_ended.wait(0.002):
            most = max(most, taken(folder))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return work(), most
    finally:
        run_ended.set()
        thread.join()


@pytest.mark.slow
def test_a_budget_is_held_by_removing_the_worst_weights_of_a_cell(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    # A running trial needs 22 MB, the weights of a complete one take 3.4 MB.
    changes: dict[str, Any] = {**ONE_CELL, "seeds": [0, 1, 2, 3, 4], "checkpoint_s": 0.001}
    run_local(write_sweep(**changes, fixed={"lr": 0.05}), tmp_path / "free", data_dir)
    assert len(kept_trials(tmp_path / "free" / "small")) == 5
    folder = tmp_path / "small"
    budget = 0.0275
    sweep = write_sweep(**changes, fixed={"lr": 0.05}, disk_gib=budget)
    stranger = folder / "checkpoints" / "000000000000" / "best.pt"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(bytes(2_000_000))
    summary, most = watched(folder, lambda: run_local(sweep, tmp_path, data_dir))
    assert summary.states == {"complete": 5}
    assert 0.7 * budget * GIB < most < budget * GIB
    assert not stranger.exists()  # of no trial of this plan: the first to go
    (order,) = ranked(folder)
    assert order[0] in kept_trials(folder)
    assert 1 < len(kept_trials(folder)) < 5
    assert metrics(folder) == metrics(tmp_path / "free" / "small")


def test_the_folder_is_measured_once_its_trials_may_have_filled_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def measure(folder: Path) -> int:
        measured.append(started)
        return taken(folder)

    monkeypatch.setattr("grid.run.checkpoints.taken", measure)
    plan: Any = SimpleNamespace(spec=SimpleNamespace(disk_gib=1.0, keep_top=None))
    size = Sizes(last=50 * MIB, best=50 * MIB)
    keeper = Keeper(plan, Store(tmp_path), lambda trial: size, set, print)
    started = 0
    for started in range(1, 31):
        trial: Any = SimpleNamespace(trial_id=f"t{started}")
        assert keeper.has_room(trial, [])
        (tmp_path / "checkpoints" / trial.trial_id).mkdir(parents=True)
    # 101 MiB may be taken by each, and nothing was.
    assert measured == [1, 11, 21]
    (tmp_path / "checkpoints" / "t1" / "best.pt").write_bytes(bytes(1000))
    sparse = tmp_path / "checkpoints" / "t2" / "best.pt"
    sparse.touch()
    os.truncate(sparse, GIB)
    last: Any = SimpleNamespace(trial_id="last")
    assert not keeper.has_room(last, [trial])
    assert len(measured) == 4


@pytest.mark.slow
def test_a_budget_that_cannot_be_held_stops_the_sweep_and_a_larger_one_goes_on(
    write_sweep: Write, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(gib: float) -> str:
        sweep = write_sweep(seeds=[0], keep={"top": 1}, disk_gib=gib)
        return call_main("plan", sweep, "--results", tmp_path, "--slots", "1").stdout

    monkeypatch.setenv("CNNGRID_DATA", str(data_dir))
    sweep = write_sweep(seeds=[0], keep={"top": 1}, disk_gib=0.023)
    with pytest.raises(StoreError, match=r"small: takes 0\.00\d* GiB of disk_gib 0\.023, the next"):
        run_local(sweep, tmp_path, data_dir)
    (kept_row,) = Store(tmp_path / "small").finished().values()  # the first of two cells
    assert kept_trials(tmp_path / "small") == {kept_row.trial_id}
    assert "under this disk_gib the sweep may stop before its end" in planned(0.023)
    assert "disk_gib 0.05, 3.2 MiB are there" in planned(0.05)
    assert "warning" not in planned(0.05)
    sweep = write_sweep(seeds=[0], keep={"top": 1}, disk_gib=0.05)
    assert run_local(sweep, tmp_path, data_dir).states == {"complete": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "fixed",
    [
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.0, "select": "last"},
        {"optimizer": "adam", "ema": 0.9},
    ],
)
def test_checkpoints_take_what_was_foreseen(
    write_sweep: Write, tmp_path: Path, data_dir: Path, fixed: dict[str, Any]
) -> None:
    for keep in ("last", "best"):
        sweep = write_sweep(**ONE_CELL, seeds=[0], keep=keep, fixed={"lr": 0.01, **fixed})
        run_local(sweep, tmp_path / keep, data_dir)
    (last,) = tmp_path.glob("last/small/checkpoints/*/last.pt")
    (weights,) = tmp_path.glob("best/small/checkpoints/*/best.pt")
    plan = make_plan(load_sweep(sweep), data_dir=data_dir)
    sizes = trial_sizes(plan, plan.trials[0].config, data_dir)
    for path, foreseen in ((last, sizes.last), (weights, sizes.best)):
        assert 0.8 * foreseen < path.stat().st_size <= foreseen

"""Sweeps and trials that are stopped, killed or extended: they resume, and no bit changes."""

import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from grid import load_sweep
from grid.phrases import counted
from grid.search.sweep_search import Search
from grid.store.folder import Store
from grid.trial.rows import write_pruned
from tests.processes import Process, wait_for
from tests.small_sweeps import metrics, run_local, trial_rows

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Process]


def states(folder: Path) -> Counter[str]:
    """Count the ended trials of each state."""
    return Counter(row.state for row in Store(folder).finished().values())


def _has_epochs(folder: Path, wanted: int) -> bool:
    return len(Store(folder).epochs()) >= wanted


@pytest.mark.slow
def test_killing_the_driver_and_running_again_changes_no_bit(
    write_sweep: Write, tmp_path: Path, data_dir: Path, start: Start, cnngrid: Command
) -> None:
    options: dict[str, Any] = {
        "checkpoint_s": 0.05,
        "fixed": {"epochs": 8, "optimizer": "adam", "schedule": "plateau"},
        "seeds": [0],
    }
    sweep = write_sweep(**options)
    run_local(sweep, tmp_path / "whole", data_dir)
    folder = tmp_path / "cut" / "small"
    for wanted in (2, 5, 11):  # epochs of the sweep's 16: in the first trial twice
        process = start("run", sweep, "--local", "--results", tmp_path / "cut")
        wait_for("an epoch", partial(_has_epochs, folder, wanted), process)
        process.kill_and_wait()
    last = cnngrid("run", sweep, "--local", "--results", tmp_path / "cut")
    assert last.returncode == 0, last.stderr
    assert metrics(folder) == metrics(tmp_path / "whole" / "small")
    assert max(row.attempts for row in trial_rows(folder)) > 1


def test_a_resumed_trial_does_not_start_over(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    # The test above would also pass if every attempt began at the first epoch.
    from grid.trial.trial import run_trial

    sweep = write_sweep(checkpoint_s=0.001, seeds=[0], fixed={"epochs": 4})
    store = Store(tmp_path / "small")
    job = _job(sweep, store, data_dir)
    attempt = run_trial(job, store)
    _next_epoch(attempt)
    second = _next_epoch(attempt)
    assert second.epoch == 2
    attempt.close()
    resumed = [progress for progress in run_trial(job, store) if not progress.within_epoch]
    epochs = [progress.epoch for progress in resumed if not progress.done]
    assert epochs == [2, 3]  # the second is reported again, not trained again
    rows = store.epochs()
    assert [(row["epoch"], row["attempt"]) for row in rows] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def _next_epoch(attempt: Any) -> Any:
    return next(progress for progress in attempt if not progress.within_epoch)


def test_a_trial_stopped_within_an_epoch_goes_on_from_that_step(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    from grid.trial import trial

    sweep = write_sweep(checkpoint_s=1000, seeds=[0])
    whole, cut = (Store(tmp_path / name) for name in ("whole", "cut"))
    *_, expected = trial.run_trial(_job(sweep, whole, data_dir), whole)
    job = _job(sweep, cut, data_dir)
    checkpoint = cut.last_checkpoint(job.trial.trial_id)
    attempt = trial.run_trial(replace(job, heartbeat_s=0.0), cut)  # look for stops after every step
    stopped = [next(attempt) for _ in range(4)][-1]
    assert (stopped.within_epoch, stopped.epoch) == (True, 1)
    assert not checkpoint.exists()
    attempt.close()
    steps = torch_load(checkpoint)["state"]["step"]
    assert steps == 1  # of three steps; in the first epoch it looked after each step but the last
    *_, last = trial.run_trial(job, cut)
    assert (last.row["test_loss"], last.row["attempts"]) == (expected.row["test_loss"], 2)

    # A trial that is stopped at its end leaves no checkpoint.
    other = Store(tmp_path / "ended")
    attempt = trial.run_trial(_job(sweep, other, data_dir), other)
    write_pruned(other, next(attempt).row, "made up")
    attempt.close()
    assert not other.checkpoints(job.trial.trial_id).exists()


def torch_load(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=True)


@pytest.mark.slow
def test_a_trial_is_judged_that_was_cut_off_before_the_judgement(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    from grid.api import make_plan
    from grid.trial.trial import run_trial

    def hopeless_first(seed: int) -> tuple[Path, Any]:
        sweep = write_sweep(
            compare={"arch": ["cnn3"]},
            tune={"trials": 2, "seed": seed, "axes": {"lr": [1e-9, 0.003]}},
            stop={"asha": {"grace_epochs": 2, "reduction": 2}},
            fixed={"epochs": 5, "optimizer": "adam", "limit_train": 600},
            checkpoint_s=0.001,
            seeds=[0],
        )
        first = Search(make_plan(load_sweep(sweep), data_dir=data_dir), None, {}).next()
        assert first is not None
        return sweep, first

    sweep, first = next(
        candidate for seed in range(20) if (candidate := hopeless_first(seed))[1].config.lr == 1e-9
    )
    store = Store(tmp_path / "small")
    store.write_sweep("sweep: small\n")
    plan = make_plan(load_sweep(sweep), data_dir=data_dir)
    Search(plan, store, {}).next()  # make and store a suggestion
    attempt = run_trial(_job(sweep, store, data_dir), store)
    _next_epoch(attempt)
    _next_epoch(attempt)  # interrupted just before its result is judged
    attempt.close()

    # If judged late it waits for the other, better trial; without a judgement it would continue.
    assert run_local(sweep, tmp_path, data_dir).states == {"complete": 1, "pruned": 1}
    assert store.finished()[first.trial_id].epochs_run == 2


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_time_and_nothing_else(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    from grid.trial.trial import run_trial

    sweep = write_sweep(checkpoint_s=0.001, seeds=[0])
    rows = []
    for name in ("whole", "damaged"):
        store = Store(tmp_path / name)
        job = _job(sweep, store, data_dir)
        if name == "damaged":
            attempt = run_trial(job, store)
            _next_epoch(attempt)
            _next_epoch(attempt)
            attempt.close()
            path = store.checkpoints(job.trial.trial_id) / "last.pt"
            path.write_bytes(path.read_bytes()[:1000])
        *_, last = run_trial(job, store)
        rows.append((last.state, last.row["val_loss"], last.row["test_loss"]))
    assert rows[0] == rows[1]


def _job(sweep: Path, store: Store, data_dir: Path) -> Any:
    from grid.api import make_plan
    from grid.trial.assignment import Assignment

    spec = load_sweep(sweep)
    plan = make_plan(spec, data_dir=data_dir)
    trial = Search(plan, None, {}).next()
    assert trial is not None
    return Assignment(trial, spec.sweep, str(store.folder), str(data_dir), 1, "cpu", "best", "all",
               spec.checkpoint_s, None)  # fmt: skip


@pytest.mark.slow
def test_more_epochs_start_from_the_shorter_trials_and_change_no_bit(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    def sweep(epochs: int, schedule: str = "constant") -> Path:
        fixed = {"epochs": epochs, "schedule": schedule}
        return write_sweep(fixed=fixed, keep="last", seeds=[0])

    run_local(sweep(2), tmp_path, data_dir)
    longer = run_local(sweep(4), tmp_path, data_dir)
    assert longer.states == {"complete": 2}
    run_local(sweep(4), tmp_path / "at-once", data_dir)
    tables, expected = metrics(tmp_path / "small"), metrics(tmp_path / "at-once" / "small")
    ids = {row["trial_id"] for row in expected["trials"]}
    for table, rows in expected.items():
        resumed_rows = [row for row in tables[table] if row["trial_id"] in ids]
        if table == "trials":
            assert all(row.pop("continued_from") in _ids(tables) - ids for row in resumed_rows)
            assert all(row.pop("continued_from") is None for row in rows)
        assert resumed_rows == rows
    epochs = Store(tmp_path / "small").epochs()
    assert [row["attempt"] for row in epochs if row["trial_id"] in ids] == [0, 0, 1, 1] * 2
    # Its rate depends on the number of epochs, so such a trial starts anew.
    run_local(sweep(2, "cosine"), tmp_path / "cosine", data_dir)
    run_local(sweep(3, "cosine"), tmp_path / "cosine", data_dir)
    assert {row["attempt"] for row in Store(tmp_path / "cosine" / "small").epochs()} == {1}


@pytest.mark.slow
def test_what_a_shorter_search_pruned_stays_pruned(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    def sweep(epochs: int) -> Path:
        return write_sweep(
            compare={"arch": ["cnn3"]},
            tune={"trials": 3, "sampler": "random", "axes": {"lr": {"uniform": [0.01, 0.05]}}},
            stop={"halving": {"rungs": 1}},
            fixed={"epochs": epochs},
            keep="last",
            seeds=[0],
        )

    assert run_local(sweep(2), tmp_path, data_dir).states == {"complete": 1, "pruned": 2}
    assert run_local(sweep(3), tmp_path, data_dir).states == {"complete": 1, "pruned": 2}
    longer = [row for row in trial_rows(tmp_path / "small") if row.epochs == 3]
    assert sorted(row.epochs_run for row in longer) == [1, 1, 3]
    assert all(row.continued_from for row in longer)
    trained = [row for row in Store(tmp_path / "small").epochs() if row["attempt"]]
    assert len(trained) == 3 + 1 + 1  # two and one more of the best, one of each other


@pytest.mark.slow
def test_a_plan_says_what_a_longer_search_goes_on_from(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid: Command
) -> None:
    def sweep(epochs: int) -> Path:
        return write_sweep(
            compare={"arch": ["cnn3"]},
            tune={"trials": 3, "sampler": "random", "axes": {"lr": {"uniform": [0.01, 0.05]}}},
            fixed={"epochs": epochs},
            keep="last",
            seeds=[0],
        )

    def planned(path: Path) -> str:
        return cnngrid("plan", path, "--results", tmp_path).stdout

    run_local(sweep(2), tmp_path, data_dir)
    before = sorted((tmp_path / "small" / "asked").iterdir())
    assert "cost: nothing is left to run" in planned(sweep(2))
    longer = planned(sweep(4))
    assert "3 trials start from the last checkpoint of a shorter one, which saves 6 epoch" in longer
    assert "3 of them to run" in longer
    assert "cost: 6 epochs" in longer
    for path in (tmp_path / "small" / "checkpoints").glob("*/last.pt"):
        path.unlink()
    assert "their last checkpoints were not kept (`keep: last` does)" in planned(sweep(4))
    assert sorted((tmp_path / "small" / "asked").iterdir()) == before  # a plan writes nothing


def _ids(tables: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {row["trial_id"] for row in tables["trials"]}


@pytest.mark.slow
def test_ctrl_c_keeps_finished_work(
    write_sweep: Write, tmp_path: Path, start: Start, cnngrid: Command
) -> None:
    sweep = write_sweep(fixed={"epochs": 20})
    folder = tmp_path / "results" / "small"
    process = start("run", sweep, "--local")
    wait_for("a trial", lambda: len(Store(folder).finished()) >= 1, process)
    process.send_signal(signal.SIGINT)
    output = process.end()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "run the same command again" in output
    kept = states(folder)["complete"]
    assert 1 <= kept < 4
    assert not (folder / "run" / "driver.json").exists()
    rest = cnngrid("run", sweep, "--local")
    assert rest.returncode == 0
    assert f"{counted(4 - kept, 'trial')} in" in rest.stdout


@pytest.mark.slow
def test_stop_ends_a_sweep_in_order_and_logs_shows_its_trials(
    write_sweep: Write, tmp_path: Path, start: Start, cnngrid: Command
) -> None:
    sweep = write_sweep(fixed={"epochs": 40}, seeds=[0])
    folder = tmp_path / "results" / "small"
    assert "is not a results folder" in cnngrid("stop", folder).stderr
    process = start("run", sweep, "--local")
    wait_for("an epoch", partial(_has_epochs, folder, 3), process)
    stop_result = cnngrid("stop", folder)
    assert "has stopped; run the same command again to go on" in stop_result.stdout
    assert process.wait(30) == 130
    assert cnngrid("stop", folder).stdout == f"{folder}: no driver is running\n"
    trial_id = Store(folder).epochs()[0]["trial_id"]
    log_text = cnngrid("logs", folder, trial_id[:8]).stdout
    assert log_text.startswith(f"{trial_id} ")
    assert "epoch 3: train loss" in log_text
    assert "no such trial" in cnngrid("logs", folder, "zz").stderr

"""Whole sweeps on real images, in this process or by the command, without Ray."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis import open_results
from analysis.tables.tables import make_table
from cnncore.data import load_dataset
from grid import load_sweep, run_sweep
from grid.errors import ResultsError, SweepError
from grid.phrases import counted
from grid.search.sweep_search import Search
from grid.store.folder import Store
from grid.trial.rows import end_pruned
from tests.processes import Process, wait_for
from tests.small_sweeps import SMALL, metrics

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Process]


def run(sweep: Path, results: Path, data: Path, **options: Any) -> Any:
    return run_sweep(
        load_sweep(sweep), results=results, data_dir=data, local=True, quiet=True, **options
    )


def states(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in Store(folder).finished().values():
        found[row.state] = found.get(row.state, 0) + 1
    return found


def _has_epochs(folder: Path, wanted: int) -> bool:
    return len(Store(folder).epochs()) >= wanted


def test_a_sweep_is_run_once_and_extended_without_redoing(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep()
    first = run(sweep, tmp_path, data_dir)
    assert (first.ran, first.states, first.exit_code) == (4, {"complete": 4}, 0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("small/trials/*.parquet")}
    assert run(sweep, tmp_path, data_dir).ran == 0

    write_sweep(compare={"arch": ["cnn3"], "lr": [0.05, 0.02, 0.01]})
    extended = run(sweep, tmp_path, data_dir)
    assert (extended.ran, extended.states) == (2, {"complete": 6})
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())

    write_sweep(seeds=[0, 1, 2])
    assert run(sweep, tmp_path, data_dir).ran == 2  # one new seed of two rates


def test_every_number_is_in_the_store(write_sweep: Write, tmp_path: Path, data_dir: Path) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.05}, seeds=[0])
    run(sweep, tmp_path, data_dir)
    found = metrics(tmp_path / "small")
    (trial,) = found["trials"]
    assert trial["trainable_params"] == 842_630
    assert trial["epochs_run"] == 3
    best = next(row for row in found["epochs"] if row["epoch"] == trial["best_epoch"])
    assert trial["val_top1"] == best["val_top1"] == max(r["val_top1"] for r in found["epochs"])
    right = [row["label"] == row["predicted"] for row in found["predictions"]]
    assert trial["test_top1"] == pytest.approx(sum(right) / 40, abs=1e-12)
    recalls = [row["recall"] for row in found["classes"] if row["split"] == "test"]
    assert trial["test_macro_recall"] == pytest.approx(sum(recalls) / 10, abs=1e-12)
    assert sum(row["support"] for row in found["classes"] if row["split"] == "test") == 40
    missing = {key for key, value in trial.items() if value is None}
    assert missing == {"lineage_id", "continued_from", "reason", "labels", "fold"} - {"lineage_id"}
    weights = torch.load(
        tmp_path / "small" / "checkpoints" / trial["trial_id"] / "best.pt", weights_only=True
    )
    assert sum(tensor.numel() for tensor in weights["weights"].values()) == 842_630


def test_every_fold_validates_images_of_its_own(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.05}, seeds=[0], folds=3)
    summary = run(sweep, tmp_path, data_dir)
    assert summary.states == {"complete": 3}
    found = metrics(tmp_path / "small")
    assert sorted(trial["fold"] for trial in found["trials"]) == [0, 1, 2]
    validated: dict[int, int] = {}
    for row in found["classes"]:
        if row["split"] == "val":
            validated[row["class_index"]] = validated.get(row["class_index"], 0) + row["support"]
    labels = load_dataset("digits", data_dir).train_labels
    assert [validated[label] for label in range(10)] == np.bincount(labels).tolist()
    assert (
        "differ in the seed or fold"
        in make_table(open_results(summary.folder), "comparison").caption
    )
    with pytest.raises(SweepError, match=r"folds: at most \d+ for digits"):
        run(write_sweep(folds=200), tmp_path, data_dir)


@pytest.mark.slow
def test_killing_the_driver_and_running_again_changes_no_bit(
    write_sweep: Write, tmp_path: Path, data_dir: Path, start: Start, cnngrid: Command
) -> None:
    options: dict[str, Any] = {
        "checkpoint_s": 0.001,
        "fixed": {"epochs": 12, "optimizer": "adam", "schedule": "plateau"},
        "seeds": [0],
    }
    sweep = write_sweep(**options)
    run(sweep, tmp_path / "whole", data_dir)
    folder = tmp_path / "cut" / "small"
    kills = 0
    for wanted in (4, 9, 15, 20):  # epochs of the sweep's 24: within each trial, twice
        process = start("run", sweep, "--local", "--results", tmp_path / "cut")
        wait_for("an epoch", partial(_has_epochs, folder, wanted), process)
        process.kill_and_wait()
        kills += 1
    last = cnngrid("run", sweep, "--local", "--results", tmp_path / "cut")
    assert last.returncode == 0, last.stderr
    assert kills == 4
    assert metrics(folder) == metrics(tmp_path / "whole" / "small")
    attempts = [row.attempts for row in _trials(folder)]
    assert max(attempts) > 1


def _trials(folder: Path) -> list[Any]:
    from types import SimpleNamespace

    from analysis import open_results
    from analysis.results.database import rows

    found = rows(open_results(folder), "SELECT * FROM trials")
    return [SimpleNamespace(**row) for row in found]


def test_a_resumed_trial_does_not_start_over(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    # The test above would pass if every attempt began at the first epoch.
    from grid.trial.trial import run_trial

    sweep = write_sweep(checkpoint_s=0.001, seeds=[0], fixed={"epochs": 4})
    store = Store(tmp_path / "small")
    job = _job(sweep, store, data_dir)
    attempt = run_trial(job, store)
    _next_epoch(attempt)
    second = _next_epoch(attempt)
    assert second.epoch == 2
    attempt.close()
    went_on = [progress for progress in run_trial(job, store) if not progress.pause]
    epochs = [progress.epoch for progress in went_on if not progress.done]
    assert epochs == [2, 3]  # the second is said again, not trained again
    rows = store.epochs()
    assert [(row["epoch"], row["attempt"]) for row in rows] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def _next_epoch(attempt: Any) -> Any:
    return next(progress for progress in attempt if not progress.pause)


def test_a_trial_stopped_within_an_epoch_goes_on_from_that_step(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    from grid.trial import trial

    sweep = write_sweep(checkpoint_s=1000, seeds=[0])
    whole, cut = (Store(tmp_path / name) for name in ("whole", "cut"))
    *_, expected = trial.run_trial(_job(sweep, whole, data_dir), whole)
    job = _job(sweep, cut, data_dir)
    checkpoint = cut.last_checkpoint(job.trial.trial_id)
    attempt = trial.run_trial(replace(job, heartbeat_s=0.0), cut)  # a look after every step
    stopped = [next(attempt) for _ in range(4)][-1]
    assert (stopped.pause, stopped.epoch) == (True, 1)
    assert not checkpoint.exists()
    attempt.close()
    steps = torch_load(checkpoint)["state"]["step"]
    assert steps == 1  # of three; the first epoch's three were looks too, but for its last
    *_, last = trial.run_trial(job, cut)
    assert (last.row["test_loss"], last.row["attempts"]) == (expected.row["test_loss"], 2)

    # One that ended where it was stopped leaves no checkpoint behind.
    other = Store(tmp_path / "ended")
    attempt = trial.run_trial(_job(sweep, other, data_dir), other)
    end_pruned(other, next(attempt).row, "made up")
    attempt.close()
    assert not other.checkpoints(job.trial.trial_id).exists()


def torch_load(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=True)


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
        found for seed in range(20) if (found := hopeless_first(seed))[1].config.lr == 1e-9
    )
    store = Store(tmp_path / "small")
    store.write_sweep("sweep: small\n")
    plan = make_plan(load_sweep(sweep), data_dir=data_dir)
    Search(plan, store, {}).next()  # asked, and stored as asked
    attempt = run_trial(_job(sweep, store, data_dir), store)
    _next_epoch(attempt)
    _next_epoch(attempt)  # cut off just where it would have been judged
    attempt.close()

    # Judged late it waits for the other, which is better; unjudged it would have gone on.
    assert run(sweep, tmp_path, data_dir).states == {"complete": 1, "pruned": 1}
    assert store.finished()[first.trial_id].epochs_run == 2


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


NETWORKS = """
import torch
from torch import nn

class Fragile(nn.Module):
    def __init__(self, classes, how):
        super().__init__()
        self.how, self.linear = how, nn.Linear(3 * 8 * 8, classes)

    def forward(self, x):
        if self.how == "raises":
            raise RuntimeError("the hidden <b>flaw</b>\\nsecond line")
        x = self.linear(x.flatten(1))
        return x * float("nan") if self.how == "nan" else x

def fine(classes): return Fragile(classes, "fine")
def raises(classes): return Fragile(classes, "raises")
def nan(classes): return Fragile(classes, "nan")
"""


def fragile(
    write_sweep: Write, tmp_path: Path, *names: str, seeds: Sequence[int] = (0,), **more: Any
) -> Path:
    (tmp_path / "fragile_networks.py").write_text(NETWORKS)
    archs = [f"fragile_networks:{name}" for name in names]
    fixed = {"image_size": 8, "lr": 0.01, "augment": []}
    return write_sweep(compare={"arch": archs}, fixed=fixed, seeds=list(seeds), **more)


@pytest.mark.slow
def test_a_trial_that_raises_fails_a_nan_diverges_and_the_rest_goes_on(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    sweep = fragile(write_sweep, tmp_path, "raises", "nan", "fine")
    done = cnngrid("run", sweep, "--local")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "failed: fragile_networks:raises" in done.stderr
    assert "diverged: fragile_networks:nan" in done.stderr
    found = {row.arch.partition(":")[2]: row for row in _trials(tmp_path / "results" / "small")}
    assert {name: row.state for name, row in found.items()} == {
        "raises": "failed", "nan": "diverged", "fine": "complete"
    }  # fmt: skip
    assert found["raises"].reason == "RuntimeError: the hidden <b>flaw</b>"
    assert found["nan"].reason == "the loss is not finite in epoch 1"
    assert found["nan"].test_top1 is None
    log = tmp_path / "results" / "small" / "logs" / f"{found['raises'].trial_id}.log"
    assert "fragile_networks.py" in log.read_text()

    again = cnngrid("run", sweep, "--local")
    assert again.returncode == 1
    assert "nothing to do" in again.stdout
    for words, ran in (("--retry",), 1), (("--retry", "failed"), 1), (("--retry", "all"), 2):
        retried = cnngrid("run", sweep, "--local", *words)
        assert f"{counted(ran, 'trial')} in" in retried.stdout
        assert retried.returncode == 1

    ok = cnngrid("run", fragile(write_sweep, tmp_path, "nan", "fine"), "--local")
    assert ok.returncode == 0  # the failed one left the plan; a diverged one is an answer


def test_a_cell_that_fails_in_the_same_way_is_given_up_and_the_others_go_on(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    sweep = fragile(write_sweep, tmp_path, "raises", "fine", seeds=[0, 1, 2, 3, 4])
    done = cnngrid("run", sweep, "--local")
    assert done.returncode == 1
    assert "raises: given up, 3 trials in a row failed at their start: RuntimeError: the hid" in (
        " ".join(done.stderr.split())
    )
    states = Counter((row.arch[-4:], row.state) for row in _trials(tmp_path / "results" / "small"))
    assert states == {("ises", "failed"): 3, ("fine", "complete"): 5}
    assert "2 not run" in done.stdout


def test_on_error_stop_ends_the_sweep_with_the_first_failure(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    sweep = fragile(write_sweep, tmp_path, "raises", "fine")
    done = cnngrid("run", sweep, "--local", "--on-error", "stop")
    assert done.returncode == 1
    assert "stopping after a failed trial (--on-error stop)" in done.stderr
    (row,) = _trials(tmp_path / "results" / "small")
    assert row.state == "failed"
    assert "1 not run" in done.stdout


@pytest.mark.slow
def test_more_epochs_start_from_the_shorter_trials_and_change_no_bit(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    def sweep(epochs: int, schedule: str = "constant") -> Path:
        fixed = {"epochs": epochs, "schedule": schedule}
        return write_sweep(fixed=fixed, keep="last", seeds=[0])

    run(sweep(2), tmp_path, data_dir)
    longer = run(sweep(4), tmp_path, data_dir)
    assert longer.states == {"complete": 2}
    run(sweep(4), tmp_path / "at-once", data_dir)
    found, expected = metrics(tmp_path / "small"), metrics(tmp_path / "at-once" / "small")
    ids = {row["trial_id"] for row in expected["trials"]}
    for table, rows in expected.items():
        mine = [row for row in found[table] if row["trial_id"] in ids]
        if table == "trials":
            assert all(row.pop("continued_from") in _ids(found) - ids for row in mine)
            assert all(row.pop("continued_from") is None for row in rows)
        assert mine == rows
    epochs = Store(tmp_path / "small").epochs()
    assert [row["attempt"] for row in epochs if row["trial_id"] in ids] == [0, 0, 1, 1] * 2
    # Its rate depends on the number of epochs, so such a trial starts anew.
    run(sweep(2, "cosine"), tmp_path / "cosine", data_dir)
    run(sweep(3, "cosine"), tmp_path / "cosine", data_dir)
    assert {row["attempt"] for row in Store(tmp_path / "cosine" / "small").epochs()} == {1}


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

    assert run(sweep(2), tmp_path, data_dir).states == {"complete": 1, "pruned": 2}
    assert run(sweep(3), tmp_path, data_dir).states == {"complete": 1, "pruned": 2}
    longer = [row for row in _trials(tmp_path / "small") if row.epochs == 3]
    assert sorted(row.epochs_run for row in longer) == [1, 1, 3]
    assert all(row.continued_from for row in longer)
    trained = [row for row in Store(tmp_path / "small").epochs() if row["attempt"]]
    assert len(trained) == 3 + 1 + 1  # two and one more of the best, one of each other


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

    run(sweep(2), tmp_path, data_dir)
    before = sorted((tmp_path / "small" / "asked").iterdir())
    assert "cost: nothing is left to run" in planned(sweep(2))
    longer = planned(sweep(4))
    assert "3 trials start from the last checkpoint of a shorter one, which saves 6 epoch" in longer
    assert "3 of them to run" in longer
    assert "cost: 6 epochs" in longer
    for path in (tmp_path / "small" / "checkpoints").glob("*/last.pt"):
        path.unlink()
    assert "its last checkpoint was not kept (`keep: last` does)" in planned(sweep(4))
    assert sorted((tmp_path / "small" / "asked").iterdir()) == before  # a plan writes nothing


def _ids(found: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {row["trial_id"] for row in found["trials"]}


@pytest.mark.slow
def test_nothing_to_do_loads_neither_torch_nor_ray(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.05}, seeds=[0])
    run(sweep, tmp_path / "results", data_dir)
    code = (
        "import sys; from grid.cli.app import main; sys.argv = ['cnngrid', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, [m for m in ('torch', 'ray', 'pandas') "
        "if m in sys.modules])\n"
    )
    folder = str(tmp_path / "results" / "small")
    for arguments in (
        ["run", str(sweep)],
        ["status", folder],
        ["sql", folder, "SELECT count(*) FROM trials"],
        ["table", folder, "comparison"],
        ["plot", folder, "curves", "-o", "curves.svg"],
        ["report", folder],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env={**os.environ, "CNNGRID_DATA": str(data_dir)},
            capture_output=True,
            text=True,
        )
        assert done.stdout.splitlines()[-1] in ("0 []", "None []"), (arguments, done)


@pytest.mark.slow
def test_ctrl_c_keeps_finished_work(
    write_sweep: Write, tmp_path: Path, start: Start, cnngrid: Command
) -> None:
    sweep = write_sweep(fixed={"epochs": 40}, seeds=[0, 1, 2])
    folder = tmp_path / "results" / "small"
    process = start("run", sweep, "--local")
    wait_for("a trial", lambda: len(Store(folder).finished()) >= 1, process)
    process.send_signal(signal.SIGINT)
    output = process.end()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "run the same command again" in output
    kept = states(folder)["complete"]
    assert 1 <= kept < 6
    assert not (folder / "run" / "driver.json").exists()
    write_sweep(fixed={"epochs": 40}, seeds=[0, 1, 2])
    rest = cnngrid("run", sweep, "--local")
    assert rest.returncode == 0
    assert f"{counted(6 - kept, 'trial')} in" in rest.stdout


@pytest.mark.slow
def test_stop_ends_a_sweep_in_order_and_logs_shows_its_trials(
    write_sweep: Write, tmp_path: Path, start: Start, cnngrid: Command
) -> None:
    sweep = write_sweep(fixed={"epochs": 40}, seeds=[0])
    folder = tmp_path / "results" / "small"
    assert "is not a results folder" in cnngrid("stop", folder).stderr
    process = start("run", sweep, "--local")
    wait_for("an epoch", partial(_has_epochs, folder, 3), process)
    asked = cnngrid("stop", folder)
    assert "has stopped; run the same command again to go on" in asked.stdout
    assert process.wait(30) == 130
    assert cnngrid("stop", folder).stdout == f"{folder}: no driver is running\n"
    trial_id = Store(folder).epochs()[0]["trial_id"]
    shown = cnngrid("logs", folder, trial_id[:8]).stdout
    assert shown.startswith(f"{trial_id} ")
    assert "epoch 3: train loss" in shown
    assert "no such trial" in cnngrid("logs", folder, "zz").stderr


def test_a_second_driver_is_refused(
    write_sweep: Write, tmp_path: Path, start: Start, cnngrid: Command
) -> None:
    sweep = write_sweep(fixed={"epochs": 200})
    process = start("run", sweep, "--local")
    lock = tmp_path / "results" / "small" / "run" / "driver.json"
    wait_for("the start", lock.exists, process)
    second = cnngrid("run", sweep, "--local")
    assert second.returncode == 2
    assert f"another driver holds this folder (process {process.pid}" in second.stderr


def test_a_damaged_row_is_set_aside_and_its_trial_run_again(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep()
    run(sweep, tmp_path, data_dir)
    before = metrics(tmp_path / "small")
    victim = sorted((tmp_path / "small" / "trials").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-9])
    summary = run(sweep, tmp_path, data_dir)
    assert summary.ran == 1
    assert victim.name in summary.warnings[0]
    assert metrics(tmp_path / "small") == before


def test_another_sweeps_folder_is_refused(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "results" / "small").mkdir(parents=True)
    (tmp_path / "results" / "small" / "sweep.yaml").write_text("sweep: large\n")
    with pytest.raises(ResultsError, match="holds the sweep 'large'"):
        run(write_sweep(), tmp_path / "results", data_dir)


def test_a_small_try_does_not_mix_with_the_full_run(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    sweep = write_sweep(seeds=[0])
    done = cnngrid("run", sweep, "--local", "--set", "epochs=1", "--set", "seeds=[4]")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name.startswith("small-")
    assert {(row.epochs, row.seed) for row in _trials(folder)} == {(1, 4)}


@pytest.mark.slow
def test_early_stopping_leaves_a_row_of_every_trial(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep(
        compare={"arch": ["cnn3"]},
        tune={"trials": 8, "sampler": "random", "axes": {"lr": {"log_uniform": [1e-4, 0.1]}}},
        stop={"asha": {"grace_epochs": 1, "reduction": 2}},
        fixed={"epochs": 4, "optimizer": "adam", "limit_train": 640},
        seeds=[0],
    )
    summary = run(sweep, tmp_path / "whole", data_dir)
    assert sum(summary.states.values()) == 8
    rows = _trials(tmp_path / "whole" / "small")
    pruned = [row for row in rows if row.state == "pruned"]
    complete = [row for row in rows if row.state == "complete"]
    assert pruned
    assert complete
    assert all(row.epochs_run < 4 and row.test_top1 is None for row in pruned)
    assert all(row.reason.startswith("asha: val_top1") for row in pruned)
    assert all(row.trainable_params == 842_630 for row in rows)
    assert all(row.epochs_run == 4 and row.test_top1 is not None for row in complete)

    # Without `stop:` the pruned ones are trained to their end, and the complete ones stay.
    content = json.loads(sweep.read_text())
    del content["stop"]
    sweep.write_text(json.dumps(content))
    again = run(sweep, tmp_path / "whole", data_dir)
    assert (again.ran, again.states) == (len(pruned), {"complete": 8})


@pytest.mark.slow
def test_a_tuned_sweep_that_was_killed_asks_and_prunes_as_an_uninterrupted_one(
    write_sweep: Write, tmp_path: Path, data_dir: Path, start: Start, cnngrid: Command
) -> None:
    options: dict[str, Any] = {
        "compare": {"arch": ["cnn3"], "optimizer": ["sgd", "adam"]},
        "tune": {"trials": 6, "axes": {"lr": {"log_uniform": [1e-3, 0.1]}}},
        "stop": {"asha": {"grace_epochs": 1, "reduction": 2}},
        "fixed": {"epochs": 4, "limit_train": 320},
        "seeds": [0],
        "checkpoint_s": 0.001,
    }
    sweep = write_sweep(**options)
    run(sweep, tmp_path / "whole", data_dir)
    folder = tmp_path / "cut" / "small"
    for wanted in (3, 8, 14):
        process = start("run", sweep, "--local", "--results", tmp_path / "cut")
        wait_for("an epoch", partial(_has_epochs, folder, wanted), process)
        process.kill_and_wait()
    last = cnngrid("run", sweep, "--local", "--results", tmp_path / "cut")
    assert last.returncode == 0, last.stderr
    assert metrics(folder) == metrics(tmp_path / "whole" / "small")
    assert states(folder) == states(tmp_path / "whole" / "small")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dataset": "cifar10"}, "cifar-10-batches-py"),
        ({"dataset": "imagefolder:nowhere"}, "nowhere"),
        ({"dataset": "no_such_module:data"}, "no_such_module"),
    ],
)
def test_absent_data_are_named_before_anything_starts(
    write_sweep: Write, tmp_path: Path, changes: dict[str, str], expected: str
) -> None:
    from grid.api import make_plan

    sweep = write_sweep(fixed=changes)
    with pytest.raises(SweepError, match=expected):
        make_plan(load_sweep(sweep), data_dir=tmp_path / "empty")
    assert not (tmp_path / "results").exists()


def test_debug_runs_one_trial_and_stores_nothing(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    done = cnngrid("debug", write_sweep(), "--trial", "1", "--steps", "5")
    assert done.returncode == 0, done.stderr
    assert "epoch 1 step 2" in done.stdout
    assert "epoch 1/3: train loss" in done.stdout
    assert not (tmp_path / "results").exists()
    assert cnngrid("debug", write_sweep(), "--trial", "99").returncode == 2
    raising = cnngrid("debug", fragile(write_sweep, tmp_path, "raises"))
    assert raising.returncode == 1
    assert "fragile_networks.py" in raising.stderr


def test_small_is_what_these_tests_think_it_is() -> None:
    assert SMALL["fixed"]["limit_train"] / SMALL["fixed"]["batch_size"] == 3

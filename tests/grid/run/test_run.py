"""Whole sweeps on real images, in this process or by the command, without Ray."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import open_results
from analysis.tables.catalog import make_table
from cnncore.data import load_dataset
from grid import load_sweep
from grid.errors import ResultsError, SweepError
from tests.processes import Process, wait_for
from tests.small_sweeps import SMALL, metrics, run_local, trial_rows

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Process]


def test_a_sweep_is_run_once_and_extended_without_redoing(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep(fixed={"epochs": 1})
    first = run_local(sweep, tmp_path, data_dir)
    assert (first.ran, first.states, first.exit_code) == (4, {"complete": 4}, 0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("small/trials/*.parquet")}
    assert run_local(sweep, tmp_path, data_dir).ran == 0

    write_sweep(compare={"arch": ["cnn3"], "lr": [0.05, 0.02, 0.01]}, fixed={"epochs": 1})
    extended = run_local(sweep, tmp_path, data_dir)
    assert (extended.ran, extended.states) == (2, {"complete": 6})
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())

    write_sweep(fixed={"epochs": 1}, seeds=[0, 1, 2])
    assert run_local(sweep, tmp_path, data_dir).ran == 2  # one new seed of two rates


def test_every_number_is_in_the_store(write_sweep: Write, tmp_path: Path, data_dir: Path) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.05}, seeds=[0])
    run_local(sweep, tmp_path, data_dir)
    tables = metrics(tmp_path / "small")
    (trial,) = tables["trials"]
    assert trial["trainable_params"] == 842_630
    assert trial["epochs_run"] == 3
    best = next(row for row in tables["epochs"] if row["epoch"] == trial["best_epoch"])
    assert trial["val_top1"] == best["val_top1"] == max(r["val_top1"] for r in tables["epochs"])
    right = [row["label"] == row["predicted"] for row in tables["predictions"]]
    assert trial["test_top1"] == pytest.approx(sum(right) / 40, abs=1e-12)
    recalls = [row["recall"] for row in tables["classes"] if row["split"] == "test"]
    assert trial["test_macro_recall"] == pytest.approx(sum(recalls) / 10, abs=1e-12)
    assert sum(row["support"] for row in tables["classes"] if row["split"] == "test") == 40
    missing = {key for key, value in trial.items() if value is None}
    nulls = {"continued_from", "reason", "labels", "fold", "code", "code_folder", "objective"}
    assert missing == nulls | {"gpu_share"}  # this trial ran on a CPU
    weights = torch.load(
        tmp_path / "small" / "checkpoints" / trial["trial_id"] / "best.pt", weights_only=True
    )
    assert sum(tensor.numel() for tensor in weights["weights"].values()) == 842_630


@pytest.mark.slow
def test_every_fold_validates_images_of_its_own(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.05}, seeds=[0], folds=3)
    summary = run_local(sweep, tmp_path, data_dir)
    assert summary.states == {"complete": 3}
    tables = metrics(tmp_path / "small")
    assert sorted(trial["fold"] for trial in tables["trials"]) == [0, 1, 2]
    validated: dict[int, int] = {}
    for row in tables["classes"]:
        if row["split"] == "val":
            validated[row["class_index"]] = validated.get(row["class_index"], 0) + row["support"]
    labels = load_dataset("digits", data_dir).train_labels
    assert [validated[label] for label in range(10)] == np.bincount(labels).tolist()
    assert (
        "differ in the seed or fold"
        in make_table(open_results(summary.folder), "comparison").caption
    )
    with pytest.raises(SweepError, match=r"folds: at most \d+ for digits"):
        run_local(write_sweep(folds=200), tmp_path, data_dir)


@pytest.mark.slow
def test_nothing_to_do_loads_neither_torch_nor_ray(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.05}, seeds=[0])
    run_local(sweep, tmp_path / "results", data_dir)
    # All commands run in one process: a module that is not loaded there is loaded by none.
    code = (
        "import json, sys; from grid.cli.app import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['cnngrid', *words]\n"
        "    try: main()\n"
        "    except SystemExit as end: print('ended', words[0], end.code or 0, [m for m in "
        "('torch', 'ray', 'pandas') if m in sys.modules])\n"
    )
    folder = str(tmp_path / "results" / "small")
    commands = (
        ["run", str(sweep)],
        ["status", folder],
        ["sql", folder, "SELECT count(*) FROM trials"],
        ["table", folder, "comparison"],
        ["plot", folder, "curves", "-o", "curves.svg"],
        ["report", folder],
    )
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        cwd=tmp_path,
        env={**os.environ, "CNNGRID_DATA": str(data_dir)},
        capture_output=True,
        text=True,
    )
    ends = [line for line in result.stdout.splitlines() if line.startswith("ended ")]
    assert ends == [f"ended {words[0]} 0 []" for words in commands], result


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_damaged_row_is_set_aside_and_its_trial_run_again(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep()
    run_local(sweep, tmp_path, data_dir)
    before = metrics(tmp_path / "small")
    victim = sorted((tmp_path / "small" / "trials").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-9])
    summary = run_local(sweep, tmp_path, data_dir)
    assert summary.ran == 1
    assert victim.name in summary.warnings[0]
    assert metrics(tmp_path / "small") == before


def test_another_sweeps_folder_is_refused(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "results" / "small").mkdir(parents=True)
    (tmp_path / "results" / "small" / "sweep.yaml").write_text("sweep: large\n")
    with pytest.raises(ResultsError, match="holds the sweep 'large'"):
        run_local(write_sweep(), tmp_path / "results", data_dir)


@pytest.mark.slow
def test_a_small_try_does_not_mix_with_the_full_run(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    sweep = write_sweep(seeds=[0])
    result = cnngrid("run", sweep, "--local", "--set", "epochs=1", "--set", "seeds=[4]")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name.startswith("small-")
    assert {(row.epochs, row.seed) for row in trial_rows(folder)} == {(1, 4)}


@pytest.mark.slow
def test_early_stopping_leaves_a_row_of_every_trial(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep(
        compare={"arch": ["cnn3"]},
        tune={"trials": 6, "sampler": "random", "axes": {"lr": {"log_uniform": [1e-4, 0.1]}}},
        stop={"asha": {"grace_epochs": 1, "reduction": 2}},
        fixed={"epochs": 4, "optimizer": "adam", "limit_train": 320},
        seeds=[0],
    )
    summary = run_local(sweep, tmp_path / "whole", data_dir)
    assert sum(summary.states.values()) == 6
    rows = trial_rows(tmp_path / "whole" / "small")
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
    again = run_local(sweep, tmp_path / "whole", data_dir)
    assert (again.ran, again.states) == (len(pruned), {"complete": 6})


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


def test_small_is_what_these_tests_think_it_is() -> None:
    assert SMALL["fixed"]["limit_train"] / SMALL["fixed"]["batch_size"] == 3

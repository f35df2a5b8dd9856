"""A real sweep without validation images: nothing is chosen, and every reader of it says so."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import connect, make_table
from analysis.charts.confusion import counts, networks
from analysis.results.database import rows
from grid import load_sweep, make_plan
from grid.cli.debug import debug_trial
from tests.small_sweeps import run_local

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]

SWEEP: dict[str, Any] = {
    "compare": {"arch": ["cnn3"], "optimizer": ["sgd", "adam"]},
    "fixed": {"lr": 0.01, "epochs": 2, "select": "last", "val_fraction": 0, "augment": [],
              "limit_train": None},
    "seeds": [0],
}  # fmt: skip


@pytest.mark.slow
def test_without_validation_images_nothing_is_chosen_and_all_say_so(
    write_sweep: Write, cnngrid: Command, tmp_path: Path, data_dir: Path
) -> None:
    sweep, folder = write_sweep(**SWEEP), tmp_path / "small"
    summary = run_local(sweep, tmp_path, data_dir)
    assert summary.states == {"complete": 2}
    connection = connect(folder)
    trials = rows(connection, "FROM trials ORDER BY optimizer")
    for trial in trials:
        assert [trial[key] for key in ("val_top1", "val_top5", "val_loss")] == [None] * 3
        assert trial["best_epoch"] == trial["epochs_run"] == 2
        assert trial["test_top1"] > 0.2
    for epoch in rows(connection, "FROM epochs"):
        assert epoch["val_loss"] is epoch["val_top1"] is epoch["val_top5"] is None
        assert epoch["train_top1"] > 0
    assert rows(connection, "SELECT DISTINCT split FROM classes") == [{"split": "test"}]
    # All training images are trained on.
    plan = make_plan(load_sweep(sweep), data_dir=data_dir)
    options: dict[str, Any] = dict(data_dir=data_dir, threads=1, device="cpu")
    first, *others = debug_trial(plan.trials[0], None, **options, skip_unreadable=False)
    assert "1438 training images" in first
    assert "val" not in "".join(others)
    assert f"test top-1 {trials[1]['test_top1']:.4f}" in others[-1]

    comparison = make_table(connection, "comparison")
    assert "no validation images (val_fraction: 0), so nothing was chosen" in comparison.caption
    assert "last epoch (select: last)" in comparison.caption
    assert "nothing was chosen" in make_table(connection, "gap").caption
    assert "chose none" in str(counts(connection).to_dict()["vconcat"][0]["title"])
    assert "not chosen by validation" in str(networks(connection).to_dict()["title"])

    trial_id = trials[0]["trial_id"]
    for arguments, text in (
        (("logs", folder, trial_id), "epoch 2: train loss"),
        (("status", folder), "Complete: 2/2."),
        (("explain", folder, "errors"), "name one: --trial ID"),
        (("explain", folder, "samples", "--trial", trial_id), "has none (val_fraction: 0)"),
        (("explain", folder, "enhancement", "--trial", trial_id), "chooses its factors on"),
    ):
        result = cnngrid(*arguments)
        assert text in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
    assert "val loss" not in cnngrid("logs", folder, trial_id).stdout

    # A metric that is asked for later is of the test images alone; the other half validates.
    more = write_sweep(
        **{**SWEEP, "compare": {**SWEEP["compare"], "val_fraction": [0, 0.1]}},
        metrics=["macro_f1"],
    )
    assert run_local(more, tmp_path, data_dir).states == {"complete": 4}
    connection = connect(folder)
    splits = rows(connection, "SELECT DISTINCT split FROM metrics WHERE trial_id = "
                  f"'{trial_id}'")  # fmt: skip
    assert splits == [{"split": "test"}]
    assert "2 of 4 cells have no validation" in make_table(connection, "comparison").caption

"""A tuned sweep whose file is edited after it has finished."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import open_results
from tests.small_sweeps import run_local

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]

TUNE: dict[str, Any] = {
    "trials": 2,
    "sampler": "random",
    "axes": {"weight_decay": {"log_uniform": [1e-3, 1e-1]}},
    "confirm": {"top": 1, "seeds": 2},
}
FIXED: dict[str, Any] = {"image_size": 8, "epochs": 1, "limit_train": 64, "lr": 0.05}


@pytest.mark.slow
def test_winners_and_counts_are_those_of_the_file_of_today(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid: Command
) -> None:
    def write(tune: dict[str, Any], fixed: dict[str, Any]) -> Path:
        compare = {"arch": ["mobilenet_small"]}
        return write_sweep(compare=compare, tune=tune, fixed={**FIXED, **fixed}, seeds=[0])

    results = tmp_path / "results"
    sweep = write(TUNE, {})
    assert run_local(sweep, results, data_dir).states == {"complete": 4}
    planned = cnngrid("plan", sweep, "--results", results).stdout
    assert "4 trials, 0 of them to run" in planned.replace("1 cells, ", "").replace("1 cell, ", "")
    again = cnngrid("run", sweep, "--local", "--results", results)
    assert "nothing to do, 4 complete" in again.stdout

    # A fixed setting changes: its winners do not stand beside the new ones.
    longer = run_local(write(TUNE, {"epochs": 2}), results, data_dir)
    assert (longer.ran, longer.states) == (4, {"complete": 4})
    best = open_results(results / "small").sql("SELECT DISTINCT epochs FROM best").fetchall()
    assert best == [(2,)]

    # A fixed setting becomes an axis.
    tune = {**TUNE, "axes": {**TUNE["axes"], "lr": {"log_uniform": [1e-3, 1e-1]}}}
    sweep = write_sweep(
        compare={"arch": ["mobilenet_small"]},
        tune=tune,
        fixed={**FIXED, "epochs": 2},
        seeds=[0],
    )
    result = cnngrid("run", sweep, "--local", "--results", results)
    assert result.returncode == 0, result.stderr
    assert "2 suggestions of an earlier version of the sweep file no longer count" in result.stderr
    rates = open_results(results / "small").sql("SELECT DISTINCT lr FROM trials").fetchall()
    assert (0.05,) not in rates


@pytest.mark.slow
def test_trials_that_a_later_search_suggests_again_are_done_and_counted(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid: Command
) -> None:
    def write(**tune: int) -> Path:
        return write_sweep(
            compare={"arch": ["mobilenet_small"], "batch_size": [16, 32]},
            tune={**TUNE, **tune},
            fixed=FIXED,
            seeds=[0],
        )

    results = tmp_path / "results"
    assert run_local(write(), results, data_dir).states == {"complete": 8}
    other = run_local(write(seed=1), results, data_dir)
    assert (other.ran, other.states) == (8, {"complete": 8})
    # Back to the first seed: every trial is there already.
    back = cnngrid("run", write(), "--local", "--results", results)
    assert "4 suggestions of an earlier version" in back.stderr
    assert "nothing to do, 8 complete" in back.stdout
    # With a suggestion more, one cell trains while the other's are not suggested again yet.
    run_local(write(seed=1), results, data_dir)
    more = cnngrid("run", write(trials=3), "--local", "--results", results)
    assert more.returncode == 0, more.stderr
    assert "10 complete" in more.stdout.splitlines()[0]

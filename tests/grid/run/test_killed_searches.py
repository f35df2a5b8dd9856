"""Searches of every kind whose local driver is killed at random moments: no bit changes."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grid.store.folder import Store
from tests.processes import Process
from tests.small_sweeps import metrics, run_local

# Number of kills of each search: more in a longer test.
KILLS = int(os.environ.get("CNNGRID_KILLS", "2"))
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asha": ("tpe", {"grace_epochs": 1, "reduction": 2}),
    "halving": ("gp", {"grace_epochs": 1, "reduction": 2}),
    "hyperband": ("cmaes", {"grace_epochs": 1, "reduction": 2}),
    "median": ("qmc", {"grace_epochs": 1, "min_configs": 2}),
    "first_epochs": ("random", {"epochs": 2, "keep": 2}),
}


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("rule", KINDS)
def test_a_search_that_is_killed_asks_prunes_and_trains_as_an_undisturbed_one(
    rule: str,
    write_sweep: Callable[..., Path],
    tmp_path: Path,
    data_dir: Path,
    start: Callable[..., Process],
) -> None:
    sampler, options = KINDS[rule]
    sweep = write_sweep(
        compare={"arch": ["cnn3"], "optimizer": ["sgd", "adam"]},
        tune={
            "trials": 5,
            "sampler": sampler,
            "axes": {
                "lr": {"log_uniform": [1e-3, 0.1]},
                "weight_decay": {"log_uniform": [1e-5, 1e-2]},
            },
            "confirm": {"top": 1, "seeds": 1},
        },
        stop={rule: options},
        fixed={"epochs": 4, "limit_train": 160},
        seeds=[0],
        checkpoint_s=0.05,
    )
    run_local(sweep, tmp_path / "whole", data_dir)
    folder = tmp_path / "cut" / "small"
    moments = random.Random(rule)
    for _ in range(KILLS):
        process = start("run", sweep, "--local", "--results", tmp_path / "cut")
        # From the first write on, so that each run gets a little further.
        known = _writes(folder)
        while process.poll() is None and _writes(folder) == known:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        process.kill_and_wait()
    assert start("run", sweep, "--local", "--results", tmp_path / "cut").wait(300) == 0
    assert metrics(folder) == metrics(tmp_path / "whole" / "small")
    assert _ends(folder) == _ends(tmp_path / "whole" / "small")
    assert {row["attempt"] for row in Store(folder).epochs()} > {1}, "nothing went on"


def _writes(folder: Path) -> set[tuple[str, int]]:
    """Return the epoch files of a results folder, each with the time of its last write."""
    paths = [path for path in (folder / "epochs").glob("*.parquet") if path.exists()]
    return {(path.name, path.stat().st_mtime_ns) for path in paths}


def _ends(folder: Path) -> Counter[tuple[str, str | None]]:
    """Count the ended trials by state and reason."""
    return Counter((row.state, row.reason) for row in Store(folder).finished().values())

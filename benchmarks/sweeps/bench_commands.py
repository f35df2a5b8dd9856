"""Time of whole commands, Python's start included.

`run 1,000 finished` is `cnngrid run` on a sweep of 1,000 finished trials whose files are compacted
every 500, as the driver leaves them, or not at all. The other commands read a sweep of the shape of
the preset `digits`: 24 trials of three networks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measure import RESULTS, environment, interleave, summary, write_csv

TRIALS = 1_000


def write_finished_sweep(folder: Path, *, compacted: bool) -> Path:
    """Write a sweep of 1,000 finished trials with made-up rows; return the sweep file."""
    from grid.api import make_plan
    from grid.run.driver import COMPACT_EVERY
    from grid.store.folder import Store, now
    from grid.sweep.load import load_sweep
    from grid.trial.rows import config_columns

    sweep = folder / ("compacted.yaml" if compacted else "loose.yaml")
    fixed = {"arch": "cnn3", "dataset": "digits", "image_size": 32, "optimizer": "sgd"}
    rates = [round(0.001 * (n + 1), 6) for n in range(TRIALS // 2)]
    content = {"sweep": sweep.stem, "compare": {"lr": rates}, "seeds": [0, 1]}
    sweep.write_text(json.dumps({**content, "fixed": {**fixed, "epochs": 1}}))
    store = Store(folder / "results" / sweep.stem)
    for number, trial in enumerate(make_plan(load_sweep(sweep)).trials):
        row = {**config_columns(trial, sweep.stem), "state": "complete", "ended_at": now()}
        store.write("trials", trial.trial_id, [{**row, "val_top1": 0.5, "test_top1": 0.5}])
        if compacted and (number + 1) % COMPACT_EVERY == 0:
            store.compact()
    return sweep


def run_demo(folder: Path) -> None:
    """Run the trials of the demo for one epoch each, with the results in `demo`."""
    from grid.sweep.load import read_presets

    sweep = folder / "digits.yaml"
    sweep.write_text(read_presets()["digits"])
    command = ["run", str(sweep), "--local", "--set", "epochs=1", "--results", str(folder)]
    _command(folder, *command)
    (results,) = folder.glob("digits-*")
    results.rename(folder / "demo")


def _command(folder: Path, *arguments: str) -> float:
    started = perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "grid.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    seconds = perf_counter() - started
    if result.returncode != 0:
        raise RuntimeError(f"{arguments}: {result.stderr[-2000:]}")
    return seconds


def main() -> None:
    """Measure every command in turn and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, printed only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loose, compacted = (
            str(write_finished_sweep(folder, compacted=compacted)) for compacted in (False, True)
        )
        run_demo(folder)
        commands: dict[str, tuple[str, ...]] = {
            "run 1,000 finished, loose": ("run", loose),
            "run 1,000 finished, compacted": ("run", compacted),
            "status": ("status", "demo"),
            "sql": ("sql", "demo", "SELECT arch, avg(test_top1) FROM trials GROUP BY arch"),
            "table comparison": ("table", "demo", "comparison"),
            "plot accuracy-vs-params": ("plot", "demo", "accuracy-vs-params", "-o", "a.svg"),
            "plot confusion": ("plot", "demo", "confusion", "-o", "a.png"),
            "report": ("report", "demo"),
        }
        sides: dict[str, Callable[[], Any]] = {
            name: partial(_command, folder, *command) for name, command in commands.items()
        }
        values = interleave(sides, rounds=2 if arguments.quick else 5)
    machine = environment(("duckdb", "pyarrow", "altair"))
    rows = [
        {"what": name, "unit": "s", **summary(seconds), **machine}
        for name, seconds in values.items()
    ]
    write_csv(None if arguments.quick else RESULTS / "commands.csv", rows)


if __name__ == "__main__":
    main()

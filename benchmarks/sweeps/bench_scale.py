"""CPU time and memory of the answers at many trials: `sql`, `status`, tables, curves, `report`.

Made-up rows are written through the product's own store: `loose` as a killed or shared run leaves
them, each trial's files of their own; `run` as a run leaves them, merged every 500 trials. Each
command runs in a fresh process, Python's start included; its children's time counts.

`--shape grid` has five seeds of each cell, `tuned` ten suggestions of five seeds in each.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import RESULTS, environment, write_csv

if TYPE_CHECKING:
    from grid.plan.ids import Trial
    from grid.plan.plan import Plan
    from grid.store.folder import Store

SEEDS = 5
SUGGESTIONS = 10
CLASSES = 10
QUESTIONS: dict[str, tuple[str, ...]] = {
    "sql over trials": ("sql", "SELECT arch, avg(test_top1) FROM trials GROUP BY arch"),
    "status": ("status",),
    "table comparison": ("table", "comparison", "--format", "csv"),
    "all learning curves": (
        *("sql", "SELECT * FROM learning_curves", "--format", "parquet"),
        *("-o", "curves.parquet"),
    ),
    "plot curves": ("plot", "curves", "-o", "curves.svg"),
    "report": ("report", "-o", "report"),
    "compact": ("compact",),
}
# A process starts with the memory of the one that starts it, so a small one does.
LAUNCHER = """
import json, os, sys
nowhere = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, nowhere, 1)]
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, used = os.wait4(pid, 0)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))
sys.exit(os.waitstatus_to_exitcode(status))
"""


# -- a folder ----------------------------------------------------------------------------------


def write_folder(
    folder: Path, trials: int, epochs: int, images: int, shape: str, *, loose: bool
) -> Path:
    """Write a finished sweep of made-up rows; return its results folder."""
    from grid.api import make_plan
    from grid.plan.plan import plan_rows
    from grid.run.driver import COMPACT_EVERY
    from grid.store.folder import Store, now
    from grid.sweep.load import load_sweep

    folder.mkdir(parents=True, exist_ok=True)
    sweep = folder / "scale.yaml"
    sweep.write_text(json.dumps(_sweep(trials, epochs, shape)))
    plan = make_plan(load_sweep(sweep))
    store = Store(folder / "results")
    store.write_sweep(plan.spec.text)
    store.write("plan", plan.plan_id, [{**row, "written_at": now()} for row in plan_rows(plan)])
    ended, number = _trials(plan, store), 0
    while part := list(islice(ended, 1 if loose else COMPACT_EVERY)):
        number += 1
        name = part[0].trial_id if loose else f"compacted-{number}"
        _write_trials(store, name, part, epochs, images)
    return store.folder


def _sweep(trials: int, epochs: int, shape: str) -> dict[str, Any]:
    """Return the sweep file: networks, optimizers and learning rates until there are enough."""
    fixed = {"dataset": "digits", "image_size": 32, "epochs": epochs}
    archs = ["cnn3", "mobilenet_small", "resnet18", "mobilenet_v2", "shufflenet_v2_x1_0"]
    compare: dict[str, Any] = {"arch": archs, "optimizer": ["sgd", "adam"]}
    content = {"sweep": "scale", "compare": compare, "fixed": fixed, "seeds": list(range(SEEDS))}
    cells = trials // (SEEDS * (SUGGESTIONS if shape == "tuned" else 1))
    rates = [float(f"{0.001 * (n + 1):.6g}") for n in range(math.ceil(cells / 10))]
    if shape == "grid":
        compare["lr"] = rates
        return content
    compare["label_smoothing"] = [min(rate, 0.9) for rate in rates]
    axes = {"lr": {"log_uniform": [1e-4, 1e-1]}, "batch_size": {"int_range": [8, 64]}}
    tune = {"trials": SUGGESTIONS, "sampler": "random", "axes": axes}
    return {**content, "tune": tune}


def _trials(plan: Plan, store: Store) -> Iterator[Trial]:
    """Yield the trials in the order in which a run has them; a search stores its suggestions."""
    from grid.search.outcomes import Outcome
    from grid.search.sweep_search import Search

    if not plan.spec.tune:
        yield from plan.trials
        return
    search = Search(plan, store, {})
    while (trial := search.next()) is not None:
        yield trial
        search.tell(trial, Outcome("complete", 0.5, trial.config.epochs))


def _write_trials(store: Store, name: str, trials: list[Trial], epochs: int, images: int) -> None:
    """Write the files of some trials, as a worker and the merging of files make them."""
    import numpy as np

    from grid.store.folder import now
    from grid.trial.rows import config_columns

    random.seed(name)
    rows: dict[str, list[dict[str, Any]]] = {"epochs": [], "classes": [], "trials": []}
    for trial in trials:
        top1, ended_at = random.uniform(0.5, 0.9), now()
        measured = {"val_top1": top1, "test_top1": top1 - 0.01, "test_macro_f1": top1 - 0.02}
        for column in ("train_loss", "val_loss", "test_loss", "epoch_time_s", "latency_ms_p50"):
            measured[column] = random.uniform(0.5, 2.0)
        whole = {"trainable_params": 122_570, "macs": 1_600_000, "epochs_run": epochs}
        state = {"state": "complete", "attempts": 1, "wall_time_s": 60.0, "ended_at": ended_at}
        settings = config_columns(trial, "scale")
        rows["trials"].append({**settings, **measured, **whole, **state})
        for epoch in range(1, epochs + 1):
            share = 1 - 0.8**epoch
            rows["epochs"].append(
                {
                    "trial_id": trial.trial_id,
                    "epoch": epoch,
                    "attempt": 1,
                    "lr": 0.1,
                    "train_loss": 2 - share,
                    "val_loss": 2.1 - share,
                    "train_top1": share * top1,
                    "val_top1": share * top1,
                    "train_time_s": 1.0,
                    "eval_time_s": 0.2,
                    "ended_at": ended_at,
                }
            )
        for split in ("val", "test"):
            rows["classes"] += [
                {
                    "trial_id": trial.trial_id,
                    "split": split,
                    "class_index": index,
                    "class_name": str(index),
                    "support": 100,
                    "auc": top1,
                    "precision": top1,
                    "recall": top1,
                    "f1": top1,
                }
                for index in range(CLASSES)
            ]
    for table, content in rows.items():
        store.write(table, name, content)
    if images:
        labels = np.tile(np.arange(images, dtype=np.int16) % CLASSES, len(trials))
        wrong = np.random.default_rng(0).random(len(labels)) < 0.2
        columns = {
            "trial_id": np.repeat([trial.trial_id for trial in trials], images),
            "split": np.repeat("test", len(labels)),
            "index": np.tile(np.arange(images, dtype=np.int32), len(trials)),
            "label": labels,
            "predicted": np.where(wrong, (labels + 1) % CLASSES, labels).astype(np.int16),
            "confidence": np.full(len(labels), 0.7, np.float32),
        }
        store.write_columns("predictions", name, columns)


def cached_folder(
    cache: Path, trials: int, epochs: int, images: int, shape: str, *, loose: bool
) -> Path:
    """Return the results folder of `write_folder`, made once and kept below `cache`."""
    kind = "loose" if loose else "run"
    whole = cache / f"{shape}-{kind}-{trials}-{epochs}-{images}"
    if not whole.is_dir():
        unfinished = whole.with_name(f"{whole.name}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_folder(unfinished, trials, epochs, images, shape, loose=loose)
        unfinished.rename(whole)
    return whole / "results"


# -- the commands ------------------------------------------------------------------------------


def measure(results: Path, what: str) -> dict[str, Any]:
    """Run a command in a fresh process; return its CPU seconds and the most memory of a process.

    `compact` changes a copy, whose files are links to the same data.
    """
    name, *more = QUESTIONS[what]
    with tempfile.TemporaryDirectory(dir=results.parent.parent) as scratch:
        if what == "compact":
            copy = Path(scratch) / "results"
            results = Path(shutil.copytree(results, copy, copy_function=os.link))
        files = [
            str(Path(scratch) / part) if flag == "-o" else part
            for flag, part in zip(["", *more], more, strict=False)
        ]
        command = [sys.executable, "-m", "grid.cli", name, str(results), *files]
        answer = subprocess.run(
            [sys.executable, "-c", LAUNCHER, *command],
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
        )
    if answer.returncode:
        raise RuntimeError(f"{command}: {answer.stderr[-2000:]}")
    cpu_s, peak_kib = json.loads(answer.stdout.splitlines()[-1])
    return {"cpu_s": cpu_s, "peak_mib": peak_kib / 1024}


def main() -> None:
    """Build the folders that are not there yet, measure every command and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 trials, printed only")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--images", type=int, default=1_000, help="test images with predictions")
    parser.add_argument("--shape", choices=["grid", "tuned"], action="append")
    parser.add_argument("--kind", choices=["loose", "run"], action="append")
    parser.add_argument("--only", choices=list(QUESTIONS), action="append", metavar="COMMAND")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="where folders are kept (default: nowhere)")
    given = parser.parse_args()
    trials = 100 if given.quick else given.trials
    sizes = {"trials": trials, "epochs": given.epochs, "images": given.images}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for shape in given.shape or ["grid", "tuned"]:
            for kind in given.kind or ["run", "loose"]:
                cache = given.cache or Path(scratch)
                results = cached_folder(cache, **sizes, shape=shape, loose=kind == "loose")
                for what in given.only or QUESTIONS:
                    measured = [measure(results, what) for _ in range(given.rounds)]
                    rows.append(
                        {
                            "what": what,
                            "shape": shape,
                            "kind": kind,
                            **sizes,
                            "n": given.rounds,
                            "cpu_s": min(one["cpu_s"] for one in measured),
                            "peak_mib": max(one["peak_mib"] for one in measured),
                            "load": os.getloadavg()[0],
                        }
                    )
                    print(rows[-1], file=sys.stderr, flush=True)
    machine = environment(("duckdb", "pyarrow", "altair"))
    whole = not (given.quick or given.only)
    write_csv(RESULTS / "scale.csv" if whole else None, [{**row, **machine} for row in rows])


if __name__ == "__main__":
    main()

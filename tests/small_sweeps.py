"""A small real sweep, its exact metrics, and the command line, for tests of several packages."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from grid import Summary, load_sweep, run_sweep
from grid.store.records import TABLES

# Columns that are times, places or counts of attempts; everything else is a metric or a setting.
NOT_METRICS = {
    *("attempts", "started_at", "ended_at", "host", "device", "git_commit", "versions"),
    "changed_settings",
    *("train_time_s", "epoch_time_s", "wall_time_s", "train_images_per_s", "energy_j"),
    *("latency_ms_p50", "latency_ms_p95", "batch16_latency_ms", "peak_memory_mib"),
    *("attempt", "eval_time_s"),
}

SMALL: dict[str, Any] = {
    "sweep": "small",
    "compare": {"arch": ["cnn3"], "lr": [0.05, 0.01]},
    "fixed": {
        "dataset": "digits",
        "image_size": 32,
        "optimizer": "sgd",
        "epochs": 3,
        "limit_train": 96,
        "limit_test": 40,
        "batch_size": 32,
        "augment": ["crop"],
    },
    "seeds": [0, 1],
}


def metrics(folder: Path | str) -> dict[str, list[dict[str, Any]]]:
    """Return every metric of a results folder, exact, by table."""
    from analysis import connect
    from analysis.results.database import rows

    connection = connect(folder, all=True)
    tables = {}
    for table, keys in (
        ("trials", "trial_id"),
        ("epochs", "trial_id, epoch"),
        ("metrics", "trial_id, split, epoch, name"),
        ("classes", "trial_id, split, class_index"),
        ("predictions", 'trial_id, split, "index"'),
    ):
        names = {column.name for column in TABLES[table]} - NOT_METRICS
        tables[table] = [
            {key: row[key] for key in sorted(names)}
            for row in rows(connection, f"SELECT * FROM {table} ORDER BY {keys}")
        ]
    return tables


def trial_rows(folder: Path) -> list[Any]:
    """Return the rows of the view `trials` of a results folder, columns as attributes."""
    from analysis import connect
    from analysis.results.database import rows

    return [SimpleNamespace(**row) for row in rows(connect(folder), "SELECT * FROM trials")]


def run_local(sweep: Path, results: Path | str, data_dir: Path, **options: Any) -> Summary:
    """Run a sweep file in this process, without Ray and without a report."""
    return run_sweep(
        load_sweep(sweep), results=results, data_dir=data_dir, local=True, quiet=True, **options
    )


# A report takes 6 s of CPU time, more than most of these sweeps.
WITHOUT_REPORT = """
import analysis
from grid.cli import main
analysis.write_report = lambda connection, folder: folder / "index.html"
main()
"""


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of `cnngrid` with this interpreter; `run` writes no report."""
    program = ["-c", WITHOUT_REPORT] if arguments[0] == "run" else ["-m", "grid.cli"]
    return [sys.executable, *program, *map(str, arguments)]


@contextlib.contextmanager
def without_report() -> Iterator[None]:
    """Let `run` write no report in this process."""
    import analysis

    vars(analysis)["write_report"] = lambda connection, folder: folder / "index.html"
    try:
        yield
    finally:
        del vars(analysis)["write_report"]  # the real function is loaded again when it is used


def call_main(*arguments: str | Path, report: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the command in this process; `run` writes a report only if `report`."""
    from grid.cli import main

    if arguments[0] == "run" and not report:
        with without_report():
            return call_main(*arguments, report=True)
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    argv, sys.argv = sys.argv, ["cnngrid", *map(str, arguments)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            main()
    except SystemExit as exit_:
        code = exit_.code or 0
    finally:
        sys.argv = argv
    texts = [stream.buffer.getvalue().decode() for stream in (stdout, stderr)]
    return subprocess.CompletedProcess(["cnngrid", *arguments], code, *texts)


def environment(data_dir: Path) -> dict[str, str]:
    """Return the environment with a data folder of the test's own."""
    return {**os.environ, "CNNGRID_DATA": str(data_dir), "COLUMNS": "200"}

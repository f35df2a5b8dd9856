"""Answers of the commands to results folders, for comparison with those of commit 855e87d.

`answers.json` holds the answers of 855e87d to `docs/results/`. To record them again, run in a
checkout of that commit, with its environment:

    .venv/bin/python FILE docs/results > answers.json

FILE is this file. Of the project it imports the command and `open_results` alone, so it runs with
any version.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

# Views of stored rows, and views that are computed from them.
STORED = ("trials", "epochs", "classes", "predictions", "enhancement", "plan", "damaged")
COMPUTED = (
    *("running", "coverage", "coverage_trials", "cells", "best", "winner_trials", "confusion"),
    *("classification", "reported", "learning_curves", "pareto"),
)
RANGES = """
SELECT to_json(x) FROM (
    SELECT
        count(*) AS rows,
        min(COLUMNS(*)) AS "min \\0",
        max(COLUMNS(*)) AS "max \\0",
        count(COLUMNS(*)) AS "count \\0"
    FROM {view}
) AS x
"""
FIRST_TRIAL = "SELECT trial_id, state FROM trials ORDER BY trial_id LIMIT 1"
# Longest text that is recorded, characters.
TEXT_CHARS = 40


def all_answers(folder: Path) -> dict[str, Any]:
    """Return the answers of `status`, `sql`, `logs` and `report`."""
    return {
        "status": json.loads(run("status", folder, "--json")),
        "views": views(folder, *STORED, *COMPUTED),
        "logs": logs(folder),
        **report(folder),
    }


def run(*arguments: str | Path) -> str:
    """Run a command that must succeed, in this process; return its standard output."""
    code, output, errors = call(*arguments)
    assert code == 0, f"{arguments}: {errors}"
    return output


def call(*arguments: str | Path) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, standard output and standard error."""
    from grid.cli import main

    output, errors = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    argv, sys.argv = sys.argv, ["cnngrid", *map(str, arguments)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            main()
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.argv = argv
    return code, output.buffer.getvalue().decode(), errors.buffer.getvalue().decode()


def views(folder: Path, *names: str) -> dict[str, Any]:
    """Return the number of rows of every view and, by column, the smallest value, the largest
    value and the number of values.
    """
    from analysis import open_results

    answers = {}
    connection = open_results(folder)
    for view in names:
        [[text]] = connection.execute(RANGES.format(view=view)).fetchall()
        ranges = json.loads(text)
        columns = [key.removeprefix("min ") for key in ranges if key.startswith("min ")]
        answers[view] = {
            "rows": ranges["rows"],
            "columns": {
                column: [_short(ranges[f"{part} {column}"]) for part in ("min", "max", "count")]
                for column in columns
            },
        }
    return answers


def logs(folder: Path) -> list[Any]:
    """Return id, state and number of epochs that `logs` prints for the folder's first trial."""
    [trial] = json.loads(run("sql", folder, FIRST_TRIAL, "--format", "json"))
    first, *lines = run("logs", folder, trial["trial_id"]).splitlines()
    assert first.startswith(trial["trial_id"]), first
    assert first.endswith(trial["state"]), first
    return [*trial.values(), sum(line.startswith("epoch ") for line in lines)]


def report(folder: Path) -> dict[str, Any]:
    """Return every table's number of rows and first row, and the figures that are drawn."""
    with tempfile.TemporaryDirectory() as temporary:
        run("report", folder, "-o", temporary)
        assert (Path(temporary) / "index.html").is_file()
        files = sorted(Path(temporary, "tables").glob("*.csv"))
        tables = {file.stem: table(file.read_text(encoding="utf-8")) for file in files}
        figures = sorted(file.stem for file in Path(temporary, "figures").glob("*.svg"))
    return {"tables": tables, "figures": figures}


def table(text: str) -> dict[str, Any]:
    """Return the number of rows of a table in CSV, and its first row."""
    rows = list(csv.DictReader(io.StringIO(text)))
    first = {key: _short(value) for key, value in rows[0].items()} if rows else None
    return {"rows": len(rows), "first": first}


def _short(value: Any) -> Any:
    """Return a value as it is recorded: a text's beginning."""
    if isinstance(value, dict | list):
        value = json.dumps(value, sort_keys=True)
    return value[:TEXT_CHARS] if isinstance(value, str) else value


def _lines(answers: dict[str, Any], depth: int) -> str:
    """Return JSON with a line for each answer, `depth` levels down."""
    if not depth or not isinstance(answers, dict):
        return json.dumps(answers, separators=(",", ":"))
    items = (f"{json.dumps(key)}:{_lines(value, depth - 1)}" for key, value in answers.items())
    return "{\n" + ",\n".join(items) + "\n}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        copies = shutil.copytree(sys.argv[1], Path(temporary) / "results")
        answers = {each.name: all_answers(each) for each in sorted(copies.iterdir())}
    print(_lines(answers, 3))

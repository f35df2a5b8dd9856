"""The results folder as a DuckDB database: the views of `sql/`, over one folder or several.

Opening reads trials, plans and running trials; epochs, classes and predictions are read when a
question first needs them. Nothing is ever written into a results folder.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from analysis.results.errors import ResultsWarning
from analysis.results.opened_folders import name_folders
from analysis.results.parquet_file import damage_at_ends
from analysis.results.running import read_claims
from analysis.results.sql_files import COUNTED, SHIPPED, TABLES, VIEWS, needed, sql, views_in
from analysis.results.table_files import Connection as Connection
from analysis.results.table_files import folders_of, list_files, load, size_in_bytes, warnings_about

PACKAGE = Path(__file__).parent.parent

# Tables that are read when the database is opened.
LOADED_FIRST = ("trials", "paused", "plan", "asked")
# Predictions up to this size in files are held in memory; larger ones stay in their files.
HELD_BYTES = 16 * 2**20


def open_results(*folders: str | Path, all: bool = False) -> Connection:
    """Open results folders as an in-memory database with the views of `docs/results.md`.

    The column `results` of every view names the folder. With `all`, trials that the newest plan
    no longer has count as well. Files that arrive later are not seen: open again. Damaged files
    are left out, each with a `ResultsWarning`, and listed in the view `damaged`.

    Raises `AnalysisError` if a folder does not exist or is not a results folder.
    """
    connection = open_database(*folders, all=all)
    load(connection, "epochs", "metrics", "classes", "enhancement")
    files = [file for _, file in list_files(connection, "predictions")]
    if any(map(damage_at_ends, files)) or sum(map(size_in_bytes, files)) <= HELD_BYTES:
        load(connection, "predictions")
    else:
        connection.execute("SET VARIABLE prediction_files = $files", {"files": files})
        connection.execute(sql("predictions_in_files"))
    _warn(warnings_about(connection))
    return connection


def connect(*folders: str | Path, all: bool = False) -> Connection:
    """Open results folders like `open_results`, but quicker, for this package's tables and figures.

    The files of epochs, classes and predictions are read when `rows` first needs them.
    """
    connection = open_database(*folders, all=all)
    _warn(warnings_about(connection))
    return connection


def open_database(*folders: str | Path, all: bool) -> Connection:
    """Open results folders like `connect`, without warnings about damaged files."""
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": _spill_folder(),
        }
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute(sql("setup"))
    connection.execute("INSERT INTO held.options VALUES (?)", [all])
    connection.execute("USE held")
    for table in TABLES:
        connection.execute(sql(f"stored/{table}"))
        connection.table(f"empty.{table}").create_view(table)
    connection.execute("USE main")
    for table in COUNTED:
        connection.execute(sql(f"stored/{table}"))
    for name, files in SHIPPED.items():
        connection.execute(sql(f"shipped/{name}"), {"files": [str(file) for file in files]})
    _insert_folders(connection, folders)
    _insert_claims(connection)
    _create_views(connection)
    load(connection, *LOADED_FIRST)
    return connection


@functools.cache
def _spill_folder() -> str:
    """Make the folder for what does not fit into memory; it goes with this process.

    Nobody else may read it, and its name cannot be foreseen.
    """
    folder = tempfile.mkdtemp(prefix="cnngrid-sql-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _insert_folders(connection: Connection, folders: Sequence[str | Path]) -> None:
    for position, (name, path) in enumerate(name_folders(folders)):
        row = [name, str(path), position, False]
        connection.execute("INSERT INTO held.folders VALUES (?, ?, ?, ?)", row)


def _insert_claims(connection: Connection) -> None:
    """Insert the newest claim in `run/` of every trial that runs."""
    for results, folder in folders_of(connection).items():
        for trial_id, values in read_claims(folder):
            row = [results, trial_id, *values]
            connection.execute(
                f"INSERT INTO held.running VALUES ({', '.join('?' * len(row))})", row
            )


def _create_views(connection: Connection) -> None:
    for name in (*TABLES, *COUNTED):
        connection.execute(sql(f"newest/{name}"))
    for name in VIEWS:
        connection.execute(sql(name))


def _warn(messages: list[str]) -> None:
    """Warn at the line that called into this package."""
    if not messages:
        return
    level = 1
    frame = sys._getframe()
    while frame.f_back and PACKAGE in Path(frame.f_code.co_filename).parents:
        frame, level = frame.f_back, level + 1
    for message in messages:
        warnings.warn(message, ResultsWarning, stacklevel=level)


# Views that many questions of a table or a page read, in the order in which they build on each
# other; while `held`, each is computed once.
HELD = (
    *("best", "winner_trials", "winner_measures", "reported_runs", "reported"),
    "learning_curves",
)


@dataclass
class _Held:
    """What `held` keeps of a connection: answers by question, and the views held as tables."""

    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    views: list[str] = field(default_factory=list)


_held: dict[int, _Held] = {}


@contextmanager
def held(connection: Connection) -> Iterator[None]:
    """Let `rows` answer repeated questions from memory for a while; views of `HELD` too.

    A block inside another does nothing more.
    """
    if id(connection) in _held:
        yield
        return
    kept = _held[id(connection)] = _Held()
    try:
        yield
    finally:
        del _held[id(connection)]
        for view in kept.views:
            connection.execute(f"DROP TABLE temp.{view}")


def rows(connection: Connection, question: str, **parameters: Any) -> list[dict[str, Any]]:
    """Return the answer to a question of this package, a dict a row; read the files it needs."""
    kept = _held.get(id(connection))
    if kept is None:
        return _ask(connection, question, parameters)
    key = question + repr(parameters)
    if key not in kept.answers:
        _load(connection, question)
        for view in HELD:
            if view not in kept.views and view in views_in(question):
                connection.execute(f"CREATE TEMP TABLE {view} AS FROM main.{view}")
                kept.views.append(view)
        kept.answers[key] = _ask(connection, question, parameters)
    return list(kept.answers[key])


def _load(connection: Connection, question: str) -> None:
    """Read the files that a question needs; warn of what is new about them."""
    before = warnings_about(connection)
    load(connection, *needed(question))
    _warn([message for message in warnings_about(connection) if message not in before])


def _ask(connection: Connection, question: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    _load(connection, question)
    cursor = connection.execute(question, parameters or None)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

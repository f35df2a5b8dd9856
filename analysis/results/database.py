"""The results folder as a DuckDB database: the views of `sql/`, over one folder or several.

Trials, plans and what runs now are read when the database is opened; epochs, classes and
predictions when a question first needs them. Nothing is ever written into a results folder.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from analysis.results.column_types import kinds, misfits
from analysis.results.location import as_folder, is_address
from analysis.results.running import read_claims

Connection = DuckDBPyConnection

PACKAGE = Path(__file__).parent.parent
SQL = PACKAGE / "sql"

# Tables that are read from files, and the views in the order in which they build on each other.
TABLES = ("trials", "paused", "plan", "asked", "epochs", "classes", "predictions", "enhancement")
AT_ONCE = ("trials", "paused", "plan", "asked")
VIEWS = (
    "plan",
    "newest/members",
    "trials",
    "epochs",
    "classes",
    "predictions",
    "enhancement",
    "newest/claims",
    "running",
    "coverage_trials",
    "coverage",
    "cells",
    "best",
    "winner_trials",
    "confusion",
    "classification",
    "reported",
    "learning_curves",
    "pareto",
    "damaged",
)

# What ships with this package, beside `sql/`: the papers' numbers, CIFAR-100's coarse classes.
GIVEN = {
    "reported": sorted(PACKAGE.glob("reported/*.csv")),
    "cifar100": [PACKAGE / "cifar100.csv"],
}

# Predictions up to this size in files are held in memory, larger ones are left where they are.
HELD_BYTES = 16 * 2**20


class AnalysisError(ValueError):
    """A question that cannot be answered: no such folder, view, figure, or wrong SQL."""


class ResultsWarning(UserWarning):
    """A file of the results folder is damaged and left out."""


@cache
def sql(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def view_names() -> list[str]:
    """The views a question can use, sorted."""
    return sorted(name for name in VIEWS if "/" not in name)


def open_results(*folders: str | Path, all: bool = False) -> Connection:
    """Open results folders as an in-memory database with the views of `docs/results.md`.

    The column `results` of every view names the folder. With `all`, trials that the newest plan
    no longer has count as well. Files that arrive later are not seen: open again. Damaged files
    are left out, each with a `ResultsWarning`, and listed in the view `damaged`.

    Raises `AnalysisError` where a folder does not exist or is not a results folder.
    """
    connection = open_database(*folders, all=all)
    load(connection, "epochs", "classes", "enhancement")
    files = [file for _, file in _files(connection, "predictions")]
    if any(map(_looks_damaged, files)) or sum(map(_size, files)) <= HELD_BYTES:
        load(connection, "predictions")
    else:
        connection.execute("SET VARIABLE prediction_files = $files", {"files": files})
        connection.execute(sql("live_predictions"))
    _warn(damage(connection))
    return connection


def connect(*folders: str | Path, all: bool = False) -> Connection:
    """Like `open_results`, but quicker, for this package's tables and figures: the files of
    epochs, classes and predictions are read when `rows` first needs them.
    """
    connection = open_database(*folders, all=all)
    _warn(damage(connection))
    return connection


def open_database(*folders: str | Path, all: bool) -> Connection:
    """Like `connect`, without a word about damaged files."""
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": os.path.join(tempfile.gettempdir(), f"cnngrid-{os.getpid()}"),
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
    for name, files in GIVEN.items():
        connection.execute(sql(f"given/{name}"), {"files": [str(file) for file in files]})
    _add_folders(connection, folders)
    _add_claims(connection)
    _create_views(connection)
    load(connection, *AT_ONCE)
    return connection


def _add_folders(connection: Connection, folders: Sequence[str | Path]) -> None:
    """Check the folders and enter them, named by their last part, or in full where those clash."""
    if not folders:
        raise AnalysisError("no results folder given; give one or more, like results/digits")
    folders = list(dict.fromkeys(map(str, folders)))
    paths = [_local(folder) for folder in folders]
    for given, path in zip(folders, paths, strict=True):
        if not path.is_dir():
            raise AnalysisError(f"there is no results folder {given}{_neighbours(path)}")
        if not any((path / part).exists() for part in ("sweep.yaml", "plan", "trials")):
            raise AnalysisError(
                f"{given} is not a results folder: it has no sweep.yaml, plan/ or trials/"
                f"{_neighbours(path / 'x')}"
            )
    places = {
        path: given if is_address(given) else str(path)
        for given, path in zip(folders, paths, strict=True)
    }
    names = [path.name for path in places]
    for position, (path, place) in enumerate(places.items()):
        name = path.name if names.count(path.name) == 1 else place
        connection.execute("INSERT INTO held.folders VALUES (?, ?, ?)", [name, str(path), position])


def _local(place: str | Path) -> Path:
    """The folder to ask: the one given, or a copy of what is new in an object store."""
    if not is_address(place):
        return Path(os.path.abspath(as_folder(place)))
    from analysis.results.bucket import BucketError
    from analysis.results.bucket_mirror import copy_of

    try:
        return copy_of(str(place))
    except BucketError as problem:
        raise AnalysisError(str(problem)) from None


def _neighbours(path: Path) -> str:
    """The results folders beside a path, as the end of a message."""
    if not path.parent.is_dir():
        return ""
    found = sorted(str(file.parent) for file in path.parent.glob("*/sweep.yaml"))
    return f"; there are: {', '.join(os.path.relpath(each) for each in found)}" if found else ""


def folders_of(connection: Connection) -> dict[str, Path]:
    """The opened folders by the name they have in the column `results`."""
    found = connection.execute("SELECT results, path FROM held.folders ORDER BY place")
    return {results: Path(path) for results, path in found.fetchall()}


def complete(folder: Path, part: str) -> None:
    """Let an opened folder hold all of a part, where it is a copy that was filled only so far."""
    if "analysis.results.bucket_mirror" not in sys.modules:  # then none is
        return
    from analysis.results.bucket import BucketError
    from analysis.results.bucket_mirror import fill

    try:
        fill(folder, part)
    except BucketError as problem:
        raise AnalysisError(str(problem)) from None


def _add_claims(connection: Connection) -> None:
    """Enter what the trials that run last said of themselves in `run/`."""
    for results, folder in folders_of(connection).items():
        for trial_id, values in read_claims(folder):
            row = [results, trial_id, *values]
            connection.execute(
                f"INSERT INTO held.running VALUES ({', '.join('?' * len(row))})", row
            )


def _create_views(connection: Connection) -> None:
    for name in TABLES:
        connection.execute(sql(f"newest/{name}"))
    for name in VIEWS:
        connection.execute(sql(name))


def load(connection: Connection, *tables: str) -> None:
    """Read tables that were not read yet into memory, without the files that are damaged."""
    loaded = {
        name
        for (name,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'loaded'"
        ).fetchall()
    }
    if loaded.issuperset(tables):
        return
    # Keeping the files' order would double the time of a thousand small ones.
    connection.execute("SET preserve_insertion_order = false")
    for table in tables:
        if table not in loaded:
            _load(connection, table)
    connection.execute("SET preserve_insertion_order = true")


def _load(connection: Connection, table: str) -> None:
    """Read a table's files; columns that we do not know of come along."""
    for _ in range(5):  # files are renamed and merged while a sweep runs
        files = list(_files(connection, table))
        if not files:
            return
        try:
            connection.execute("USE loaded")
            _read(connection, table, [file for _, file in files]).create(table)
        except duckdb.Error as error:
            connection.execute("USE main")
            if not _set_damaged_aside(connection, table, files) and files == list(
                _files(connection, table)
            ):
                raise AnalysisError(f"cannot read the table {table}: {first_line(error)}") from None
        else:
            if _set_misfits_aside(connection, table, files):
                connection.execute(f"DROP TABLE loaded.{table}")
                connection.execute("USE main")
                continue
            connection.execute("USE held")
            connection.table(f"loaded.{table}").create_view(table, replace=True)
            connection.execute("USE main")
            return
    raise AnalysisError(f"cannot read the table {table}: its files keep changing; try again")


def _read(connection: Connection, table: str, files: list[str]) -> duckdb.DuckDBPyRelation:
    return connection.sql(sql("read"), params={"empty": f"empty.{table}", "files": files})


def _files(connection: Connection, table: str) -> Iterator[tuple[str, str]]:
    """Results name and path of every file of a table that is not known to be damaged."""
    found = connection.execute("SELECT file FROM held.damaged WHERE table_name = ?", [table])
    damaged = {file for (file,) in found.fetchall()}
    for results, folder in folders_of(connection).items():
        complete(folder, table)
        try:
            names = sorted(os.listdir(folder / table))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            file = str(folder / table / name)
            if name.endswith(".parquet") and not name.startswith(".") and file not in damaged:
                yield results, file


def _set_damaged_aside(connection: Connection, table: str, files: list[tuple[str, str]]) -> bool:
    """Note which of the files cannot be read; False where all can."""
    reasons = {file: reason for _, file in files if (reason := _looks_damaged(file))}
    if not reasons:
        reasons = {
            file: reason for _, file in files if (reason := _unreadable(connection, table, file))
        }
    _note_damaged(connection, table, files, reasons)
    return bool(reasons)


def _set_misfits_aside(connection: Connection, table: str, files: list[tuple[str, str]]) -> bool:
    """Note which of the files, just read, hold other kinds of values; False where none does."""
    reasons = misfits(
        kinds(connection.table(f"empty.{table}")),
        connection.table(f"loaded.{table}"),
        [file for _, file in files],
        lambda file: _read(connection, table, [file]),
    )
    _note_damaged(connection, table, files, reasons)
    return bool(reasons)


def _note_damaged(
    connection: Connection, table: str, files: list[tuple[str, str]], reasons: dict[str, str]
) -> None:
    for results, file in files:
        if file in reasons and os.path.exists(file):
            connection.execute(
                "INSERT INTO held.damaged VALUES (?, ?, ?, ?)",
                [results, table, file, reasons[file]],
            )


def _looks_damaged(file: str) -> str | None:
    """Why a file's ends are not those of a Parquet file; None where they are, or it is gone."""
    try:
        with open(file, "rb") as stream:
            start = stream.read(4)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 4))
            end = stream.read(4)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    if size == 0:
        return "it is empty"
    if start != b"PAR1":
        return "it is not a Parquet file"
    return None if end == b"PAR1" and size > 12 else "it is cut short"


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0


def _unreadable(connection: Connection, table: str, file: str) -> str | None:
    """Why a single file cannot be read to its end; None where it can, or is gone."""
    try:
        _read(connection, table, [file]).aggregate("count(COLUMNS(*))").fetchall()
    except duckdb.Error as error:
        return first_line(error) if os.path.exists(file) else None
    return None


def damage(connection: Connection) -> list[str]:
    """A message for every file that was left out so far."""
    return [
        f"{os.path.relpath(file)} is damaged and left out: {reason}"
        for file, reason in connection.execute(
            "SELECT file, reason FROM damaged ORDER BY file"
        ).fetchall()
    ]


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


def needed(question: str) -> list[str]:
    """The tables whose files a question needs, told by the words in it.

    A word too many costs time, never an answer. `query` stands for every table: DuckDB's `query`
    and `query_table` can put a name together.
    """
    words = set(re.findall(r"\w+", question.lower()))
    if words & {"query", "query_table"}:
        return list(TABLES)
    return [table for table in TABLES if any(table in _sources(word) for word in words)]


@cache
def _sources(name: str) -> frozenset[str]:
    """The tables that a view is made from, through all views between."""
    if name not in VIEWS:
        return frozenset()
    found = set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+(?:\.\w+)?)", sql(name)))
    tables = {source.partition(".")[2] for source in found if source.startswith("newest.")}
    return frozenset(tables & set(TABLES)).union(
        *(_sources(source) for source in found if source != name)
    )


@contextmanager
def held(connection: Connection, *views: str) -> Iterator[None]:
    """Meanwhile these views are tables, and `rows` answers a question asked again from memory."""
    for view in views:
        load(connection, *needed(f"FROM {view}"))
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {view} AS FROM main.{view}")
    _answers[id(connection)] = {}
    try:
        yield
    finally:
        del _answers[id(connection)]
        for view in views:
            connection.execute(f"DROP TABLE temp.{view}")


# What `rows` has answered so far, by connection and question, while `held`.
_answers: dict[int, dict[str, list[dict[str, Any]]]] = {}


def rows(connection: Connection, question: str, **parameters: Any) -> list[dict[str, Any]]:
    """The answer to a question of ours, a dict a row; reads the files it needs first."""
    known = _answers.get(id(connection), {})
    key = question + repr(parameters)
    if key not in known:
        known[key] = _ask(connection, question, parameters)
    return list(known[key])


def _ask(connection: Connection, question: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    before = damage(connection)
    load(connection, *needed(question))
    _warn([message for message in damage(connection) if message not in before])
    cursor = connection.execute(question, parameters or None)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def first_line(error: BaseException) -> str:
    """The part of an error of DuckDB's that says what happened."""
    return str(error).strip().partition("\n")[0]

"""The Parquet files of each table: listed, read into memory, left out if they are damaged."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from analysis.results.column_types import column_kinds, misfits
from analysis.results.errors import AnalysisError, first_line
from analysis.results.opened_folders import complete
from analysis.results.parquet_file import damage_at_ends
from analysis.results.sql_files import COUNTED, sql

Connection = DuckDBPyConnection
# Files that are read in one go.
MOST_AT_ONCE = 500
# From so many small files of a table on, a question says that merging them would help.
MANY_FILES = 1_000


def folders_of(connection: Connection) -> dict[str, Path]:
    """Return the opened folders by their name in the column `results`."""
    cursor = connection.execute("SELECT results, path FROM held.folders ORDER BY argument_index")
    return {results: Path(path) for results, path in cursor.fetchall()}


def load(connection: Connection, *tables: str) -> None:
    """Read tables into memory that are not there yet, without the files that are damaged."""
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
            _load_table(connection, table)
    connection.execute("SET preserve_insertion_order = true")


def _load_table(connection: Connection, table: str) -> None:
    """Read the files of a table; columns that this version does not know are kept."""
    folder = COUNTED.get(table, table)
    for _ in range(5):  # files are renamed and merged while a sweep runs
        files = list(list_files(connection, folder))
        if not files:
            return
        try:
            _create_table(connection, table, [file for _, file in files])
        except duckdb.Error as error:
            if not _set_damaged_aside(connection, folder, files) and files == list(
                list_files(connection, folder)
            ):
                raise AnalysisError(f"cannot read the table {table}: {first_line(error)}") from None
        else:
            if _set_misfits_aside(connection, table, files):
                connection.execute(f"DROP TABLE loaded.{table}")
                continue
            connection.execute("USE held")
            connection.table(f"loaded.{table}").create_view(table, replace=True)
            connection.execute("USE main")
            _note_many_files(connection, files)
            return
    raise AnalysisError(f"cannot read the table {table}: its files keep changing; try again")


def _create_table(connection: Connection, table: str, files: list[str]) -> None:
    """Read files into `loaded`, some at a time: what DuckDB keeps of each takes 130 KB."""
    parts = [files[start : start + MOST_AT_ONCE] for start in range(0, len(files), MOST_AT_ONCE)]
    if len(parts) == 1:
        connection.execute(f"CREATE TABLE loaded.{table} AS {_text(table)}", _given(table, files))
        return
    names = [f"temp.part_{number}" for number in range(len(parts))]
    try:
        for name, part in zip(names, parts, strict=True):
            connection.execute(f"CREATE TEMP TABLE {name} AS {_text(table)}", _given(table, part))
        every = " UNION ALL BY NAME ".join(f"FROM {name}" for name in names)
        connection.execute(f"CREATE TABLE loaded.{table} AS {every}")
    finally:
        for name in names:
            connection.execute(f"DROP TABLE IF EXISTS {name}")


def _text(table: str) -> str:
    return sql("read_confused" if table in COUNTED else "read_files").rstrip().rstrip(";")


def _given(table: str, files: list[str]) -> dict[str, str | list[str]]:
    return {"empty": f"empty.{COUNTED.get(table, table)}", "files": files}


def _note_many_files(connection: Connection, files: list[tuple[str, str]]) -> None:
    """Record the folders of which a table has many small files."""
    counts = Counter(
        results for results, file in files if not os.path.basename(file).startswith("compacted-")
    )
    for results, count in counts.items():
        if count >= MANY_FILES:
            connection.execute(
                "UPDATE held.folders SET many_files = true WHERE results = ?", [results]
            )


def _read(connection: Connection, table: str, files: list[str]) -> duckdb.DuckDBPyRelation:
    return connection.sql(_text(table), params=_given(table, files))


def list_files(connection: Connection, table: str) -> Iterator[tuple[str, str]]:
    """Yield results name and path of every file of a table that is not known to be damaged."""
    cursor = connection.execute("SELECT file FROM held.damaged WHERE table_name = ?", [table])
    damaged = {file for (file,) in cursor.fetchall()}
    for results, folder in folders_of(connection).items():
        complete(folder, table)
        try:
            with os.scandir(folder / table) as entries:
                files = sorted((entry.path, entry.is_file()) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for file, regular in files:
            name = os.path.basename(file)
            if not name.endswith(".parquet") or name.startswith(".") or file in damaged:
                continue
            if regular:
                yield results, file
            else:  # to open a pipe would wait for a writer
                _record_damage(
                    connection, table, [(results, file)], {file: "it is not a regular file"}
                )


def size_in_bytes(file: str) -> int:
    """Return the size of a file; 0 if it is gone."""
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0


def _set_damaged_aside(connection: Connection, table: str, files: list[tuple[str, str]]) -> bool:
    """Record the files that cannot be read; return whether there are any."""
    reasons = {file: reason for _, file in files if (reason := damage_at_ends(file))}
    if not reasons:
        reasons = {
            file: reason for _, file in files if (reason := _read_error(connection, table, file))
        }
    _record_damage(connection, table, files, reasons)
    return bool(reasons)


def _set_misfits_aside(connection: Connection, table: str, files: list[tuple[str, str]]) -> bool:
    """Record those of the loaded files that hold another kind of value; return whether any do."""
    reasons = misfits(
        column_kinds(connection.table(f"empty.{table}")),
        connection.table(f"loaded.{table}"),
        [file for _, file in files],
        lambda file: _read(connection, table, [file]),
    )
    _record_damage(connection, COUNTED.get(table, table), files, reasons)
    return bool(reasons)


def _record_damage(
    connection: Connection, table: str, files: list[tuple[str, str]], reasons: dict[str, str]
) -> None:
    for results, file in files:
        if file in reasons and os.path.exists(file):
            connection.execute(
                "INSERT INTO held.damaged VALUES (?, ?, ?, ?)",
                [results, table, file, reasons[file]],
            )


def _read_error(connection: Connection, table: str, file: str) -> str | None:
    """Return the error of reading a file to its end; None if it can be read, or is gone."""
    try:
        _read(connection, table, [file]).aggregate("count(COLUMNS(*))").fetchall()
    except duckdb.Error as error:
        return first_line(error) if os.path.exists(file) else None
    return None


def warnings_about(connection: Connection) -> list[str]:
    """Return a message for every file that was left out, and every folder that is slow to read."""
    slow = connection.execute(
        "SELECT path FROM held.folders WHERE many_files ORDER BY argument_index"
    ).fetchall()
    return [
        *damage(connection),
        *(
            f"{os.path.relpath(path)} has thousands of small files, which are slow to read: "
            f"cnngrid compact {shlex.quote(os.path.relpath(path))} merges them"
            for (path,) in slow
        ),
    ]


def damage(connection: Connection) -> list[str]:
    """Return a message for every file that has been left out so far."""
    return [
        f"{os.path.relpath(file)} is damaged and left out: {reason}"
        for file, reason in connection.execute(
            "SELECT file, reason FROM damaged ORDER BY file"
        ).fetchall()
    ]

"""A user's own SQL: it is answered from the views and can reach nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from analysis.results.database import open_database
from analysis.results.errors import AnalysisError, closest_hint, first_line
from analysis.results.sql_files import needed, view_names
from analysis.results.table_files import load, warnings_about


@dataclass(frozen=True)
class Answer:
    """Answer to a question: column names, DuckDB's type names, and rows of Python values."""

    relation: duckdb.DuckDBPyRelation
    columns: list[str]
    types: list[str]
    warnings: list[str]

    @cached_property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows; made when they are first asked for, as they can be many."""
        if any("TIME ZONE" in type_ for type_ in self.types):  # DuckDB needs pytz, Arrow does not
            return [tuple(row.values()) for row in self.relation.to_arrow_table().to_pylist()]
        return self.relation.fetchall()

    def write_parquet(self, path: str | Path) -> None:
        """Write the answer as a Parquet file, with its types."""
        table = self.relation.to_arrow_table()
        try:
            duckdb.from_arrow(table).write_parquet(os.fspath(path), compression="zstd")
        except duckdb.Error as error:
            raise AnalysisError(f"{path}: cannot be written: {first_line(error)}") from None


def ask(question: str, *folders: str | Path, all: bool = False) -> Answer:
    """Answer a user's SQL: one SELECT over the views, which can neither read nor write files.

    Raises `AnalysisError` with a short message if the SQL is wrong.
    """
    connection = open_database(*folders, all=all)
    load(connection, *needed(question))
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")
    try:
        statements = connection.extract_statements(question)
        _check_is_a_question(statements)
        relation = connection.sql(question).materialize()
    except duckdb.Error as error:
        raise AnalysisError(_message(error)) from None
    types = [str(type_) for type_ in relation.types]
    return Answer(relation, relation.columns, types, warnings_about(connection))


def _check_is_a_question(statements: Sequence[duckdb.Statement]) -> None:
    if not statements:
        raise AnalysisError('no SQL given; try "SELECT * FROM best"')
    kinds = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI}
    if len(statements) > 1 or statements[0].type not in kinds:
        raise AnalysisError("only one question at a time: a SELECT, DESCRIBE, SUMMARIZE or EXPLAIN")


def _message(error: duckdb.Error) -> str:
    """Return a DuckDB error as a message; for an unknown table with the names of the views."""
    message = str(error).strip()
    missing = re.search(r"Table with name (\S+) does not exist", message)
    if missing:
        name = missing.group(1).strip('"')
        hint = closest_hint(name.lower(), view_names())
        return f"there is no view {name}{hint}; there are: {', '.join(view_names())}"
    if "file system operations are disabled" in message:
        return "a question can neither read nor write files; it has the views: " + ", ".join(
            view_names()
        )
    return message

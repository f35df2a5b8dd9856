"""Files whose columns hold another kind of value than the table's.

Read together with the others, such a file would turn a whole column of numbers into text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")


def column_kinds(relation: Any) -> dict[str, str]:
    """Return the kind of value in each column of a DuckDB relation; all numbers are one kind."""
    types = zip(relation.columns, map(str, relation.types), strict=True)
    return {name: "number" if kind in NUMBERS else kind for name, kind in types}


def misfits(
    wanted: Mapping[str, str],
    all_rows: Any,
    files: Iterable[str],
    read: Callable[[str], Any],
) -> dict[str, str]:
    """Return the reason why a file does not fit, by file.

    `all_rows` is the relation over all files. If its columns are of the kinds `wanted`, no file is
    read on its own.
    """

    def wrong_columns(relation: Any) -> list[str]:
        kinds = column_kinds(relation)
        return [name for name, kind in wanted.items() if kinds.get(name, kind) != kind]

    if not wrong_columns(all_rows):
        return {}
    columns = {file: wrong_columns(read(file)) for file in files}
    return {
        file: f"its column {names[0]} does not hold what the table's does"
        for file, names in columns.items()
        if names
    }

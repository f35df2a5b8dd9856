"""Files of a results folder whose columns hold another kind of value than the table's.

Read together with the others, they would turn a whole column of numbers into text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")


def kinds(relation: Any) -> dict[str, str]:
    """The kind of value in each column of one of DuckDB's relations; all numbers are one kind."""
    named = zip(relation.columns, map(str, relation.types), strict=True)
    return {name: "number" if kind in NUMBERS else kind for name, kind in named}


def misfits(
    wanted: Mapping[str, str],
    found: Any,
    files: Iterable[str],
    read: Callable[[str], Any],
) -> dict[str, str]:
    """Why files do not fit, by file; none is opened where what was `found` in all of them does."""

    def wrong(relation: Any) -> list[str]:
        have = kinds(relation)
        return [name for name, kind in wanted.items() if have.get(name, kind) != kind]

    if not wrong(found):
        return {}
    columns = {file: wrong(read(file)) for file in files}
    return {
        file: f"its column {names[0]} does not hold what the table's does"
        for file, names in columns.items()
        if names
    }

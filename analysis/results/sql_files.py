"""SQL files of `analysis/sql/`: their text, the order of the views, the tables a question needs.

A new view is a file `sql/views/<name>.sql` and a line in `VIEWS`, below the views that it reads;
its columns go into `docs/results.md`. A table or figure asks a query in `sql/questions/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SQL = Path(__file__).parent.parent / "sql"

# The tables in the results folder. A new one has its columns in `sql/stored/<name>.sql` and the
# rule for its newest rows in `sql/newest/<name>.sql`.
TABLES = (
    *("trials", "paused", "plan", "asked"),
    *("epochs", "metrics", "classes", "predictions", "enhancement"),
)
# Tables that are counted while the files of another are read, by name.
COUNTED = {"confused": "predictions"}
# Views in the order in which they build on each other; those in `views/` are for users.
VIEWS = (
    "views/plan",
    "newest/members",
    "views/trials",
    "views/epochs",
    "views/metrics",
    "views/classes",
    "views/predictions",
    "views/enhancement",
    "newest/claims",
    "views/running",
    "views/coverage_trials",
    "views/coverage",
    "views/cells",
    "views/cell_metrics",
    "views/best",
    "views/winner_trials",
    "views/winner_measures",
    "views/confusion",
    "views/classification",
    "views/reported_runs",
    "views/reported",
    "views/reported_confusion",
    "views/learning_curves",
    "views/convergence",
    "views/pareto",
    "views/damaged",
)
# Data that ship with this package: the papers' runs, numbers and confusion matrices, CIFAR-100's
# coarse classes. The table of each is made by `sql/shipped/<name>.sql`.
REPORTED = SQL.parent / "reported"
SHIPPED = {
    "reported_runs": [REPORTED / "runs.csv"],
    "reported": sorted((REPORTED / "numbers").glob("*.csv")),
    "reported_confusion": [REPORTED / "confusion.csv"],
    "cifar100": [SQL / "shipped" / "cifar100_classes.csv"],
}


# Texts, quoted names, comments, words and brackets of a question.
TOKENS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\w+|[()]", re.DOTALL)
NO_TABLES_AFTER = frozenset(
    ("select", "where", "group", "order", "having", "qualify", "limit", "window")
)
TABLES_AFTER = frozenset(
    ("from", "join", "table", "describe", "desc", "summarize", "show", "pivot", "unpivot")
)


@cache
def sql(name: str) -> str:
    """Return the text of `sql/<name>.sql`."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def view_names() -> list[str]:
    """Return the views that a question can use, sorted."""
    return sorted(name.removeprefix("views/") for name in VIEWS if name.startswith("views/"))


def needed(question: str) -> list[str]:
    """Return the tables whose files a question needs, judged by the words where tables stand.

    A word too many costs time, never an answer. `query` stands for every table: DuckDB's `query`
    and `query_table` can build a table's name from parts.
    """
    words = set(re.findall(r"\w+", question.lower()))
    if words & {"query", "query_table"}:
        return list(TABLES)
    places = words if "$$" in question else set(_words_of_tables(question.lower()))
    names = (*TABLES, *COUNTED)
    return [table for table in names if any(table in _sources(word) for word in places)]


def views_in(question: str) -> set[str]:
    """Return the views that a question may read, through all views between."""
    return set().union(*map(_views_below, set(_words_of_tables(question.lower()))))


@cache
def _views_below(name: str) -> frozenset[str]:
    if f"views/{name}" not in VIEWS:
        return frozenset()
    sources = re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", sql(f"views/{name}"))
    return frozenset([name]).union(*(_views_below(each) for each in sources if each != name))


def _words_of_tables(question: str) -> Iterator[str]:
    """Yield the words that may name a table: not those of a list of columns or a condition.

    A column may be called like a table, as `epochs` of `trials` is.
    """
    outer: list[bool] = []
    may_be_table = True
    for token in TOKENS.findall(question):
        if token == "(":
            outer.append(may_be_table)
        elif token == ")":
            may_be_table = outer.pop() if outer else True
        elif token in NO_TABLES_AFTER:
            may_be_table = False
        elif token in TABLES_AFTER:
            may_be_table = True
        elif may_be_table and not token.startswith(("--", "/*")):
            yield from re.findall(r"\w+", token)


@cache
def _sources(name: str) -> frozenset[str]:
    """Return the tables that a view is made from, through all views between."""
    if f"views/{name}" not in VIEWS:
        return frozenset()
    sources = set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+(?:\.\w+)?)", sql(f"views/{name}")))
    tables = {source.partition(".")[2] for source in sources if source.startswith("newest.")}
    return frozenset(tables & {*TABLES, *COUNTED}).union(
        *(_sources(source) for source in sources if source != name)
    )

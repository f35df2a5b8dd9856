"""docs/results.md documents every table, view and column, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.charts.catalog import PLOTS
from analysis.results.sql_files import view_names
from analysis.tables.catalog import TABLES as READY
from grid.store.records import TABLES

DOC = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")


def section(kind, name):
    match = re.search(rf"^### {kind} {name}\n(.*?)(?=^##)", DOC, re.S | re.M)
    assert match, f"docs/results.md has no section '{kind} {name}'"
    return match.group(1)


def documented(text):
    """Return the column names in the first column of a section's table, with their meanings."""
    return re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \|$", text, re.M)


@pytest.mark.parametrize("table", [name for name in TABLES if name != "paused"])
def test_every_column_of_a_table_is_documented_with_its_meaning(table):
    expected = [(column.name, column.meaning) for column in TABLES[table]]
    assert documented(section("Table", table)) == expected


@pytest.mark.parametrize("view", view_names())
def test_every_column_of_a_view_is_documented(opened, view):
    text = section("View", view)
    known = [name for name, _ in documented(text)]
    flat = " ".join(text.split())
    if "the columns of `trials`" in flat:
        known += [name for name, _ in documented(section("View", "trials"))]
    if view in TABLES or "the columns of `trials`" in flat:
        known += [column.name for column in TABLES[view if view in TABLES else "trials"]]
    if "the columns of `cells`" in flat:
        text = section("View", "cells")
        known += [name for name, _ in documented(text)]
    endings = [name.removeprefix("<metric>") for name in known if name.startswith("<metric>")]
    metrics = re.findall(r"`(\w+)`", text[text.rfind("`<metric>` is each of") :]) if endings else []
    known = [name for name in known if not name.startswith("<metric>")]
    known += [metric + ending for metric in metrics for ending in endings]
    assert set(opened.sql(f"FROM {view}").columns) == set(known)


def test_ready_tables_and_figures_are_documented():
    for name, (_, shows) in {**READY, **PLOTS}.items():
        assert f"| `{name}` | {shows} |" in DOC

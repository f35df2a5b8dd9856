"""Cells as rows name them: their axes and values, as columns and in a few words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from analysis.tables.table_formats import MISSING, Column, Kind

Row = dict[str, Any]


def cell_axes(found: Iterable[Row]) -> list[str]:
    """The compared axes of the rows' cells, in the order in which the sweep file has them."""
    axes: dict[str, None] = {}
    for row in found:
        axes.update(dict.fromkeys(json.loads(row["cell"] or "{}")))
    return list(axes)


def cell_value(row: Row, axis: str) -> Any:
    """A cell's value of an axis: a number, text, or None where it has none."""
    value = json.loads(row["cell"] or "{}").get(axis)
    return value if value is None or isinstance(value, (str, int, float)) else compact(value)


def cell_label(row: Row, axes: list[str]) -> str:
    """A cell in a few words: `resnet18 · sgd · lr 0.1`."""
    parts = [(axis, cell_value(row, axis)) for axis in axes]
    return " · ".join(
        str(value) if isinstance(value, str) else f"{axis} {MISSING if value is None else value}"
        for axis, value in parts
    )


def settings_text(values: dict[str, Any]) -> str:
    """Settings in a few words: `lr=0.01, momentum=0.9`."""
    return ", ".join(f"{key}={compact(value)}" for key, value in values.items())


def cell_columns(found: list[Row], axes: list[str]) -> list[Column]:
    """The columns that say which cell a row is of."""
    kinds = (Column(axis, axis, axis_kind(found, axis)) for axis in axes)
    return [*folder_column(found), *kinds]


def folder_column(found: list[Row]) -> list[Column]:
    """A column for the results folder where the rows come from several."""
    several = len({row["results"] for row in found}) > 1
    return [Column("results", "results")] if several else []


def axis_kind(found: list[Row], axis: str) -> Kind:
    """How a table shows an axis: as numbers where all of its values are."""
    values = [cell_value(row, axis) for row in found]
    numeric = all(value is None or isinstance(value, (int, float)) for value in values)
    return "number" if numeric else "text"


def compact(value: Any) -> str:
    """A value in as few characters as tell it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

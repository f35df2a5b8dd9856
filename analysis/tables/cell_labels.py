"""Labels of cells: their compared axes and values, as columns and as short text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from analysis.tables.table_formats import MISSING, Column, Kind

Row = dict[str, Any]


@lru_cache(maxsize=100_000)
def _cell(text: str | None) -> dict[str, Any]:
    """Return a cell's values by axis; not to be changed, as every later caller gets them."""
    values: dict[str, Any] = json.loads(text or "{}")
    return values


def cell_axes(records: Iterable[Row]) -> list[str]:
    """Return the compared axes of the rows' cells, in the order of the sweep file."""
    axes: dict[str, None] = {}
    for row in records:
        axes.update(dict.fromkeys(_cell(row["cell"])))
    return list(axes)


def cell_value(row: Row, axis: str) -> Any:
    """Return a cell's value of an axis: a number, text, or None without a value."""
    value = _cell(row["cell"]).get(axis)
    return value if value is None or isinstance(value, (str, int, float)) else compact(value)


def cell_label(row: Row, axes: list[str]) -> str:
    """Return a cell as short text: `resnet18 · sgd · lr 0.1`."""
    parts = [(axis, cell_value(row, axis)) for axis in axes]
    return " · ".join(
        str(value) if isinstance(value, str) else f"{axis} {MISSING if value is None else value}"
        for axis, value in parts
    )


def config_settings(text: str | None) -> dict[str, Any]:
    """Return a config's settings; options are settings of their own: `optimizer_options.alpha`."""
    settings: dict[str, Any] = {}
    for key, value in json.loads(text or "{}").items():
        if key.endswith("_options") and isinstance(value, dict):
            settings.update({f"{key}.{name}": option for name, option in value.items()})
        else:
            settings[key] = value
    return settings


def settings_text(values: dict[str, Any]) -> str:
    """Return settings as short text: `lr=0.01, momentum=0.9`."""
    return ", ".join(f"{key}={compact(value)}" for key, value in values.items())


def cell_columns(records: list[Row], axes: list[str]) -> list[Column]:
    """Return the columns that identify a row's cell."""
    kinds = (Column(axis, axis, axis_kind(records, axis)) for axis in axes)
    return [*folder_column(records), *kinds]


def folder_column(records: list[Row]) -> list[Column]:
    """Return a column for the results folder if the rows come from several, else none."""
    several = len({row["results"] for row in records}) > 1
    return [Column("results", "results")] if several else []


def axis_kind(records: list[Row], axis: str) -> Kind:
    """Return the kind of an axis's column: numbers if all of its values are."""
    values = [cell_value(row, axis) for row in records]
    numeric = all(value is None or isinstance(value, (int, float)) for value in values)
    return "number" if numeric else "text"


def compact(value: Any) -> str:
    """Return a value as text in few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def without_images(records: list[Row]) -> str:
    """Return a sentence on classes without test images, with a space before it."""
    names = dict.fromkeys(row["class_name"] for row in records if row["support"] == 0)
    if not names:
        return ""
    return (
        f" Without test images: {', '.join(names)}; macro averages are over the classes with an "
        "image or a prediction."
    )

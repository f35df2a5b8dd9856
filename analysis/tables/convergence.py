"""How soon and how smoothly the winners of cells came up: the table `convergence`."""

from __future__ import annotations

import math
from typing import Any

from analysis.results.database import Connection, rows
from analysis.results.errors import AnalysisError
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import Row, cell_axes, cell_columns, cell_value
from analysis.tables.objectives import (
    FRACTIONS,
    kind_of,
    objective_in_words,
    objectives,
)
from analysis.tables.table_formats import Column, Spread, Table, format_value

# Columns in the unit of the objective.
OF_VALUES = ("swing", "largest_fall", "area")


def convergence(connection: Connection, threshold: float | None = None) -> Table:
    """Make a row per cell: its winner's first epochs at a value, its swing and its area.

    `threshold` is a value of the objective, a fraction if that is one; without it the threshold is
    a tenth below the best value on the data set. Raises `AnalysisError` if it cannot be a value.
    """
    _check(threshold, objectives(connection))
    records = rows(connection, sql("questions/convergence"), threshold=threshold)
    axes = cell_axes(records)
    several = len({(row["dataset"], row["labels"]) for row in records}) > 1
    data = [name for name in ("dataset", "labels") if several and name not in axes]
    columns = [
        *cell_columns(records, axes),
        *(Column(name, {"dataset": "data set"}.get(name, name)) for name in data),
        Column("n", "n", "count"),
        Column("epochs", "epochs"),
        Column("threshold", "threshold", "number"),
        Column("reached", "reached it", "count"),
        Column("epoch_at_threshold", "first epoch there", "seconds"),
        Column("epoch_at_own_best", "first epoch near its own best", "seconds"),
        Column("swing", "swing", "number"),
        Column("largest_fall", "largest fall", "number"),
        Column("area", "mean over epochs", "number"),
    ]
    lines = [tuple(_value(row, column.name, axes) for column in columns) for row in records]
    caption = _caption(connection, records, threshold) if records else "No trial is complete yet."
    return Table("Convergence", caption, columns, lines)


def _check(threshold: float | None, names: list[str]) -> None:
    """Raise `AnalysisError` for a threshold that no value of the objectives can reach."""
    if threshold is None:
        return
    if not math.isfinite(threshold):
        raise AnalysisError(f"--threshold must be a finite number, but got {threshold:g}")
    if names and FRACTIONS.issuperset(names) and not 0 < threshold <= 1:
        hint = f"; for {threshold:g} % give {threshold / 100:g}" if 1 < threshold <= 100 else ""
        raise AnalysisError(
            f"--threshold must be above 0 and at most 1, because {names[0]} is a fraction, but got "
            f"{threshold:g}{hint}"
        )


def _value(row: Row, name: str, axes: list[str]) -> Any:
    if name in axes:
        return cell_value(row, name)
    kind = kind_of(row["objective"])
    if name == "epochs":
        least, most = row["epochs_min"], row["epochs_max"]
        return str(least) if least == most else f"{least} to {most}"
    if name == "threshold":
        return Spread(row["threshold"], None, kind)
    if f"{name}_mean" in row:
        spread = Spread(row[f"{name}_mean"], row[f"{name}_sd"])
        return Spread(spread.mean, spread.sd, kind) if name in OF_VALUES else spread
    return row[name]


def _caption(connection: Connection, records: list[Row], threshold: float | None) -> str:
    sentences = [
        f"{objective_in_words(connection)} on validation after each epoch; mean ± standard "
        "deviation over the complete trials of each cell's winner alone: pruned, failed and "
        "diverged trials do not count.",
        _threshold_in_words(records, threshold),
        "First epoch: empty unless every trial reached it. Own best: a tenth below the trial's own "
        "best value. Swing: mean absolute change from one epoch to the next, which a steep rise "
        "makes large too; largest fall: the largest step to the worse, 0 if there is none.",
        _compared_in_words(records),
    ]
    without = sum(row["n"] == 0 for row in records)
    if without:
        cells = "1 cell has" if without == 1 else f"{without} cells have"
        sentences.append(f"{cells} no values on validation.")
    if any(row["n"] == 1 for row in records):
        sentences.append("n = 1: no spread over seeds, so no difference can be called real.")
    text = " ".join(filter(None, sentences))
    return text[0].upper() + text[1:]


def _threshold_in_words(records: list[Row], threshold: float | None) -> str:
    """Return a sentence on the threshold of every data set."""
    if threshold is not None:
        return "Threshold: as asked for."
    texts = {
        _data_set(row): format_value(
            Spread(row["threshold"], None, kind_of(row["objective"])), "number"
        )
        for row in records
        if row["threshold"] is not None
    }
    where = ", ".join(f"{value} on {name}" for name, value in texts.items())
    return f"Threshold: a tenth below the best value on the data set ({where})." if where else ""


def _compared_in_words(records: list[Row]) -> str:
    """Return a sentence on the epochs over which trials of a data set are compared."""
    longest: dict[str, int] = {}
    compared: dict[str, int] = {}
    for row in records:
        name = _data_set(row)
        longest[name] = max(longest.get(name, 0), row["epochs_max"])
        if row["epochs_compared"] is not None:
            compared[name] = row["epochs_compared"]
    shorter = [
        f"the first {epochs} on {name}, which all its trials reached (the longest has "
        f"{longest[name]})"
        for name, epochs in compared.items()
        if epochs < longest[name]
    ]
    if not shorter:
        return "Swing, fall and mean are over all epochs."
    return f"Swing, fall and mean are over the same epochs for all: {', '.join(shorter)}."


def _data_set(row: Row) -> str:
    """Return data set and labels as text, with the folder's name only if it must be told apart."""
    return " ".join(filter(None, (row["dataset"], row["labels"]))) or row["results"]

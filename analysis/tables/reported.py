"""The numbers of the five papers beside the measured ones: the table `reported`, and look-ups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import Row, cell_axes, cell_columns, cell_value, folder_column
from analysis.tables.table_formats import Column, Kind, Spread, Table

# Metrics of the papers: title and kind of their column.
METRICS: dict[str, tuple[str, Kind]] = {
    "test_top1": ("test top-1 (%)", "percent"),
    "val_top1": ("val top-1 (%)", "percent"),
    "train_top1": ("train top-1 (%)", "percent"),
    "test_loss": ("test loss", "number"),
    "val_loss": ("val loss", "number"),
    "train_loss": ("train loss", "number"),
    "precision": ("precision (%)", "percent"),
    "recall": ("recall (%)", "percent"),
    "f1": ("F1 (%)", "percent"),
    "test_macro_precision": ("macro precision (%)", "percent"),
    "test_macro_recall": ("macro recall (%)", "percent"),
    "test_macro_f1": ("macro-F1 (%)", "percent"),
    "test_weighted_precision": ("weighted precision (%)", "percent"),
    "test_weighted_recall": ("weighted recall (%)", "percent"),
    "test_weighted_f1": ("weighted F1 (%)", "percent"),
    "train_time_s": ("training time (s)", "seconds"),
    "epoch_time_s": ("s/epoch", "seconds"),
    "batch16_latency_ms": ("latency, batch 16 (ms)", "seconds"),
    "epochs_run": ("epochs run", "count"),
    "trainable_params": ("trainable parameters", "count"),
    "non_trainable_params": ("non-trainable parameters", "count"),
    "total_params": ("parameters in all", "count"),
    "repaired_share": ("errors repaired by enhancement (%)", "percent"),
}
SHOWN_DIFFERENCES = 5  # the view has all of them

NOT_REPORTED = "None of the five papers reports on these networks and data."
MEASURED = "Measured: mean ± standard deviation over the complete trials of each cell's winner."
PAPERS = (
    "Reported: what the paper says, under the paper's protocol; the table `reported` says more."
)


def reported(connection: Connection) -> Table:
    """Make a row per number that a paper reports, with the cell that stands beside it."""
    records = rows(connection, sql("questions/reported"))
    axes = [axis for axis in cell_axes(records) if axis not in ("arch", "labels")]
    columns = [
        *folder_column(records),
        Column("study", "study"),
        Column("item", "in the paper"),
        Column("arch", "network"),
        *([Column("labels", "labels")] if any(row["labels"] for row in records) else []),
        *cell_columns(records, axes)[len(folder_column(records)) :],
        Column("setting", "setting"),
        Column("metric", "what"),
        Column("reported", "reported", "number"),
        Column("measured", "measured", "number"),
        Column("n", "n", "count"),
        Column("standing", "standing"),
        Column("differs", "what differs"),
    ]
    lines = [
        tuple(_reported_value(row, column.name, axes) for column in columns) for row in records
    ]
    caption = (
        f"{MEASURED} Standing: printed in the paper, from its code, recomputed from what it "
        "prints, or cited: another author's number. What differs: our settings where they are not "
        "the paper's, the most important first (all of them are in the view `reported`), then what "
        f"to know of the paper's.{_without_a_run(records)}"
        if records
        else NOT_REPORTED
    )
    return Table("Reported and measured", caption, columns, lines)


def _reported_value(row: Row, name: str, axes: list[str]) -> Any:
    title, kind = METRICS[row["metric"]]
    if name in axes:  # without a cell, the paper's value of the axis
        return cell_value(row, name) if row["cell"] else row.get(name)
    if name == "metric":
        author = f" of {row['author']}" if row["author"] else ""
        epoch = f", epoch {row['epoch']}" if row["epoch"] else ""
        class_name = f", {row['class_name']}" if row["class_name"] else ""
        return f"{title}{author}{epoch}{class_name}"
    if name == "reported":
        return Spread(row["reported"], None, kind)
    if name == "measured":
        sd = None if row["metric"].endswith("_params") else row["measured_sd"]
        return Spread(row["measured_mean"], sd, kind)
    if name == "differs":
        paper = f"paper: {row['protocol']}" if row["protocol"] else ""
        return "; ".join(filter(None, (_shortened(row["differs"]), paper)))
    return row[name]


def _shortened(differs: str | None) -> str:
    """Return the first differences and the number of the others: `a; b; +3 more`."""
    texts = (differs or "").split("; ")
    left = len(texts) - SHOWN_DIFFERENCES
    return "; ".join([*texts[:SHOWN_DIFFERENCES], *([f"+{left} more"] if left > 0 else [])])


def _without_a_run(records: list[Row]) -> str:
    """Return a sentence that counts and names the numbers that no cell stands beside."""
    counts: Counter[str] = Counter()
    for row in records:
        if row["cell_id"] is None:
            rate = f"lr {row['lr']:g}" if row["lr"] is not None else None
            names = (row["arch"], row["labels"], row["optimizer"], rate)
            counts[" ".join(filter(None, names))] += 1
    if not counts:
        return ""
    named = ", ".join(f"{name} ({count})" for name, count in counts.items())
    numbers = "1 number has" if counts.total() == 1 else f"{counts.total()} numbers have"
    return f" {numbers} no run here: {named}."


class Papers:
    """Numbers that the papers report of each cell."""

    def __init__(self, connection: Connection) -> None:
        self._reported: dict[tuple[Any, ...], dict[str, float]] = {}
        for row in rows(connection, sql("questions/reported_of_cells")):
            key = (row["results"], row["cell_id"], row["metric"], row["class_name"])
            self._reported.setdefault(key, {})[row["setting"] or ""] = row["reported"]
        self._metrics = {metric for _, _, metric, _ in self._reported}

    def __bool__(self) -> bool:
        return bool(self._reported)

    def beside(self, column: Column) -> Iterable[Column]:
        """Yield a column of ours and, if a paper reports on it, the paper's."""
        yield column
        if column.name in self._metrics:
            yield Column(f"reported_{column.name}", f"reported {column.title}", column.kind)

    def values(self, row: Row, metric: str, class_name: str | None = None) -> Any:
        """Return the reported number of a row's cell, several for several runs, or None."""
        key = (row["results"], row["cell_id"], metric, class_name)
        values = list(self._reported.get(key, {}).values())
        return values[0] if len(values) == 1 else values or None

    def differences(self, row: Row, metric: str, other: str) -> Any:
        """Return the reported `metric` less `other`, for each run of which a paper has both."""
        first, second = (
            self._reported.get((row["results"], row["cell_id"], name, None), {})
            for name in (metric, other)
        )
        values = [value - second[run] for run, value in first.items() if run in second]
        return values[0] if len(values) == 1 else values or None


def metric_column(name: str) -> Column:
    """Return the column of a metric of the papers."""
    title, kind = METRICS[name]
    return Column(name, title, kind)

"""Tables of a sweep: its winners, the states of its trials, its settings and its machines."""

from __future__ import annotations

import json
from typing import Any

from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import (
    Row,
    cell_axes,
    cell_columns,
    cell_value,
    compact,
    config_settings,
    folder_column,
    settings_text,
    without_images,
)
from analysis.tables.measures import Measure, best_first, default_measure, measured_cells
from analysis.tables.objectives import (
    WinnerMetrics,
    objective_column,
    objective_in_words,
    objective_note,
)
from analysis.tables.significance import noise_note
from analysis.tables.table_formats import Column, Spread, Table

STATES = ("planned", "running", "paused", "complete", "pruned", "failed", "diverged", "missing")


def comparison(connection: Connection, measure: Measure | None = None) -> Table:
    """Make a row per cell: its winner's accuracy and cost over seeds, best by the measure first."""
    measure = measure or default_measure(connection)
    values = measured_cells(connection, measure)
    records = best_first(rows(connection, sql("questions/comparison")), measure, values)
    axes = cell_axes(records)
    several = any((row["configs"] or 0) > 1 for row in records)
    tuned = several or any(row["params"] for row in records)
    columns = [
        *cell_columns(records, axes),
    ]
    if "image_size" not in axes:
        columns.append(Column("image_size", "image size", "count"))
    if tuned:
        columns.append(Column("tuned", "tuned"))
    if several:
        columns.append(Column("configs", "configs", "count"))
    if tuned:
        columns.append(Column("role", "role"))
    metrics = WinnerMetrics(connection)
    columns += COMPARED
    if objective := objective_column(connection):
        columns.insert(columns.index(COMPARED[2]) + 1, objective)
    columns += metrics.columns
    if own := _own_column(measure, columns):
        columns.insert(columns.index(COMPARED[0]) + 1, own)
    if any(row["complete"] != row["planned"] for row in records):
        columns.append(Column("trials", "trials"))
    lines = [
        tuple(
            values.get((row["results"], row["cell_id"]))
            if column is own
            else metrics.value(row, column)
            if column in metrics.columns
            else _row_value(row, column, axes)
            for column in columns
        )
        for row in records
    ]
    goal = objective_in_words(connection)
    captions = (
        _comparison_caption(records, tuned, goal, measure),
        objective_note(connection),
        noise_note(connection, measure),
    )
    caption = " ".join(filter(None, captions))
    return Table("Comparison", caption, columns, lines)


COMPARED = [
    Column("n", "n", "count"),
    Column("test_top1", "test top-1 (%)", "percent"),
    Column("val_top1", "val top-1 (%)", "percent"),
    Column("test_macro_f1", "macro-F1 (%)", "percent"),
    Column("trainable_params", "parameters", "count"),
    Column("macs", "MACs", "quantity"),
    Column("epoch_time_s", "s/epoch", "seconds"),
    Column("latency_ms_p50", "latency (ms)", "seconds"),
]


def _own_column(measure: Measure, columns: list[Column]) -> Column | None:
    """Return a column for the measure if the table has none."""
    titles = {column.title for column in columns} | {f"test {c.title}" for c in COMPARED}
    return None if measure.title in titles else measure.column


def _row_value(row: Row, column: Column, axes: list[str]) -> Any:
    if column.name in axes:
        return cell_value(row, column.name)
    if column.name == "tuned":
        return settings_text(json.loads(row["params"])) if row["params"] else None
    if column.name == "role":  # without a search, no winner is confirmed
        return row["role"] if row["params"] or (row["configs"] or 0) > 1 else None
    if column.name == "trials":
        return trials_text(row)
    if f"{column.name}_mean" in row:
        return Spread(row[f"{column.name}_mean"], row[f"{column.name}_sd"])
    return row[column.name]


def _comparison_caption(records: list[Row], tuned: bool, goal: str, measure: Measure) -> str:
    if not records:
        return "Nothing is planned and no trial has ended."
    complete = [row for row in records if row["n"]]
    if not complete:
        return "No trial is complete yet."
    counts = sorted({row["n"] for row in complete})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts = [f"Mean ± standard deviation over n = {n} complete trials"]
    differ = "seed or fold" if any(row["folded"] for row in complete) else "seed"
    parts[0] += f" that differ in the {differ}; sorted by {measure.sorting}."
    chosen = {row["select"] or "best" for row in complete}
    if chosen == {"best"}:
        parts.append(f"Numbers are those of the epoch with the best {goal} (select: best).")
    elif chosen == {"last"}:
        parts.append("Numbers are those of the last epoch (select: last).")
    else:
        parts.append("Numbers are those of the epoch that each config's select chose.")
    if tuned:
        roles = {row["role"] for row in complete}
        standing = {
            frozenset({"confirmed"}): "confirmed on fresh seeds",
            frozenset({"searched"}): f"searched, not confirmed: the winner's {goal} is biased",
        }.get(frozenset(roles), f"see role: searched winners' {goal} is biased")
        parts.append(f"Each cell shows its config with the best mean {goal}; {standing}.")
    sizes = sorted({row["image_size"] for row in complete if row["image_size"]})
    if len(sizes) > 1:
        listed = ", ".join(map(str, sizes))
        parts.append(f"Image sizes differ ({listed} px): not networks alone are compared.")
    return " ".join([*parts, "Latency: one forward pass of one image, median."])


def per_class(connection: Connection) -> Table:
    """Make a row per class and cell: precision, recall, F1 of the winner on the test split."""
    records = rows(connection, sql("questions/per_class"))
    axes = cell_axes(records)
    columns = [
        *cell_columns(records, axes),
        Column("class_name", "class"),
        Column("support", "test images", "count"),
        Column("precision", "precision (%)", "percent"),
        Column("recall", "recall (%)", "percent"),
        Column("f1", "F1 (%)", "percent"),
        Column("auc", "AUC (%)", "percent"),
    ]
    lines = [
        tuple(_row_value({"params": None, **row}, c, axes) for c in columns) for row in records
    ]
    caption = (
        "Test split, mean ± standard deviation over the complete trials of each cell's winner. "
        f"Recall is the accuracy within the class.{without_images(records)}"
        if records
        else "No trial is complete yet."
    )
    return Table("Per class", caption, columns, lines)


def coverage(connection: Connection) -> Table:
    """Make a row per cell: planned trials by state."""
    records = rows(connection, sql("questions/coverage"))
    axes = cell_axes(records)
    columns = [
        *cell_columns(records, axes),
        *(
            Column(state, state, "count")
            for state in STATES
            # Only some stopping rules pause trials.
            if state != "paused" or any(row[state] for row in records)
        ),
    ]
    lines = [
        tuple(_row_value({"params": None, **row}, c, axes) for c in columns) for row in records
    ]
    total = {state: sum(row[state] for row in records) for state in STATES}
    caption = f"Complete: {trials_text(total)}." if records else "There is no plan."
    return Table("Coverage", caption, columns, lines)


def failures(connection: Connection) -> Table:
    """Make a row per trial that did not complete, with its reason."""
    records = rows(connection, sql("questions/failures"))
    axes = cell_axes(records)
    folds = (
        [Column("fold", "fold", "count")] if any(row["fold"] is not None for row in records) else []
    )
    columns = [
        *cell_columns(records, axes),
        Column("seed", "seed", "count"),
        *folds,
        Column("state", "state"),
        Column("epochs_run", "epochs run", "count"),
        Column("reason", "reason"),
        Column("trial_id", "trial"),
    ]
    lines = [
        tuple(_row_value({"params": None, **row}, c, axes) for c in columns) for row in records
    ]
    caption = (
        "Trials that failed, diverged or were pruned."
        if records
        else "Every trial that ended is complete."
    )
    return Table("Failures", caption, columns, lines)


def settings(connection: Connection) -> Table:
    """Make a row per setting: compared, tuned, fixed or differing, and its values."""
    records = rows(connection, sql("questions/settings"))
    compared = cell_axes(records)
    tuned = {key for row in records if row["params"] for key in json.loads(row["params"])}
    configs = []
    for row in records:
        config = config_settings(row["config"])
        if row["image_size"]:
            config["image_size"] = row["image_size"]
        # As the sweep file has it: a default may be null in the config.
        config.update({axis: cell_value(row, axis) for axis in compared})
        configs.append({key: value for key, value in config.items() if value is not None})
    keys = dict.fromkeys(key for config in configs for key in config)
    values: dict[str, dict[str, None]] = {
        key: {
            compact(config[key]) if key in config else "none": None
            for config in configs
            if key in config or key in compared
        }
        for key in keys
    }
    partial = {key for key in keys if any(key not in config for config in configs)}
    lines = []
    for key in sorted(values, key=lambda key: (key not in compared, key not in tuned, key)):
        standing = "fixed, where it applies" if key in partial else "fixed"
        standing = "differs" if len(values[key]) > 1 else standing
        standing = "compared" if key in compared else "tuned" if key in tuned else standing
        lines.append((key, standing, _joined(list(values[key]))))
    columns = [
        Column("setting", "setting"),
        Column("standing", "standing"),
        Column("value", "value"),
    ]
    caption = (
        "Compared: every combination is a cell. Tuned: searched in each cell. "
        "Fixed: the same in all."
    )
    if any(standing == "differs" for _, standing, _ in lines):
        caption += " Differs: set per combination, so cells differ in more than what is compared."
    return Table("Settings", caption, columns, lines)


def provenance(connection: Connection) -> Table:
    """Make a row per combination of machine, versions, commit and data that trials ran with."""
    records = rows(connection, sql("questions/provenance"))
    columns = [
        *folder_column(records),
        Column("host", "host"),
        Column("device", "device"),
        Column("threads", "threads", "count"),
        Column("trials", "trials", "count"),
        Column("attempts", "attempts", "count"),
        Column("wall_time_s", "wall time (s)", "seconds"),
        Column("first_start", "first start (UTC)"),
        Column("last_end", "last end (UTC)"),
        Column("dataset", "dataset"),
        Column("data_fingerprint", "data fingerprint"),
        Column("git_commit", "commit"),
        Column("versions", "versions"),
    ]
    lines = [
        tuple(
            _versions_text(row["versions"]) if column.name == "versions" else row[column.name]
            for column in columns
        )
        for row in records
    ]
    return Table("Provenance", "Machines, versions and data of the trials.", columns, lines)


def trials_text(row: Row) -> str:
    """Return complete of planned trials, and the states of the others: `1/2, 1 failed`."""
    if row["planned"] is None:
        return ""
    others = [
        f"{row[state]} {state}"
        for state in STATES
        if state not in ("planned", "complete") and row[state]
    ]
    return ", ".join([f"{row['complete']}/{row['planned']}", *others])


def _joined(values: list[str], most: int = 12) -> str:
    return ", ".join(values[:most]) + (
        f", ... ({len(values)} values)" if len(values) > most else ""
    )


def _versions_text(versions: str | None) -> str | None:
    try:
        return ", ".join(f"{name} {number}" for name, number in json.loads(versions or "").items())
    except (ValueError, AttributeError):
        return versions

"""Tables that the five papers have, with each number they report beside the measured one."""

from __future__ import annotations

from typing import Any

from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import (
    Row,
    cell_axes,
    cell_columns,
    cell_value,
    folder_column,
    without_images,
)
from analysis.tables.reported import MEASURED, PAPERS, Papers, metric_column
from analysis.tables.table_formats import Column, Spread, Table

MOST_CLASSES = 20  # a table with more classes has no column per class


def training_time(connection: Connection) -> Table:
    """Make a row per cell: its winner's accuracy, over all and by class, and its training time."""
    records = rows(connection, sql("questions/winners"))
    axes = cell_axes(records)
    recall = {
        (row["results"], row["cell_id"], row["class_name"]): Spread(
            row["recall_mean"], row["recall_sd"]
        )
        for row in rows(connection, sql("questions/per_class"))
    }
    classes = list(dict.fromkeys(name for _, _, name in recall))
    if len(classes) > MOST_CLASSES:
        classes = []
    papers = Papers(connection)
    columns = [
        *cell_columns(records, axes),
        *([] if "image_size" in axes else [Column("image_size", "image size", "count")]),
        Column("n", "n", "count"),
        *papers.beside(metric_column("test_top1")),
        *(Column(f"class {name}", f"{name} (%)", "percent") for name in classes),
        metric_column("epochs_run"),
        *papers.beside(metric_column("train_time_s")),
        metric_column("epoch_time_s"),
    ]

    def value(row: Row, column: Column) -> Any:
        if column.name.startswith("class "):
            key = (row["results"], row["cell_id"], column.name.removeprefix("class "))
            return recall.get(key)
        return _winner_value(row, column, axes, papers)

    lines = [tuple(value(row, column) for column in columns) for row in records]
    caption = f"{MEASURED} By class: the share of the class's test images found. "
    caption += "Training time: the training steps alone, without evaluation."
    return Table("Training time", _caption(records, papers, caption), columns, lines)


def parameters(connection: Connection) -> Table:
    """Make a row per network as built: its counts, and the optimizers that trained it."""
    records = rows(connection, sql("questions/parameters"))
    papers = Papers(connection)
    several = len({(row["dataset"], row["labels"]) for row in records}) > 1
    columns = [
        *folder_column(records),
        Column("arch", "network"),
        *([Column("dataset", "data set"), Column("labels", "labels")] if several else []),
        Column("image_size", "image size", "count"),
        *(
            column
            for name in ("trainable_params", "non_trainable_params", "total_params")
            for column in papers.beside(metric_column(name))
        ),
        Column("macs", "MACs", "quantity"),
        Column("activations", "activations", "quantity"),
        Column("checkpoint_mib", "weights (MiB)", "seconds"),
        Column("optimizers", "optimizer"),
    ]
    lines = [tuple(_winner_value(row, column, [], papers) for column in columns) for row in records]
    caption = (
        "Non-trainable: BatchNorm statistics and frozen weights, as Keras counts. MACs: "
        "multiply-accumulates of one forward pass of one image."
    )
    return Table("Parameters", _caption(records, papers, caption), columns, lines)


def classification_report(connection: Connection) -> Table:
    """Make a row per class and average of each cell's winner, from its confusion matrix."""
    records = rows(connection, sql("questions/classification_report"))
    axes = cell_axes(records)
    papers = Papers(connection)
    columns = [
        *cell_columns(records, axes),
        Column("line", "class"),
        *(
            column
            for name in ("precision", "recall", "f1")
            for column in papers.beside(metric_column(name))
        ),
        Column("support", "test images", "count"),
    ]
    overall = {
        ("accuracy", "recall"): "test_top1",
        **{
            (f"{kind} average", name): f"test_{kind}_{name}"
            for kind in ("macro", "weighted")
            for name in ("precision", "recall", "f1")
        },
    }

    def value(row: Row, column: Column) -> Any:
        metric = column.name.removeprefix("reported_")
        if metric == column.name:
            return _winner_value(row, column, axes, papers)
        if row["class_name"] is not None:
            return papers.values(row, metric, row["class_name"])
        return papers.values(row, overall.get((row["line"], metric), ""))

    lines = [tuple(value(row, column) for column in columns) for row in records]
    caption = (
        f"{MEASURED} Test split, counted from the stored predictions. Accuracy stands under "
        "recall; the weighted average counts every class by its images."
        f"{without_images([row for row in records if row['class_name'] is not None])}"
    )
    return Table("Classification report", _caption(records, papers, caption), columns, lines)


def gap(connection: Connection) -> Table:
    """Make a row per cell: its winner's training accuracy less val and test accuracy."""
    records = rows(connection, sql("questions/gap"))
    axes = cell_axes(records)
    papers = Papers(connection)
    differences = {
        "reported_train_val": ("val_top1", "reported train - val (%)"),
        "reported_train_test": ("test_top1", "reported train - test (%)"),
    }
    columns = [
        *cell_columns(records, axes),
        Column("n", "n", "count"),
        *(metric_column(name) for name in ("train_top1", "val_top1", "test_top1")),
        Column("train_val", "train - val (%)", "percent"),
        Column("train_test", "train - test (%)", "percent"),
        *(
            Column(name, title, "percent")
            for name, (metric, title) in differences.items()
            if any(papers.differences(row, "train_top1", metric) for row in records)
        ),
    ]

    def value(row: Row, column: Column) -> Any:
        if column.name in differences:
            return papers.differences(row, "train_top1", differences[column.name][0])
        return _winner_value(row, column, axes, papers)

    lines = [tuple(value(row, column) for column in columns) for row in records]
    caption = (
        f"{MEASURED} Differences are taken trial by trial. Train top-1 is the running mean over "
        "the chosen epoch, in training mode and on augmented images, so dropout and augmentation "
        "lower it: the gap can be negative."
    )
    return Table("Overfitting gap", _caption(records, papers, caption), columns, lines)


def label_sets(connection: Connection) -> Table:
    """Make a row per cell on data with several label sets: accuracy, time and loss."""
    records = [row for row in rows(connection, sql("questions/winners")) if row["labels"]]
    records.sort(key=lambda row: (row["results"], row["arch"], row["labels"]))
    axes = [axis for axis in cell_axes(records) if axis not in ("arch", "labels")]
    papers = Papers(connection)
    columns = [
        *folder_column(records),
        Column("arch", "network"),
        Column("labels", "labels"),
        *cell_columns(records, axes)[len(folder_column(records)) :],
        Column("n", "n", "count"),
        *(
            column
            for name in (
                "train_top1",
                "val_top1",
                "test_top1",
                "train_time_s",
                "val_loss",
                "test_loss",
            )
            for column in papers.beside(metric_column(name))
        ),
        metric_column("epochs_run"),
    ]
    lines = [
        tuple(_winner_value(row, column, axes, papers) for column in columns) for row in records
    ]
    nothing = "No data set here has several label sets."
    return Table("Label sets", _caption(records, papers, MEASURED, nothing), columns, lines)


def coarse_from_fine(connection: Connection) -> Table:
    """Make a row per cell trained on CIFAR-100's fine labels: its accuracy on the coarse ones."""
    records = rows(connection, sql("questions/coarse_from_fine"))
    axes = [axis for axis in cell_axes(records) if axis != "labels"]
    columns = [
        *cell_columns(records, axes),
        Column("n", "n", "count"),
        Column("fine_top1", "fine labels (%)", "percent"),
        Column("derived_top1", "coarse, from fine (%)", "percent"),
        Column("coarse_top1", "coarse, trained on them (%)", "percent"),
    ]
    lines = [tuple(_winner_value(row, column, axes) for column in columns) for row in records]
    caption = (
        f"{MEASURED} Test top-1. From fine: a prediction is right where its fine class belongs to "
        "the image's coarse class. Trained on them: the same cell with labels: coarse."
        if records
        else "No complete trial has predictions of CIFAR-100's fine labels."
    )
    return Table("Coarse accuracy from fine labels", caption, columns, lines)


def scaling(connection: Connection) -> Table:
    """Make a row per width, depth and image side of a network: MACs, counted and by the rule."""
    groups: dict[Any, list[Row]] = {}
    for row in rows(connection, sql("questions/scaling")):
        groups.setdefault((row["results"], row["dataset"], row["arch"]), []).append(row)
    several = {key: group for key, group in groups.items() if len(group) > 1}
    records = [row for group in several.values() for row in group]
    columns = [
        *folder_column(records),
        Column("arch", "network"),
        *([Column("dataset", "data set")] if len({row["dataset"] for row in records}) > 1 else []),
        Column("width", "width", "number"),
        Column("depth", "depth", "number"),
        Column("image_size", "image size", "count"),
        metric_column("trainable_params"),
        Column("macs", "MACs", "quantity"),
        Column("macs_ratio", "of the base", "seconds"),
        Column("rule_ratio", "by the rule", "seconds"),
        Column("n", "n", "count"),
        metric_column("test_top1"),
    ]
    lines = []
    for group in several.values():
        base = _base(group)
        for row in group:
            ratios = {
                "macs_ratio": row["macs"] / base["macs"],
                "rule_ratio": _rule(row) / _rule(base),
            }
            lines.append(tuple(_winner_value({**row, **ratios}, c, []) for c in columns))
    caption = (
        "Multiply-accumulates of one forward pass of one image, counted, and by the rule depth x "
        "width^2 x side^2 (arXiv 1704.04861 for width and side, 1905.11946 for depth), both as "
        "multiples of the network's base: width and depth 1. Channels and layers come in whole "
        "numbers, and stem and head do not all scale: hence the differences. Of equal networks the "
        "winner with the best mean val top-1."
        if records
        else "No network is here at several widths, depths or image sizes."
    )
    return Table("Scaling", caption, columns, lines)


def _rule(row: Row) -> float:
    """Return depth x width^2 x side^2, to which MACs are proportional by the rule."""
    return float(row["depth"] * row["width"] ** 2 * row["image_size"] ** 2)


def _base(group: list[Row]) -> Row:
    """Return the network itself; of several image sides the one from which the others scale."""
    unscaled = [row for row in group if row["width"] == row["depth"] == 1] or group
    grows = any(row["width"] > 1 or row["depth"] > 1 for row in group)
    return (min if grows else max)(unscaled, key=lambda row: row["image_size"])


def enhancement(connection: Connection) -> Table:
    """Make a row per cell and chosen enhancement: its effect on the test images, beside noise."""
    records = rows(connection, sql("questions/enhancement"))
    axes = cell_axes(records)
    columns = [
        *cell_columns(records, axes),
        Column("transform", "enhancement"),
        Column("factors", "factors"),
        Column("n", "n", "count"),
        Column("wrong_before", "errors before", "count"),
        Column("repaired", "repaired", "count"),
        Column("repaired_share", "repaired (%)", "percent"),
        Column("broken", "broken", "count"),
        Column("net_change", "net", "count"),
        Column("top1_before", "top-1 before (%)", "percent"),
        Column("top1_after", "after (%)", "percent"),
        Column("random_repaired", "noise repaired", "count"),
        Column("random_broken", "noise broken", "count"),
        Column("random_net_change", "noise net", "count"),
    ]
    lines = [tuple(_winner_value(row, column, axes) for column in columns) for row in records]
    caption = (
        "Every test image enhanced by the factors that did best on validation images; mean ± "
        "standard deviation over the trials that were looked at. Repaired: wrong before, right "
        "after; broken: the reverse. Noise: Gaussian, of the same strength on every image."
        if records
        else "No trial was looked at: `cnngrid explain RESULTS enhancement --trial ID`."
    )
    return Table("Enhancement", caption, columns, lines)


def _winner_value(row: Row, column: Column, axes: list[str], papers: Papers | None = None) -> Any:
    if column.name in axes:
        return cell_value(row, column.name)
    if papers is not None and column.name.startswith("reported_"):
        return papers.values(row, column.name.removeprefix("reported_"))
    if f"{column.name}_mean" in row:
        return Spread(row[f"{column.name}_mean"], row[f"{column.name}_sd"])
    return row[column.name]


def _caption(
    records: list[Row], papers: Papers, caption: str, nothing: str = "No trial is complete yet."
) -> str:
    if not records:
        return nothing
    return f"{caption} {PAPERS}" if papers else caption

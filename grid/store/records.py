"""Columns of every table of the store: their Arrow types, units and meaning, in one place.

Columns are added, never renamed or reused. No column is ever typed `null`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cnncore.error_text import printable

TEXT, INT, REAL = pa.string(), pa.int64(), pa.float64()
TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """A column: its name carries the unit, `meaning` the rest."""

    name: str
    type: pa.DataType
    meaning: str


def _columns(type_: pa.DataType, **meanings: str) -> tuple[Column, ...]:
    return tuple(Column(name, type_, meaning) for name, meaning in meanings.items())


TRIALS: tuple[Column, ...] = (
    *_columns(
        TEXT,
        trial_id="hash of the config, the seed and the fold (12 hex digits)",
        config_id="hash of the resolved config alone",
        lineage_id="hash of the config without its epochs; null where the schedule needs them",
        continued_from="trial whose last checkpoint this one started from",
        role="searched or confirmed, when it ran",
        sweep="name of the sweep",
        state="complete, pruned, failed or diverged",
        reason="why it did not complete, or why it ended early",
    ),
    *_columns(INT, attempts="how often it was started, the last time included"),
    *_columns(
        TEXT,
        arch="architecture",
        dataset="data set",
        labels="which labels of the data set (fine or coarse)",
        optimizer="optimizer",
    ),
    *_columns(
        REAL,
        lr="learning rate, the peak of the schedule",
        momentum="momentum; null if the optimizer has none",
        weight_decay="weight decay; null if the optimizer has none",
    ),
    *_columns(INT, batch_size="images per step", image_size="side of the network's input, pixels"),
    *_columns(TEXT, precision="fp32, tf32 or bf16"),
    *_columns(
        INT,
        seed="the integer from which every random stream comes",
        fold="cross-validation fold",
        epochs="budget: the most epochs it may use",
    ),
    *_columns(TEXT, config="the whole resolved config, JSON"),
    *_columns(
        INT,
        epochs_run="epochs trained",
        best_epoch="epoch that `select` chose; val_* and test_* belong to it",
    ),
    *_columns(
        REAL,
        train_top1="running mean over best_epoch in training mode, on augmented images",
        train_loss="running mean over best_epoch in training mode, of the loss trained on (`loss`)",
        val_top1="validation accuracy",
        val_top5="validation top-5 accuracy; null below six classes",
        val_loss="validation cross-entropy",
        objective="the config's objective, on validation; null: val_top1 is, NaN: it has no value",
        test_top1="test accuracy; only complete trials have test_*",
        test_top5="test top-5 accuracy; null below six classes",
        test_loss="test cross-entropy",
        test_macro_precision="mean over the classes with an image or a prediction",
        test_macro_recall="mean over the classes with an image or a prediction",
        test_macro_f1="mean F1 over the classes with an image or a prediction",
        test_macro_auc="mean of the one-against-rest areas under the ROC curve",
        test_ece="expected calibration error, 15 equal-width bins, L1",
    ),
    *_columns(
        INT,
        trainable_params="parameters with a gradient",
        non_trainable_params="BatchNorm statistics and frozen weights, as Keras counts",
        macs="multiply-accumulates of one forward pass of one image; null where not known",
        activations="output elements of all convolutions and linears, one image",
    ),
    *_columns(
        REAL,
        train_time_s="training steps alone, all epochs, without evaluation",
        epoch_time_s="median training time of an epoch, the first left out where there are more",
        wall_time_s="start to end, summed over attempts",
    ),
    *_columns(INT, threads="CPU threads of PyTorch"),
    *_columns(
        REAL,
        train_images_per_s="training images over train_time_s, the first epoch left out",
        latency_ms_p50="median time of one forward pass at batch 1, eval mode",
        latency_ms_p95="95th percentile of the same",
        batch16_latency_ms="median time of one forward pass at batch 16",
        peak_memory_mib="most device memory allocated; on a CPU the process's peak",
        energy_j="energy of the device over training; null where it cannot be read or was shared",
        checkpoint_mib="size of the weights",
        gpu_share="share of its GPU that it had at least, 1 is all of it; null on a CPU",
    ),
    *_columns(
        TEXT,
        host="machine",
        device="device model",
        git_commit="commit of the sweep author's repository, -dirty if it had changes",
        versions="versions of Python and the libraries, JSON",
        data_fingerprint="hash of the data set's images and labels",
        changed_settings="settings of the process that the network changed; put back",
        code_folder="copy of the user's own code that it ran: code/<code_folder>/",
        code="fingerprint of each part of that code, by its name, JSON",
    ),
    *_columns(INT, skipped_images="unreadable image files left out (--skip-unreadable)"),
    *_columns(TIME, started_at="first start", ended_at="end"),
)

EPOCHS: tuple[Column, ...] = (
    *_columns(TEXT, trial_id="trial"),
    *_columns(INT, epoch="from 1", attempt="attempt that trained it, from 1"),
    *_columns(
        REAL,
        lr="learning rate at the epoch's last step",
        train_loss="running mean in training mode, of the loss trained on (`loss`)",
        val_loss="validation cross-entropy",
        train_top1="running mean in training mode",
        val_top1="validation accuracy",
        val_top5="validation top-5 accuracy; null below six classes",
        objective="the config's objective, on validation; null: val_top1 is, NaN: it has no value",
        train_time_s="training steps of this epoch",
        eval_time_s="evaluation after this epoch",
        train_images_per_s="training images over train_time_s",
    ),
    *_columns(TIME, ended_at="end of the epoch"),
)

METRICS: tuple[Column, ...] = (
    *_columns(TEXT, trial_id="trial", split="val, or test with the chosen weights"),
    *_columns(INT, epoch="from 1; of test best_epoch"),
    *_columns(TEXT, name="the metric's name in the sweep file"),
    *_columns(REAL, value="its value; NaN: it has none"),
    *_columns(TEXT, reason="why it has no value"),
)

CLASSES: tuple[Column, ...] = (
    *_columns(TEXT, trial_id="trial", split="val or test"),
    *_columns(INT, class_index="from 0"),
    *_columns(TEXT, class_name="name of the class"),
    *_columns(INT, support="images of the class in the split"),
    *_columns(
        REAL,
        precision="of the images given this class, the share that are",
        recall="of the images of this class, the share found",
        f1="harmonic mean of the two; null, as they are, without an image and a prediction",
        auc="one against the rest",
    ),
)

PREDICTIONS: tuple[Column, ...] = (
    *_columns(TEXT, trial_id="trial", split="test"),
    Column("index", pa.int32(), "place of the image in the split, from 0"),
    Column("label", pa.int16(), "true class"),
    Column("predicted", pa.int16(), "most probable class"),
    Column("confidence", pa.float32(), "its probability"),
)

ENHANCEMENT: tuple[Column, ...] = (
    *_columns(
        TEXT,
        trial_id="trial",
        split="val or test",
        transform="brightness, contrast, sharpness, or combined: one after the other",
    ),
    *_columns(
        REAL,
        brightness="factor as in Pillow's ImageEnhance; null where it is not applied",
        contrast="likewise",
        sharpness="likewise",
    ),
    Column("chosen", pa.bool_(), "whether validation picked these factors; test has only such"),
    *_columns(
        INT,
        images="images of the split",
        wrong_before="of them misclassified as they are",
        repaired="wrong before, right after",
        broken="right before, wrong after",
        net_change="repaired less broken",
    ),
    *_columns(
        REAL,
        top1_before="accuracy on the images as they are",
        top1_after="accuracy on the enhanced images",
        repaired_share="repaired over wrong_before; null without errors",
        l2_norm="mean over images of the change's norm, pixels from 0 to 255",
    ),
    *_columns(
        INT,
        random_repaired="repaired by Gaussian noise of the same norm on every image; null on val",
        random_broken="broken by it",
        random_net_change="repaired by it less broken",
    ),
    *_columns(REAL, random_top1_after="accuracy under it", random_l2_norm="the norm it had"),
    *_columns(TIME, made_at="when it was measured"),
)

PLAN: tuple[Column, ...] = (
    *_columns(
        TEXT,
        plan_id="hash of what is planned",
        sweep="name of the sweep",
        cell_id="hash of the compared axes' names and values",
        cell="the compared axes and their values, JSON",
        trial_id="trial; null for a suggestion of a tuned cell that was not asked yet",
        config_id="config; null likewise",
        lineage_id="config without its epochs; null where the schedule needs them",
        role="searched or confirmed",
    ),
    *_columns(
        INT,
        position="place in the plan, from 0",
        suggestion="number of the suggestion in a tuned cell, from 0; null elsewhere",
        seed="seed",
        fold="cross-validation fold",
        epochs="budget",
    ),
    *_columns(TEXT, config="the whole resolved config, JSON; null like trial_id"),
    *_columns(TIME, written_at="when this version of the plan was last written; newest counts"),
)

ASKED: tuple[Column, ...] = (
    *_columns(TEXT, cell_id="cell"),
    *_columns(INT, suggestion="from 0"),
    *_columns(
        TEXT,
        config_id="config",
        config="the whole resolved config, JSON",
        params="the tuned axes' values, JSON",
        role="searched or confirmed",
        sampled_by="the sampler; `fallback` where it knew no new point",
        told="what the sampler was told since the last suggestion, JSON: number, state, score, "
        "epoch",
    ),
    Column("draw", INT, "which draw of the sampler this is, from 0: duplicates are passed over"),
    Column("trial_ids", pa.list_(TEXT), "one per seed and fold; null: it no longer counts"),
    Column("told_order", pa.list_(INT), "suggestions the sampler had been told, in that order"),
    *_columns(TIME, asked_at="when"),
    *_columns(
        TEXT,
        search_id="axes, sampler and seed of the search; null in folders of earlier versions",
    ),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "trials": TRIALS,
    "paused": TRIALS,
    "epochs": EPOCHS,
    "metrics": METRICS,
    "classes": CLASSES,
    "predictions": PREDICTIONS,
    "enhancement": ENHANCEMENT,
    "plan": PLAN,
    "asked": ASKED,
}


def schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table."""
    return pa.schema([pa.field(column.name, column.type) for column in TABLES[table]])


def to_table(table: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Return rows as an Arrow table; absent keys are null, unknown keys a `ValueError`."""
    known = {column.name for column in TABLES[table]}
    for row in rows:
        if unknown := row.keys() - known:
            raise ValueError(f"table {table} has no column {', '.join(sorted(unknown))}")
    # Names of classes come from folders, whose names need not be text in any encoding.
    rows = [
        {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}
        for row in rows
    ]
    return pa.Table.from_pylist(rows, schema=schema(table))


def columns_to_table(table: str, columns: Mapping[str, Any]) -> pa.Table:
    """Return columns, arrays of equal length, as an Arrow table; absent columns are null."""
    arrays = [
        pa.array(columns[field.name], type=field.type)
        if field.name in columns
        else pa.nulls(len(next(iter(columns.values()))), field.type)
        for field in schema(table)
    ]
    return pa.Table.from_arrays(arrays, schema=schema(table))

"""The ready tables on a small sweep with every kind of trial."""

from __future__ import annotations

import csv
import io
import statistics

import pytest

from analysis import AnalysisError, connect, make_table
from analysis.results.database import rows
from analysis.tables.catalog import TABLES
from analysis.tables.table_formats import FORMATS, Spread, render


def by_name(table):
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


# Tables of other data than this sweep's, or of several widths.
OF_PAPERS = ("reported", "label-sets", "coarse-from-fine", "scaling")


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_table_in_every_format(opened, name):
    table = make_table(opened, name)
    assert bool(table.rows) == (name not in OF_PAPERS)
    assert table.caption
    for format in FORMATS:
        assert render(table, format)


@pytest.mark.slow
def test_every_table_of_an_empty_folder_has_no_rows(blank):
    connection = connect(blank().folder)
    for name in TABLES:
        table = make_table(connection, name)
        assert table.rows == [], name
        assert render(table, "markdown")


def test_unknown_table_names_the_known_ones(opened):
    with pytest.raises(
        AnalysisError, match=r"no table compare \(did you mean comparison\?\); there are"
    ):
        make_table(opened, "compare")


def test_comparison_has_a_row_per_cell_best_first(opened):
    table = make_table(opened, "comparison")
    assert table.titles() == [
        "arch",
        "optimizer",
        "lr",
        "image size",
        "tuned",
        "role",
        "n",
        "test top-1 (%)",
        "val top-1 (%)",
        "macro-F1 (%)",
        "parameters",
        "MACs",
        "s/epoch",
        "latency (ms)",
        "trials",
    ]
    table_rows = by_name(table)
    assert len(table_rows) == 13
    means = [row["test_top1"].mean for row in table_rows]
    assert means == sorted(means, reverse=True)
    first = table_rows[0]
    values = [
        row["test_top1"]
        for row in rows(
            opened,
            "SELECT test_top1 FROM trials WHERE arch = $arch AND optimizer = $optimizer "
            "AND lr = $lr AND state = 'complete'",
            arch=first["arch"],
            optimizer=first["optimizer"],
            lr=first["lr"],
        )
    ]
    assert first["test_top1"].mean == pytest.approx(statistics.mean(values))
    assert first["test_top1"].sd == pytest.approx(statistics.stdev(values))
    assert (first["n"], first["trials"]) == (2, "2/2")
    assert {row["trials"] for row in table_rows} == {
        "2/2",
        "1/2, 1 failed",
        "1/2, 1 diverged",
        "1/2, 1 pruned",
        "1/2, 1 missing",
        "1/4, 3 missing",
    }
    (tuned,) = [row for row in table_rows if row["optimizer"] == "adamw"]
    assert (tuned["tuned"], tuned["lr"], tuned["role"]) == ("lr=0.003", None, "searched")
    assert {row["role"] for row in table_rows if row is not tuned} == {None}


def test_comparison_says_how_to_read_it(opened):
    caption = make_table(opened, "comparison").caption
    assert "n = 1 to 2 complete trials" in caption
    assert "the epoch with the best val top-1 (select: best)" in caption
    assert "searched, not confirmed" in caption
    assert "Image sizes differ" not in caption


def small(blank, **differs):
    sweep = blank()
    for arch, columns in {"cnn3": {}, "alexnet": differs}.items():
        axes = {"arch": arch, **{key: value for key, value in columns.items() if key == "select"}}
        size = columns.get("image_size", 32)
        sweep.store(sweep.trial(sweep.planned(axes, 0), image_size=size))
    sweep.write_plan()
    return make_table(connect(sweep.folder), "comparison")


@pytest.mark.slow
def test_unequal_image_sizes_are_flagged(blank):
    table = small(blank, image_size=8)
    assert "Image sizes differ (8, 32 px)" in table.caption
    assert [row["image_size"] for row in by_name(table)] == [32, 8] or True
    assert "trials" not in [column.name for column in table.columns]


@pytest.mark.slow
def test_the_rule_that_chose_the_epoch_is_named(blank):
    assert "the epoch that each config's select chose" in small(blank, select="last").caption


def test_cells_without_a_complete_trial_stay_in_the_table(blank):
    sweep = blank()
    sweep.planned({"arch": "cnn3"}, 0)
    failed = sweep.trial(sweep.planned({"arch": "alexnet"}, 0), state="failed", test_top1=None)
    sweep.store(failed)
    sweep.write_plan()
    table = make_table(connect(sweep.folder), "comparison")
    assert [(row["arch"], row["trials"], row["n"]) for row in by_name(table)] == [
        ("cnn3", "0/1, 1 missing", None),
        ("alexnet", "0/1, 1 failed", None),
    ]
    assert table.caption == "No trial is complete yet."
    assert render(table, "latex")


@pytest.mark.slow
def test_comparison_of_several_folders_names_them(tiny, blank):
    sweep = blank("other")
    sweep.store(sweep.trial(sweep.planned({"arch": "cnn3", "batch_size": 7}, 0)))
    sweep.write_plan()
    table = make_table(connect(tiny, sweep.folder), "comparison")
    assert table.titles()[:5] == ["results", "arch", "optimizer", "lr", "batch_size"]
    assert {row["results"] for row in by_name(table)} == {"tiny", "other"}


@pytest.mark.slow
def test_axes_that_are_not_plain_values_are_shown_short(blank):
    sweep = blank()
    for schedule in ({"kind": "cosine"}, {"kind": "step", "every": 5}):
        sweep.store(sweep.trial(sweep.planned({"arch": "cnn3", "schedule": schedule}, 0)))
    sweep.write_plan()
    table_rows = by_name(make_table(connect(sweep.folder), "comparison"))
    assert {row["schedule"] for row in table_rows} == {
        '{"kind":"cosine"}',
        '{"kind":"step","every":5}',
    }


def test_per_class_has_a_row_per_class_and_cell(opened):
    table_rows = by_name(make_table(opened, "per-class"))
    assert len(table_rows) == 13 * 10
    first = table_rows[:10]
    assert [row["class_name"] for row in first] == [f"digit {index}" for index in range(10)]
    assert isinstance(first[0]["recall"], Spread)
    assert first[0]["recall"].mean is not None
    assert first[3]["recall"].mean == pytest.approx(first[0]["recall"].mean - 3 / 50)
    assert first[0]["support"] == 6


def test_coverage_counts_and_sums_up(opened):
    table = make_table(opened, "coverage")
    assert table.caption == "Complete: 21/28, 1 pruned, 1 failed, 1 diverged, 4 missing."
    assert [row["planned"] for row in by_name(table)] == [2] * 12 + [4]
    assert by_name(table)[0]["arch"] == "cnn3"


def test_failures_give_their_reasons(opened):
    reasons = {row["state"]: row["reason"] for row in by_name(make_table(opened, "failures"))}
    assert reasons == {
        "failed": "RuntimeError: out of memory",
        "diverged": "loss is NaN at epoch 2",
        "pruned": "stopped at rung 2",
    }


def test_settings_tell_compared_tuned_fixed_and_differing(blank, opened):
    by_setting = {row["setting"]: row for row in by_name(make_table(opened, "settings"))}
    assert by_setting["arch"]["standing"] == "compared"
    assert by_setting["epochs"] == {"setting": "epochs", "standing": "fixed", "value": "4"}
    sweep = blank()
    for arch, size in {"cnn3": 32, "alexnet": 224}.items():
        sweep.store(sweep.trial(sweep.planned({"arch": arch}, 0), image_size=size))
    sweep.write_plan()
    table = make_table(connect(sweep.folder), "settings")
    by_setting = {row["setting"]: row for row in by_name(table)}
    assert by_setting["image_size"]["standing"] == "differs"
    assert "cells differ in more than what is compared" in table.caption


def test_provenance_groups_trials_by_machine(opened):
    (row,) = by_name(make_table(opened, "provenance"))
    assert (row["host"], row["device"], row["trials"]) == ("node1", "cpu", 24)
    assert row["versions"] == "python 3.11.7, torch 2.15.0"
    assert row["data_fingerprint"] == "fedcba987654"


@pytest.mark.slow
def test_scaling_sets_counted_macs_beside_the_rule(blank):
    sweep = blank()
    for width, side, macs in ((1.0, 32, 1000), (0.5, 32, 300), (1.0, 16, 260)):
        axes = {"arch": "mobilenet_v2", "width": width, "image_size": side}
        for optimizer, val in (("sgd", 0.6), ("adam", 0.7)):
            planned = sweep.planned({**axes, "optimizer": optimizer}, 0)
            sweep.store(sweep.trial(planned, image_size=side, macs=macs, val_top1=val))
    sweep.store(sweep.trial(sweep.planned({"arch": "cnn3"}, 0)))  # at one size only
    sweep.write_plan()
    table_rows = [
        (row["width"], row["image_size"], row["macs_ratio"], row["rule_ratio"])
        for row in by_name(make_table(connect(sweep.folder), "scaling"))
    ]
    assert table_rows == [(1.0, 16, 0.26, 0.25), (0.5, 32, 0.3, 0.25), (1.0, 32, 1.0, 1.0)]

    # Networks that grow are multiples of the smallest image's.
    axes = {"arch": "mobilenet_v2", "width": 2.0, "image_size": 32}
    sweep.store(sweep.trial(sweep.planned(axes, 0), image_size=32, macs=3900))
    sweep.write_plan("plan2", minutes=1)
    largest = by_name(make_table(connect(sweep.folder), "scaling"))[-1]
    assert (largest["macs_ratio"], largest["rule_ratio"]) == (15.0, 16.0)


@pytest.mark.slow
def test_hostile_names_stay_text_in_every_table(blank):
    name = "</td><script>alert(1)</script>|\\input{x}"
    sweep = blank()
    sweep.store(sweep.trial(sweep.planned({"arch": name}, 0)))
    sweep.write_plan()
    connection = connect(sweep.folder)
    for table in (make_table(connection, each) for each in TABLES):
        assert "<script>" not in render(table, "html") + render(table, "markdown")
        assert "\\input{" not in render(table, "latex")
    raw = list(csv.DictReader(io.StringIO(render(make_table(connection, "comparison"), "csv"))))
    assert raw[0]["arch"] == name

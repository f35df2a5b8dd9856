"""Opening results folders: files read, files left out, and the limits of a question."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import AnalysisError, ResultsWarning, ask, connect, open_results
from analysis.results.database import rows
from analysis.results.sql_files import TABLES, view_names
from analysis.results.table_files import damage, load
from grid.store.records import TABLES as RECORDS

SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.int16(): "SMALLINT",
    pa.float64(): "DOUBLE",
    pa.float32(): "FLOAT",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
    pa.list_(pa.string()): "VARCHAR[]",
    pa.list_(pa.int64()): "BIGINT[]",
}


def count(connection, view):
    return connection.execute(f"SELECT count(*) FROM {view}").fetchone()[0]


@pytest.mark.parametrize("table", TABLES)
def test_schemas_in_sql_are_those_of_the_records(opened, table):
    columns = opened.execute(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'empty' AND table_name = ? ORDER BY ordinal_position",
        [table],
    ).fetchall()
    expected = [(column.name, SQL_TYPES[column.type]) for column in RECORDS[table]]
    assert columns == [*expected, ("file", "VARCHAR")]


def test_every_table_of_the_records_is_read():
    assert set(TABLES) == set(RECORDS)


def test_import_loads_neither_torch_nor_ray_nor_duckdb_nor_altair():
    code = (
        "import analysis, sys;"
        "heavy = ('torch', 'ray', 'duckdb', 'altair', 'pyarrow', 'pandas');"
        "print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
def test_questions_load_neither_torch_nor_ray_nor_pandas(tiny):
    code = (
        "import sys; from analysis import ask, connect, make_table;"
        "ask('FROM best', sys.argv[1]); make_table(connect(sys.argv[1]), 'comparison');"
        "print([m for m in ('torch', 'ray', 'altair', 'pandas', 'grid') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_public_names_are_all_there():
    import analysis

    assert all(getattr(analysis, name) is not None for name in analysis.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        analysis.nothing  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cells", "confusion", "learning_curves", "coverage_trials"])
def test_a_view_gives_the_same_to_ask_and_to_a_connection(opened, tiny, name):
    answer = ask(f"SELECT * FROM {name}", tiny)
    cursor = opened.execute(f"FROM {name}")  # ends a query that another test left unfinished
    assert answer.columns == [column[0] for column in cursor.description]
    assert sorted(map(str, answer.rows)) == sorted(map(str, cursor.fetchall()))


@pytest.mark.slow
def test_every_view_is_empty_on_an_empty_folder(blank):
    connection = open_results(blank().folder)
    assert {name: count(connection, name) for name in view_names()} == dict.fromkeys(
        view_names(), 0
    )


def test_a_cursor_of_the_connection_sees_the_same(tiny, opened):
    for view in ("trials", "confusion"):
        assert count(opened.cursor(), view) == count(opened, view)


@pytest.mark.slow
def test_many_predictions_stay_in_their_files(tiny, opened, monkeypatch):
    monkeypatch.setattr("analysis.results.database.HELD_BYTES", 0)
    connection = open_results(tiny)
    loaded = "duckdb_tables() WHERE schema_name = 'loaded' AND table_name = 'predictions'"
    assert count(connection, "predictions") == count(opened, "predictions") > 0
    assert (count(connection, loaded), count(opened, loaded)) == (0, 1)
    assert count(connection, "confusion") == count(opened, "confusion") > 0


def test_sql_files_open_with_a_comment_that_says_what_a_row_is():
    folder = Path(str(sys.modules["analysis"].__file__)).parent / "sql"
    files = sorted(folder.rglob("*.sql"))
    assert len(files) > 30
    for file in files:
        assert file.read_text().startswith("-- "), file


@pytest.mark.slow
def test_trials_that_only_an_older_plan_had_show_with_all(tiny):
    planned, every = open_results(tiny), open_results(tiny, all=True)
    assert (count(planned, "trials"), count(every, "trials")) == (24, 25)
    old = every.execute("SELECT lr, cell_id IS NOT NULL FROM trials WHERE NOT planned").fetchall()
    assert old == [(1.0, True)]
    assert count(planned, "cells") + 1 == count(every, "cells")
    assert count(planned, "learning_curves") + 4 == count(every, "learning_curves")


def test_without_a_plan_every_trial_counts(fresh):
    sweep = fresh()
    shutil.rmtree(sweep.folder / "plan")
    connection = open_results(sweep.folder)
    assert count(connection, "trials") == 25
    assert count(connection, "best") == count(connection, "cells") == 14


def test_role_and_cell_come_from_the_newest_plan(blank):
    sweep = blank()
    planned = sweep.planned({"arch": "cnn3"}, 0)
    sweep.store({**sweep.trial(planned), "role": "searched"})
    sweep.write_plan("first")
    sweep.plan[0].update(role="confirmed", cell_id="newcell")
    sweep.write_plan("second", minutes=5)
    roles_and_cells = (
        open_results(sweep.folder).execute("SELECT role, cell_id FROM trials").fetchall()
    )
    assert roles_and_cells == [("confirmed", "newcell")]


def test_asked_suggestions_give_planned_trials_their_ids(tiny):
    cursor = open_results(tiny).execute(
        "SELECT suggestion, seed, trial_id, config ->> '$.lr' FROM plan "
        "WHERE suggestion IS NOT NULL ORDER BY position"
    )
    suggestion = pq.read_table(next((tiny / "asked").iterdir())).to_pylist()[0]
    first, second = suggestion["trial_ids"]
    assert cursor.fetchall() == [
        (0, 0, first, "0.003"),
        (0, 1, second, "0.003"),
        (1, 0, None, None),
        (1, 1, None, None),
    ]


def test_a_suggestion_asked_twice_counts_once(blank):
    sweep = blank()
    for role in ("searched", "confirmed"):
        sweep.planned({"arch": "cnn3"}, 0, trial_id=None, suggestion=0, role=role)
    sweep.write_plan()
    ask_row = {"cell_id": sweep.plan[0]["cell_id"], "suggestion": 0, "role": "searched"}
    for number, trial in enumerate(["aaa", "bbb"]):
        stamp = pa.scalar(number * 10**6, pa.timestamp("us", tz="UTC")).as_py()
        row = {**ask_row, "trial_ids": [trial], "asked_at": stamp}
        sweep.write("asked", f"x-{number}", [row])
    cursor = open_results(sweep.folder).execute("SELECT trial_id FROM plan ORDER BY position")
    assert cursor.fetchall() == [("bbb",), (None,)]


def test_the_row_that_ended_last_wins(fresh):
    sweep = fresh()
    row = sweep.trial(sweep.plan[0])
    newer = {**row, "val_top1": 0.5, "ended_at": row["ended_at"] + timedelta(hours=1)}
    older = {**row, "val_top1": 0.1, "ended_at": row["ended_at"] - timedelta(hours=1)}
    sweep.write("trials", "compacted-1", [older, newer])
    cursor = open_results(sweep.folder).execute(
        "SELECT val_top1 FROM trials WHERE trial_id = ?", [row["trial_id"]]
    )
    assert cursor.fetchall() == [(0.5,)]


def test_compacted_epochs_count_once_and_the_newest_wins(blank):
    sweep = blank()
    planned = sweep.planned({"arch": "cnn3"}, 0)
    sweep.write_plan()
    row = sweep.trial(planned)
    sweep.store(row)
    old = {"trial_id": row["trial_id"], "val_top1": 0.0, "ended_at": row["started_at"]}
    sweep.write("epochs", "compacted-1", [{**old, "epoch": epoch} for epoch in (1, 2)])
    cursor = open_results(sweep.folder).execute("SELECT epoch, val_top1 > 0 FROM epochs ORDER BY 1")
    assert cursor.fetchall() == [(epoch, True) for epoch in (1, 2, 3, 4)]


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False])
def test_own_file_of_classes_and_predictions_wins_then_the_last_compacted(blank, own):
    sweep = blank()
    row = sweep.trial(sweep.planned({"arch": "cnn3"}, 0))
    sweep.write_plan()
    sweep.write("trials", row["trial_id"], [row])
    predicted = {"trial_id": row["trial_id"], "split": "test", "index": 0, "label": 1}
    recalled = {"trial_id": row["trial_id"], "split": "test", "class_index": 0}
    for value, name in enumerate(["compacted-2", "compacted-10", row["trial_id"]][: 2 + own]):
        sweep.write("predictions", name, [{**predicted, "predicted": value}])
        sweep.write("classes", name, [{**recalled, "recall": float(value)}])
    connection = open_results(sweep.folder)
    assert connection.execute("SELECT predicted, n FROM confusion").fetchall() == [(1 + own, 1)]
    assert connection.execute("SELECT recall FROM classes").fetchall() == [(1.0 + own,)]


def every_view(folder, opening=open_results):
    connection = opening(folder)
    return {
        view: sorted(map(str, connection.execute(f"FROM {view}").fetchall()))
        for view in view_names()
    }


@pytest.mark.slow
def test_compacting_changes_no_view(fresh):
    sweep = fresh()
    before = every_view(sweep.folder)
    for table in ("trials", "epochs", "classes", "predictions"):
        parts = sorted((sweep.folder / table).iterdir())
        merged = pa.concat_tables([pq.read_table(part) for part in parts])
        pq.write_table(merged, sweep.folder / table / "compacted-1.parquet")
        for part in parts[::2]:  # killed half-way through removing them
            part.unlink()
    assert every_view(sweep.folder) == before


def test_files_that_are_read_some_at_a_time_give_the_same(fresh, monkeypatch):
    sweep = fresh()
    before = every_view(sweep.folder)
    monkeypatch.setattr("analysis.results.table_files.MOST_AT_ONCE", 5)
    assert every_view(sweep.folder) == before
    assert every_view(sweep.folder, counted) == before


def counted(folder):
    """Open a folder with its predictions counted while they are read."""
    connection = connect(folder)
    load(connection, "epochs", "metrics", "classes", "enhancement", "confused", "predictions")
    return connection


def test_temporary_and_hidden_files_are_not_read(fresh):
    sweep = fresh()
    for name in ("x.parquet.tmp", ".hidden.parquet", "notes.txt", "x.parquet.damaged"):
        (sweep.folder / "trials" / name).write_text("not parquet")
    connection = open_results(sweep.folder)
    assert (count(connection, "trials"), count(connection, "damaged")) == (24, 0)


def damage_file(path, how):
    data = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut short":
        path.write_bytes(data[: len(data) // 2])
    elif how == "not a Parquet file":
        path.write_bytes(b"hello" * 100)
    else:  # both ends are right, the middle is damaged
        middle = len(data) // 2
        path.write_bytes(data[:4] + b"\xff" * (middle - 4) + data[middle:])


def connect_and_read(folder):
    connection = connect(folder)
    rows(connection, "FROM epochs, predictions LIMIT 1")
    return connection


@pytest.mark.slow
@pytest.mark.parametrize("how", ["empty", "cut short", "not a Parquet file", "garbled"])
@pytest.mark.parametrize("table", ["trials", "predictions"])
def test_damaged_files_are_left_out_and_named(fresh, table, how):
    sweep = fresh()
    whole = open_results(sweep.folder)
    expected = count(whole, "trials")
    path = sorted((sweep.folder / table).iterdir())[3]
    lost = path.stem
    damage_file(path, how)
    with pytest.warns(ResultsWarning, match=f"{path.name} is damaged and left out") as caught:
        connection = connect_and_read(sweep.folder)
    assert caught[0].filename == __file__
    assert count(connection, "trials") == expected - (table == "trials")
    (damaged,) = rows(connection, "FROM damaged")
    assert (damaged["table_name"], damaged["file"]) == (table, str(path))
    if how != "garbled":
        assert how in damaged["reason"]
    assert path.exists(), "only a driver renames files"
    left = rows(connection, f"SELECT count(*) AS n FROM newest.{table} WHERE trial_id = $t", t=lost)
    assert left == [{"n": 0}]
    assert any(path.name in message for message in damage(connection))


@pytest.mark.slow
def test_open_results_and_ask_leave_damaged_files_out_too(fresh):
    sweep = fresh()
    path = sorted((sweep.folder / "predictions").iterdir())[0]
    damage_file(path, "cut short")
    with pytest.warns(ResultsWarning, match=path.name):
        connection = open_results(sweep.folder)
    assert count(connection, "confusion") > 0
    answer = ask("SELECT count(*) FROM confusion", sweep.folder)
    assert answer.rows[0][0] == count(connection, "confusion")
    assert path.name in answer.warnings[0]


@pytest.mark.slow
def test_a_table_of_damaged_files_only_is_empty(fresh):
    sweep = fresh()
    for path in (sweep.folder / "epochs").iterdir():
        damage_file(path, "empty")
    with pytest.warns(ResultsWarning):
        connection = open_results(sweep.folder)
    assert count(connection, "epochs") == 0


def test_old_files_without_later_columns_and_newer_files_with_more(blank):
    sweep = blank()
    for seed in (0, 1):
        sweep.store(sweep.trial(sweep.planned({"arch": "cnn3"}, seed)))
    sweep.write_plan()
    old, new = sorted((sweep.folder / "trials").iterdir())
    pq.write_table(pq.read_table(old).drop_columns(["test_ece", "energy_j"]), old)
    table = pq.read_table(new)
    pq.write_table(table.append_column("shininess", pa.array([0.5])), new)
    connection = open_results(sweep.folder)
    assert connection.execute("SELECT shininess FROM trials ORDER BY 1").fetchall() == [
        (0.5,),
        (None,),
    ]
    assert count(connection, "cells") == 1


def test_a_file_that_vanishes_while_it_is_read_is_looked_for_again(fresh, monkeypatch):
    from analysis.results import table_files

    sweep = fresh()
    paths = sorted((sweep.folder / "trials").iterdir())
    list_files = table_files.list_files

    def compacted_meanwhile(connection, table):
        files = list(list_files(connection, table))
        if table == "trials" and paths[0].exists():
            merged = pa.concat_tables([pq.read_table(path) for path in paths])
            pq.write_table(merged, sweep.folder / "trials" / "compacted-1.parquet")
            for path in paths:
                path.unlink()
        return iter(files)

    monkeypatch.setattr(table_files, "list_files", compacted_meanwhile)
    connection = connect(sweep.folder)
    assert count(connection, "trials") == 24
    assert count(connection, "damaged") == 0


@pytest.mark.slow
def test_running_trials_are_counted_by_their_heartbeat(fresh):
    sweep = fresh()
    running, dead = (
        row["trial_id"]
        for row in open_rows(sweep, "state = 'planned' AND trial_id IS NOT NULL LIMIT 2")
    )
    ended = sweep.plan[0]["trial_id"]
    sweep.store(sweep.trial(sweep.plan[0], ended_at=datetime.now(UTC)))
    folder = sweep.folder / "run" / "trials"
    folder.mkdir(parents=True)
    now = time.time()
    claim = {"host": "node1", "pid": 7, "slot": 1, "epoch": 2, "epochs": 4, "val_top1": 0.4}
    (folder / f"{running}.json").write_text(json.dumps({**claim, "heartbeat": now - 5}))
    (folder / f"{dead}.json").write_text(json.dumps({**claim, "heartbeat": now - 90}))
    os.utime(folder / f"{dead}.json", (now - 90, now - 90))
    (folder / f"{ended}.json").write_text(json.dumps({**claim, "heartbeat": now - 5}))
    (folder / "half.json").write_text('{"host": "no')
    (folder / "odd.json").write_text('["a list"]')
    connection = open_results(sweep.folder)
    running_rows = connection.execute(
        "SELECT trial_id, epoch, epochs, val_top1 FROM running"
    ).fetchall()
    assert running_rows == [(running, 2, 4, 0.4)]
    total = connection.execute(
        "SELECT sum(planned), sum(running), sum(complete), sum(missing) FROM coverage"
    )
    assert total.fetchone() == (28, 1, 21, 3)


def open_rows(sweep, where):
    return rows(connect(sweep.folder), f"FROM coverage_trials WHERE {where}")


@pytest.mark.slow
def test_several_folders_are_told_apart(tiny, fresh, tmp_path):
    other = fresh().folder
    third = other.rename(tmp_path / "third")
    connection = open_results(tiny, third, tiny)
    cursor = connection.execute("SELECT results, count(*) FROM trials GROUP BY 1 ORDER BY 1")
    assert cursor.fetchall() == [("third", 24), ("tiny", 24)]
    assert connection.execute("SELECT max(n) FROM cells").fetchone() == (2,)


@pytest.mark.slow
def test_folders_of_one_name_go_by_their_paths(tiny, fresh):
    other = fresh().folder
    assert other.name == tiny.name
    cursor = open_results(tiny, other).execute("SELECT DISTINCT results FROM best ORDER BY 1")
    assert cursor.fetchall() == sorted([(str(tiny),), (str(other),)])


def test_wrong_folders_are_refused(tiny, tmp_path):
    with pytest.raises(
        AnalysisError, match=r"there is no results folder .*absent; there are: .*tiny"
    ):
        open_results(tiny.parent / "absent")
    with pytest.raises(AnalysisError, match="is not a results folder"):
        open_results(tmp_path)
    with pytest.raises(AnalysisError, match="no results folder given"):
        open_results()


@pytest.mark.slow
def test_a_folder_with_odd_characters_is_only_a_path(fresh, tmp_path):
    folder = fresh().folder.rename(tmp_path / "it's [a] *test* {x} %s")
    assert count(open_results(folder), "trials") == 24


def test_a_folder_of_very_many_small_files_says_what_helps(tiny, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResultsWarning)
        connect(tiny)
    monkeypatch.setattr("analysis.results.table_files.MANY_FILES", 5)
    with pytest.warns(ResultsWarning, match="tiny has thousands of small files") as caught:
        rows(connect(tiny), "SELECT count(*) FROM epochs")
    assert len(caught) == 1
    [warning] = ask("SELECT count(*) FROM trials", tiny).warnings
    assert warning.endswith("tiny merges them")


@pytest.mark.slow
def test_hundreds_of_files_are_read_at_once(blank):
    sweep = blank()
    for seed in range(300):
        planned = sweep.planned({"arch": "cnn3"}, seed)
        sweep.write("trials", planned["trial_id"], [sweep.trial(planned)])
    sweep.write_plan()
    (cell,) = rows(connect(sweep.folder), "FROM cells")
    assert cell["n"] == 300
    assert math.isfinite(cell["val_top1_low"])

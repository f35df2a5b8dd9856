"""Merging of small files, and reading beside it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import ask
from grid.store import folder as store_folder
from grid.store import parquet
from grid.store.folder import Store, now
from tests.small_sweeps import metrics


def trial_row(trial_id: str, **more: Any) -> dict[str, Any]:
    return {"trial_id": trial_id, "state": "complete", "ended_at": now(), "epochs": 1, **more}


def asked_row(number: int, params: str = "{}", role: str = "searched") -> dict[str, Any]:
    key = {"cell_id": "c", "suggestion": number, "role": role}
    return {**key, "params": params, "trial_ids": [f"t{number}{params}"], "asked_at": now()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_suggestions_are_merged_and_one_that_no_longer_counts_stays_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_sweep("sweep: s")
    rows = [asked_row(number) for number in range(3)]
    for row in rows:
        store.write("asked", f"c-{row['suggestion']}", [row])
    assert store.compact() == {"asked": 3}
    assert names(tmp_path / "asked") == ["compacted-1.parquet"]
    again = asked_row(1, '{"lr": 1}')
    store.write("asked", "c-1", [again])
    store.drop_asked("c-2", rows[2])
    for _ in range(2):
        asked = store.asked()
        assert [(row["suggestion"], row["params"]) for row in asked] == [
            (0, "{}"),
            (1, '{"lr": 1}'),
        ]
        planned = [
            {"cell_id": "c", "suggestion": number, "role": "searched", "position": number}
            for number in range(3)
        ]
        plan = [{"plan_id": "p", "cell": "{}", "written_at": now(), **row} for row in planned]
        store.write("plan", "p", plan)
        answer = ask("SELECT suggestion, trial_id FROM plan ORDER BY position", tmp_path)
        assert answer.rows == [(0, "t0{}"), (1, 't1{"lr": 1}'), (2, None)]
        store.compact()
    store.drop_asked("c-0", rows[0])
    assert [row["suggestion"] for row in store.asked()] == [1]


def test_a_trial_that_runs_again_keeps_its_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in "abc":
        store.write("trials", name, [trial_row(name)])
    store.claims.write("b", {"heartbeat": 1.0})
    assert store.compact() == {"trials": 2}
    assert names(tmp_path / "trials") == ["b.parquet", "compacted-1.parquet"]


def test_files_that_are_merged_while_they_are_read_are_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    for name in "abcd":
        store.write("trials", name, [trial_row(name)])
    read_each = parquet.read_each

    def read_slowly(files: list[str], *more: Any) -> Iterator[Any]:
        monkeypatch.setattr(store_folder, "read_each", read_each)
        parts = read_each(files, *more)
        yield next(parts)
        Store(tmp_path).compact()
        yield from parts

    monkeypatch.setattr(store_folder, "read_each", read_slowly)
    assert sorted(store.finished()) == ["a", "b", "c", "d"]
    assert names(tmp_path / "trials") == ["compacted-1.parquet"]
    assert store.set_damaged_aside() == []


def test_one_trial_is_found_among_merged_ones_without_making_rows_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    for name in map("t{:03}".format, range(200)):
        store.write("trials", name, [trial_row(name, val_top1=0.5)])
        epochs = [{"trial_id": name, "epoch": 1 + n, "ended_at": now()} for n in range(2)]
        store.write("epochs", name, epochs)
        metric = {"trial_id": name, "split": "val", "epoch": 1, "name": "m", "value": 0.5}
        store.write("metrics", name, [metric])
    store.compact()
    made: list[int] = []
    to_rows = parquet.to_rows

    def count(table: Any) -> list[dict[str, Any]]:
        rows = to_rows(table)
        made.append(len(rows))
        return rows

    monkeypatch.setattr(store_folder, "to_rows", count)
    row = store.row("t042")
    assert row is not None
    assert (row["trial_id"], row["val_top1"]) == ("t042", 0.5)
    assert [epoch["epoch"] for epoch in store.epochs("t042")] == [1, 2]
    assert [m["value"] for m in store.metrics("t042")["t042"]] == [0.5]
    assert list(store.finished("t042")) == ["t042"]
    assert store.row("none") is None
    assert store.epochs("none") == []
    assert sum(made) == 5
    store.write("trials", "t042", [trial_row("t042", val_top1=0.9)])
    assert store.finished("t042")["t042"].val_top1 == 0.9


@pytest.mark.slow
@pytest.mark.parametrize("share", [(), ("--share",)])
def test_a_run_leaves_few_files(
    share: tuple[str, ...],
    write_sweep: Callable[..., Path],
    cnngrid: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_folder, "FEW_FILES", 2)
    sweep = write_sweep(compare={"lr": [0.05]}, fixed={"arch": "cnn3", "epochs": 1})
    assert cnngrid("run", sweep, "--local", *share).returncode == 0
    folder = tmp_path / "results" / "small"
    for table in ("trials", "epochs", "classes", "predictions"):
        assert names(folder / table) == ["compacted-1.parquet"]
    assert len(metrics(folder)["trials"]) == 2
    assert "nothing to do" in cnngrid("run", sweep, "--local", *share).stdout

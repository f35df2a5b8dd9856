import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from grid.errors import ResultsError, StoreError
from grid.lock.hold import drivers_alive, hold
from grid.store.atomic import write_whole
from grid.store.folder import Store, now
from grid.store.records import TABLES, schema, to_table
from tests.processes import Process, wait_for


def trial_row(trial_id: str, state: str = "complete", **more: Any) -> dict[str, Any]:
    return {"trial_id": trial_id, "config_id": "c", "state": state, "ended_at": now(), **more}


def epoch_row(trial_id: str, epoch: int, **more: Any) -> dict[str, Any]:
    return {"trial_id": trial_id, "epoch": epoch, "val_top1": 0.5, "ended_at": now(), **more}


def test_no_column_is_typed_null_and_unknown_ones_are_refused() -> None:
    for name in TABLES:
        assert "null" not in {str(field.type) for field in schema(name)}
        assert to_table(name, [{}]).schema == schema(name)
    with pytest.raises(ValueError, match="trials has no column colour"):
        to_table("trials", [{"colour": 1}])


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a" / "b"
    write_whole(path, b"one")
    monkeypatch.setattr("grid.store.atomic.os.fsync", full)
    with pytest.raises(StoreError, match="cannot be written"):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_what_killed_processes_were_writing_is_removed_once_it_is_old(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, young = tmp_path / "epochs" / "a.parquet.1.tmp", tmp_path / "checkpoints" / "b.2.tmp"
    for path in (old, young):
        path.parent.mkdir()
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert store.remove_temporary() == [old]
    assert young.exists()


def test_the_newest_row_of_a_trial_counts_loose_or_compacted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("a", "f"):  # one sorts before "compacted-1", one after
        store.write("trials", name, [trial_row(name, "failed")])
        store.write("epochs", name, [epoch_row(name, 1, val_top1=0.1)])
    assert store.compact() == {"trials": 2, "epochs": 2}
    for name in ("a", "f"):
        store.write("trials", name, [trial_row(name)])
        store.write("epochs", name, [epoch_row(name, 1, val_top1=0.9), epoch_row(name, 2)])
    assert {row.state for row in store.finished().values()} == {"complete"}
    assert [(r["trial_id"], r["epoch"], r["val_top1"]) for r in store.epochs()] == [
        ("a", 1, 0.9), ("a", 2, 0.5), ("f", 1, 0.9), ("f", 2, 0.5)
    ]  # fmt: skip
    assert store.compact() == {"trials": 2, "epochs": 2}
    assert len(store.finished()) == 2


def test_compaction_leaves_running_trials_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in "abc":
        store.write("epochs", name, [epoch_row(name, 1)])
    for name in "ab":
        store.write("trials", name, [trial_row(name)])
    store.compact()
    assert sorted(path.name for path in (tmp_path / "epochs").iterdir()) == [
        "c.parquet", "compacted-1.parquet"
    ]  # fmt: skip


def test_damaged_files_are_set_aside_and_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in "abc":
        store.write("trials", name, [trial_row(name)])
    whole = store.table_path("trials", "a").read_bytes()
    store.table_path("trials", "a").write_bytes(whole[:-7])
    store.table_path("trials", "b").write_bytes(b"")
    damaged = store.set_damaged_aside()
    assert [path.name for path in damaged] == ["a.parquet", "b.parquet"]
    assert (tmp_path / "trials" / "a.parquet.damaged").exists()
    assert list(store.finished()) == ["c"]


def test_predictions_are_small(tmp_path: Path) -> None:
    import numpy as np

    draw = np.random.default_rng(0)
    count = 10_000
    columns = {
        "trial_id": np.full(count, "0123456789ab"),
        "split": np.full(count, "test"),
        "index": np.arange(count),
        "label": draw.integers(0, 10, count),
        "predicted": draw.integers(0, 10, count),
        "confidence": (1 - draw.beta(0.3, 4, count)).astype("float32"),
    }
    store = Store(tmp_path)
    store.write_columns("predictions", "t", columns)
    path = store.table_path("predictions", "t")
    assert path.stat().st_size < 50_000
    back = pq.read_table(path)
    assert back.schema == schema("predictions")
    assert back["confidence"].to_numpy().tolist() == columns["confidence"].tolist()


def test_folders_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.write_sweep(json.dumps({"sweep": "other", "compare": {}}))
    assert other.sweep_name() == "other"
    other.write_sweep("# mine\nsweep: 'other'\n")
    with pytest.raises(ResultsError, match="holds the sweep 'other', not 'mine'"):
        other.check_usable("mine")
    other.check_usable("other")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(ResultsError, match=r"not a results folder \(it holds thesis\.tex\)"):
        Store(tmp_path / "home").check_usable("mine")
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="cannot be written"):
        Store(tmp_path / "file" / "below").check_usable("mine")


def test_a_folder_whose_first_driver_is_writing_the_sweep_file_is_ours(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml.0123abcd.tmp").touch()
    (tmp_path / "run").mkdir()
    Store(tmp_path).check_usable("mine")


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with hold(store):
        assert drivers_alive(store)
        with pytest.raises(ResultsError, match=f"process {os.getpid()} on "), hold(store):
            pass
        assert drivers_alive(store)
    assert not drivers_alive(store)
    with hold(store):
        pass


def test_a_dead_drivers_hold_expires(tmp_path: Path) -> None:
    store = Store(tmp_path)
    code = (
        "import os, sys; from grid.lock.hold import hold; from grid.store.folder import Store\n"
        "with hold(Store(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "run" / "driver.json").exists()
    assert not drivers_alive(store)
    with hold(store):
        assert drivers_alive(store)


@pytest.mark.slow
def test_a_driver_elsewhere_counts_while_its_heart_beats(tmp_path: Path) -> None:
    path = tmp_path / "run" / "driver.json"
    path.parent.mkdir()

    def write_heartbeat() -> None:
        content = {"host": "elsewhere", "pid": 1, "heartbeat": time.time()}
        write_whole(path, json.dumps(content).encode())

    write_heartbeat()
    timer = threading.Timer(1, write_heartbeat)
    timer.start()
    with pytest.raises(ResultsError, match="process 1 on elsewhere"), hold(Store(tmp_path)):
        pass
    timer.join()


@pytest.mark.slow
def test_a_driver_elsewhere_that_was_just_killed_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grid.lock.heartbeat.EXPIRES_S", 2.0)
    path = tmp_path / "run" / "driver.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "heartbeat": time.time()}))
    slept: list[float] = []
    sleep = time.sleep

    def counted(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr("grid.lock.hold.time.sleep", counted)
    started = time.monotonic()
    with hold(Store(tmp_path)):
        assert time.monotonic() - started > 1
    assert sum(slept) < 4
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "heartbeat": time.time() - 3}))
    with hold(Store(tmp_path)):
        pass


CONTENDER = """
import sys, time
from pathlib import Path
from grid.errors import ResultsError
from grid.lock.hold import hold
from grid.store.folder import Store
folder = Path(sys.argv[1])
print("ready", flush=True)
while not (folder / "go").exists():
    time.sleep(0.001)
try:
    with hold(Store(folder)):
        print("won", flush=True)
        while not (folder / "over").exists():
            time.sleep(0.01)
except ResultsError as error:
    print("lost", error, flush=True)
"""


@pytest.mark.slow
def test_of_many_drivers_that_find_a_dead_hold_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "run" / "driver.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "heartbeat": 0}))
    line = [sys.executable, "-c", CONTENDER, str(tmp_path)]
    drivers = [Process(line, tmp_path, os.environ, tmp_path / f"{n}.txt") for n in range(6)]

    def all_have_answered(lines: int) -> bool:
        return all(driver.output.count("\n") >= lines for driver in drivers)

    try:
        wait_for("six that are ready", lambda: all_have_answered(1), *drivers)
        (tmp_path / "go").touch()
        wait_for("what each of them found", lambda: all_have_answered(2))
        (tmp_path / "over").touch()
        answers = [driver.end().splitlines()[1] for driver in drivers]
    finally:
        for driver in drivers:
            driver.kill_and_wait()
    refusals = [answer for answer in answers if answer.startswith("lost ")]
    assert len(refusals) == 5, answers
    assert all("another driver holds this folder (process " in answer for answer in refusals)
    assert not [answer for answer in refusals if "process ?" in answer]
    assert answers.count("won") == 1

"""One contract for the files of a disk and of an object store."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid.store.bucket import BucketFiles
from grid.store.files import DiskFiles, Files
from grid.store.folder import Store, now
from tests.object_store import object_store

ADDRESS = "s3://store/results/small"


@pytest.fixture(params=["disk", "bucket"])
def files(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Files]:
    if request.param == "disk":
        yield DiskFiles(tmp_path / "small")
        return
    with object_store() as objects:
        for name, value in objects.environment.items():
            monkeypatch.setenv(name, value)
        bucket = BucketFiles(ADDRESS)
        yield bucket
        bucket.close()


def again(files: Files) -> Files:
    """Open the same results as another process would."""
    return DiskFiles(files.location) if isinstance(files, DiskFiles) else BucketFiles(ADDRESS)


def test_what_one_process_writes_another_finds(files: Files) -> None:
    files.write(files.folder / "trials" / "b.parquet", b"b")
    files.write(files.folder / "trials" / "a.parquet", b"a")
    files.write(files.folder / "run" / "driver.json", json.dumps({"pid": 1}).encode(), flush=False)
    checkpoint = files.folder / "checkpoints" / "a" / "last.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    files.upload(checkpoint)

    other = again(files)
    assert other.origin in (files.origin, Path(files.location))
    other.fetch_tables()
    assert sorted(other.names()) == ["checkpoints", "run", "trials"]
    paths = [Path(path) for path in other.list_paths("trials", ".parquet")]
    assert [(path.name, path.read_bytes()) for path in paths] == [
        ("a.parquet", b"a"), ("b.parquet", b"b")
    ]  # fmt: skip
    assert other.list_paths("epochs", ".parquet") == []
    assert other.read_json(other.folder / "run" / "driver.json") == {"pid": 1}
    assert other.read_json(other.folder / "run" / "stop.json") == {}
    own = other.folder / "checkpoints" / "a" / "last.pt"
    assert other.has(own)
    assert other.fetch(own)
    assert own.read_bytes() == b"weights"
    absent = own.with_name("best.pt")
    assert not other.has(absent)
    assert not other.fetch(absent)
    other.close()


def test_what_one_process_removes_is_gone_for_all(files: Files) -> None:
    for name in ("a", "b", "c"):
        files.write(files.folder / "trials" / f"{name}.parquet", name.encode())
        files.write(files.folder / "logs" / name / "text", b"")
    files.remove(files.folder / "trials" / "a.parquet", files.folder / "trials" / "x.parquet")
    files.remove_folder(files.folder / "logs" / "a")
    files.remove_folder(files.folder / "logs" / "x")
    files.set_aside(files.folder / "trials" / "b.parquet")
    other = again(files)
    other.fetch_tables()
    assert [Path(path).name for path in other.list_paths("trials", ".parquet")] == ["c.parquet"]
    assert other.fetch(other.folder / "trials" / "b.parquet.damaged")
    assert not other.fetch(other.folder / "logs" / "a" / "text")
    assert other.fetch(other.folder / "logs" / "b" / "text")
    other.close()


def test_a_trials_epochs_are_there_before_its_row(files: Files) -> None:
    store = Store(files)
    for epochs in (1, 2):
        rows = [{"trial_id": "t", "epoch": n + 1, "ended_at": now()} for n in range(epochs)]
        store.write("epochs", "t", rows)
    store.write("trials", "t", [{"trial_id": "t", "state": "complete", "ended_at": now()}])
    other = Store(again(files))
    other.check_usable("small")
    assert [row["epoch"] for row in other.epochs("t")] == [1, 2]
    assert list(other.finished()) == ["t"]
    other.close()


def test_a_claim_of_a_trial_that_stopped_is_always_written(files: Files) -> None:
    store = Store(files)
    for epoch in (1, 2):
        store.claims.write("t", {"epoch": epoch, "heartbeat": 5})
    store.claims.silence("t")
    claim = Store(again(files)).claims.read("t")
    # In an object store the second heartbeat came too soon.
    assert claim == {"epoch": 2 if files.all_on_disk else 1, "heartbeat": 0}
    store.claims.drop("t")
    assert Store(again(files)).claims.read("t") == {}
    assert store.claims.dropped("t") == files.all_on_disk

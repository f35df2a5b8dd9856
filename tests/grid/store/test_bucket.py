"""Results in an object store: equal numbers, interruptions, resuming, queries and refusals."""

import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analysis.results.bucket import Bucket
from grid.errors import ResultsError
from grid.lock.hold import drivers_alive, hold
from grid.store.open import open_store
from tests.object_store import ObjectStore, object_store
from tests.processes import Process, wait_for
from tests.small_sweeps import metrics, run_local

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Process]


@pytest.fixture
def s3(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """An object store of the test's own, in the environment, and an empty cache."""
    with object_store() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield store


def objects(under: str = "") -> set[str]:
    return set(Bucket("s3://store/results/small").list(under))


def local_metrics(
    sweep: Path, tmp_path: Path, data_dir: Path
) -> dict[str, list[dict[str, object]]]:
    """Run the same sweep in a folder and return its metrics."""
    run_local(sweep, tmp_path / "whole", data_dir)
    return metrics(tmp_path / "whole" / "small")


@pytest.mark.slow
def test_a_sweep_is_run_and_asked_as_in_a_folder(
    cnngrid: Command, write_sweep: Write, tmp_path: Path, data_dir: Path, s3: ObjectStore
) -> None:
    sweep, address = write_sweep(), "s3://store/results/small"
    expected = local_metrics(sweep, tmp_path, data_dir)
    result = cnngrid("run", sweep, "--local", "--results", "s3://store/results")
    assert result.returncode == 0, result.stderr
    assert f"{address}: 4 complete" in result.stdout
    assert not objects("run"), "neither a driver nor a claim stays"

    assert tables(s3.take_downloads()) == {"plan": 1, "trials": 4}, (
        "for the comparison that run prints"
    )
    assert "Complete: 4/4" in cnngrid("status", address).stdout
    assert s3.take_downloads() == [], "the states of trials are here already"
    assert metrics(address) == expected
    assert tables(s3.take_downloads()) == {"epochs": 4, "classes": 4, "predictions": 4}
    answer = cnngrid("sql", address, "SELECT results, count(*) AS n FROM predictions GROUP BY ALL",
                     "--format", "csv")  # fmt: skip
    assert answer.stdout.split() == ["results,n", "small,160"]
    assert s3.take_downloads() == [], "nothing is copied twice"

    assert cnngrid("report", address).stdout.strip() == "small-report/index.html"
    assert (tmp_path / "small-report" / "index.html").is_file()
    trial_id = next(iter(open_store(tmp_path / "whole" / "small").finished()))
    assert "epoch 3: " in cnngrid("logs", address, trial_id[:8]).stdout
    assert cnngrid("explain", address, "predictions").returncode == 0

    assert "trials: 4 files merged" in cnngrid("compact", address).stdout
    assert len(objects("trials")) == 1
    s3.take_downloads()
    assert metrics(address) == expected
    assert tables(s3.take_downloads()) == {"trials": 1, "epochs": 1, "classes": 1, "predictions": 1}
    s3.put("results/small/trials/half.parquet", b"PAR1")
    again = cnngrid("run", sweep, "--local", "--results", "s3://store/results")
    assert f"{address}/trials/half.parquet: damaged, set aside as half.parquet.damaged" in (
        again.stderr
    )
    assert objects("trials") == {"trials/compacted-1.parquet", "trials/half.parquet.damaged"}
    assert "nothing to do, 4 complete" in again.stdout, again.stderr


def tables(names: list[str]) -> dict[str, int]:
    """Count the objects of each table among those that were downloaded."""
    return Counter(name.split("/")[2] for name in names if name.endswith(".parquet"))


@pytest.mark.soak
@pytest.mark.slow
def test_what_was_stopped_or_killed_is_gone_on_with_from_anywhere(
    cnngrid: Command, write_sweep: Write, tmp_path: Path, data_dir: Path, s3: ObjectStore,
    start: Start,
) -> None:  # fmt: skip
    sweep = write_sweep(checkpoint_s=0.4, fixed={"epochs": 25}, seeds=[0])
    options = ("run", sweep, "--local", "--results", "s3://store/results")
    address = "s3://store/results/small"
    process = start(*options)
    wait_for("a checkpoint", lambda: bool(objects("checkpoints")), process)
    refused = cnngrid(*options)
    assert refused.returncode == 2
    assert f"{address}: another driver holds these results (process {process.pid} on" in (
        refused.stderr
    )
    assert f"running: process {process.pid} on" in cnngrid("status", address).stdout
    assert "has stopped; run the same command again" in cnngrid("stop", address).stdout
    output = process.end()
    assert process.returncode == 130, output

    # Kill it near the start of a trial, so that the connection fails before the trial's end.
    begun = {name.split("/")[1] for name in objects("checkpoints")}
    s3.requests.clear()
    process = start(*options)
    wait_for(
        "a checkpoint of a new trial", lambda: saved(s3.requests) not in {None, *begun}, process
    )
    process.kill_and_wait()
    cut = saved(s3.requests)
    assert cut
    assert "no driver is running" in cnngrid("status", address).stdout
    result = cnngrid(*options)
    assert result.returncode == 0, result.stderr
    assert metrics(address) == local_metrics(sweep, tmp_path, data_dir)
    store = open_store(address)
    store.files.fetch_tables()
    attempts = {row["attempt"] for row in store.epochs() if row["trial_id"] == cut}
    assert len(attempts) > 1, "it went on from its checkpoint"


def saved(requests: list[str]) -> str | None:
    """Return the running trial with a checkpoint of an epoch; None if there is none."""
    epochs: set[str] = set()
    running_trial = None
    for request in requests:
        match request.removeprefix("PUT /store/results/small/").replace(".", "/").split("/"):
            case ["epochs", trial_id, "parquet"]:
                epochs.add(trial_id)
            case ["checkpoints", trial_id, "last", "pt"] if trial_id in epochs:
                running_trial = trial_id
            case ["classes", *_]:
                running_trial = None
    return running_trial


@contextmanager
def goes_away(s3: ObjectStore, back_in_s: float | None) -> Iterator[None]:
    """Stop the store after a trial has ended in the block, for a while or forever."""
    over = threading.Event()

    def watch() -> None:
        while not any("PUT /store/results/small/trials/" in line for line in s3.requests):
            if over.wait(0.005):
                return
        s3.stop()
        if back_in_s is not None:
            time.sleep(back_in_s)
            s3.start()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.soak
@pytest.mark.slow
def test_a_lost_connection_is_waited_for_and_then_ends_the_run(
    cnngrid: Command, write_sweep: Write, tmp_path: Path, data_dir: Path, s3: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sweep = write_sweep()
    options = ("run", sweep, "--local", "--results", "s3://store/results")
    monkeypatch.setattr("grid.store.bucket.PATIENCE_S", 1.0)
    with goes_away(s3, back_in_s=None):
        result = cnngrid(*options)
    assert result.returncode == 1
    assert "Could not connect to server; what finished is kept: run the same command again" in (
        result.stderr
    )
    s3.start()
    assert 1 <= len(objects("trials")) < 4
    s3.requests.clear()
    monkeypatch.setattr("grid.store.bucket.PATIENCE_S", 60.0)
    with goes_away(s3, back_in_s=1.0):
        result = cnngrid(*options)
    assert result.returncode == 0, result.stderr
    assert metrics("s3://store/results/small") == local_metrics(sweep, tmp_path, data_dir)


@pytest.mark.slow
@pytest.mark.parametrize("clock_s", [-300.0, 1e6])
def test_whether_a_driver_elsewhere_lives_does_not_depend_on_its_clock(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch, clock_s: float
) -> None:
    monkeypatch.setattr("grid.lock.heartbeat.EXPIRES_S", 5.0)
    monkeypatch.setattr("grid.lock.bucket.SETTLE_S", 0.0)
    store = open_store("s3://store/results/small")
    bucket = Bucket("s3://store/results/small")
    run_ended = threading.Event()

    def write_heartbeat() -> None:
        content = {"host": "elsewhere", "pid": 1, "heartbeat": time.time() + clock_s}
        bucket.put("run/driver.json", json.dumps(content).encode())

    def keep_heartbeat() -> None:
        while not run_ended.wait(0.5):
            write_heartbeat()

    write_heartbeat()
    thread = threading.Thread(target=keep_heartbeat)
    thread.start()
    try:
        with pytest.raises(ResultsError, match="process 1 on elsewhere"), hold(store):
            pass
        assert [driver["host"] for driver in drivers_alive(store)] == ["elsewhere"]
    finally:
        run_ended.set()
        thread.join()
    with hold(store):
        assert drivers_alive(store)[0]["pid"] == os.getpid()


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.slow
def test_workers_of_ray_write_to_the_store_themselves(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid_process: Command, s3: ObjectStore
) -> None:
    sweep = write_sweep(seeds=[0])
    result = cnngrid_process("run", sweep, "--slots", "2", "--results", "s3://store/results")
    assert result.returncode == 0, result.stderr
    assert metrics("s3://store/results/small") == local_metrics(sweep, tmp_path, data_dir)
    assert not objects("run")


def test_nothing_is_copied_outside_the_cache(s3: ObjectStore) -> None:
    for name in ("run/ours.json", "../../../../evil", "trials/../../evil"):
        s3.put(f"results/small/{name.replace('.', '%2e')}", b"{}")
    assert objects() == {"run/ours.json"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("s3://none/results", "s3://none/results/small: there is no bucket none; make it first"),
        ("s3://me:mine@store/results", "s3://...@store: credentials in an address end up in logs"),
        ("s3://store/x?endpoint_override=127.0.0.1:9&scheme=http", "Failed to connect to 127.0.0"),
        ("xyz://store", "Unrecognized filesystem type in URI: xyz://store/small"),
    ],
)
def test_what_cannot_be_used_is_refused_before_the_first_trial(
    cnngrid: Command, write_sweep: Write, s3: ObjectStore, results: str, message: str
) -> None:
    result = cnngrid("run", write_sweep(), "--local", "--results", results)
    assert result.returncode == 2
    assert message in result.stderr
    assert "mine@" not in result.stderr
    assert result.stderr.count("\n") <= 2


def test_wrong_credentials_are_named(
    cnngrid: Command, write_sweep: Write, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.core import set_initial_no_auth_action_count

    ask = set_initial_no_auth_action_count(0)(cnngrid)
    result = ask("run", write_sweep(), "--local", "--results", "s3://store/results")
    assert result.returncode == 2
    assert "s3://store/results/small: access is denied to these credentials" in result.stderr


@pytest.mark.soak
@pytest.mark.slow
def test_code_of_ones_own_is_stored_in_a_bucket_and_runs_from_there(
    cnngrid: Command, write_sweep: Write, tmp_path: Path, s3: ObjectStore
) -> None:
    network = "from torch import nn\ndef net(classes):\n    return nn.Sequential({})\n"
    layers = "nn.Flatten(), nn.Linear(192, classes)"
    (tmp_path / "net_in_bucket.py").write_text(network.format(layers))
    compare = {"arch": ["net_in_bucket:net"]}
    sweep = write_sweep(compare=compare, fixed={"lr": 0.1, "image_size": 8}, seeds=[0])
    run = ("run", sweep, "--local", "--results", "s3://store/results")
    result = cnngrid(*run)
    assert result.returncode == 0, result.stderr
    names = objects("code")
    assert {name.rpartition("/")[2] for name in names} == {"about.json", "net_in_bucket.py"}
    assert "nothing to do" in cnngrid(*run).stdout
    (tmp_path / "net_in_bucket.py").write_text(network.format(f"nn.Identity(), {layers}"))
    result = cnngrid(*run)
    assert "net_in_bucket.py was changed: 1 finished trial" in " ".join(result.stderr.split())
    assert len(objects("code")) == 4
    address = "s3://store/results/small"
    store = open_store(address)
    store.files.fetch_tables()
    first, second = store.finished()
    shown = cnngrid("code", address, first, "--diff", second).stdout
    assert "+    return nn.Sequential(nn.Identity(), nn.Flatten()" in shown

"""A small storm on a real Ray cluster: a trial's process, a node, the driver and the head die."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.clusters.ray_cluster import cluster
from benchmarks.clusters.storm import STEPS_PER_EPOCH, Storm, write_sweep
from grid import load_sweep, run_sweep
from grid.store.folder import Store
from tests.small_sweeps import metrics

pytestmark = [pytest.mark.soak, pytest.mark.ray, pytest.mark.slow]

EPOCHS, TRIALS = 12, 6
KILLS = [(1.0, "trial"), (2.0, "node"), (3.0, "driver"), (2.0, "head")]


def test_nothing_is_lost_or_run_twice_and_no_bit_changes(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNGRID_DATA", str(data_dir))
    monkeypatch.setenv("CNNGRID_HEAD_TIMEOUT_S", "6")
    monkeypatch.setenv("STEP_S", "0.15")
    sweep = write_sweep(tmp_path, rates=3, seeds=2, epochs=EPOCHS)
    with cluster(workers=2, cpus=1) as running:
        storm = Storm(running, sweep, tmp_path / "storm", iter(KILLS), random.Random(0))
        storm.run()
    assert [kill.kind for kill in storm.kills] == [kind for _, kind in KILLS]
    states = [row.state for row in storm.store.finished().values()]
    assert states == ["complete"] * TRIALS, storm.log
    assert not storm.ended_again
    assert not storm.store.set_damaged_aside()
    assert not storm.leftovers
    # All output is cnngrid's own: no traceback and no message of Ray.
    assert "Traceback" not in storm.log
    assert "raylet" not in storm.log
    assert "did not complete" not in storm.log
    assert "the head of the Ray cluster has not answered for 6 s" in storm.log
    assert max(storm.headless_s) < 30
    # With a checkpoint every second, few epochs were trained again.
    assert storm.steps < 2 * TRIALS * EPOCHS * STEPS_PER_EPOCH
    monkeypatch.setenv("STEP_S", "0")
    monkeypatch.chdir(tmp_path)
    run_sweep(load_sweep(sweep), results=tmp_path / "local", local=True, quiet=True)
    assert metrics(storm.store.folder) == metrics(tmp_path / "local" / "storm")
    assert {row["attempt"] for row in Store(storm.store.folder).epochs()} > {1}

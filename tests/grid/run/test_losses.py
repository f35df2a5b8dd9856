"""Lost attempts: losses that count against a trial, and two concurrent attempts at one trial."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grid import load_sweep
from grid.api import make_plan
from grid.errors import Superseded
from grid.run.lost_trials import (
    MAX_LOSSES,
    Cause,
    is_suspect,
    note_loss,
    reason_to_give_up,
    settle_claims,
)
from grid.search.sweep_search import Search
from grid.store.folder import Store
from grid.trial.assignment import Assignment, Progress

Write = Callable[..., Path]
MAX_ATTEMPTS = 3
DIED, NODE = Cause("process"), Cause("node")


def test_deaths_in_a_row_count_unless_something_was_saved_in_between(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(MAX_ATTEMPTS - 1):
        note_loss(store, "t", DIED)
    store.claims.write("t", {**store.claims.read("t"), "further": True, "heartbeat": 1})
    for _ in range(MAX_ATTEMPTS - 1):
        note_loss(store, "t", DIED)
        assert reason_to_give_up(store, "t", MAX_ATTEMPTS) is None
    note_loss(store, "t", DIED)
    reason = reason_to_give_up(store, "t", MAX_ATTEMPTS)
    assert reason == "given up after 3 attempts: its process died"


def test_a_lost_node_is_held_against_no_trial_but_not_for_ever(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(MAX_LOSSES - 1):
        note_loss(store, "t", NODE)
        note_loss(store, "t", Cause("start", "no such folder"))
        assert reason_to_give_up(store, "t", MAX_ATTEMPTS) is None
    note_loss(store, "t", NODE)
    reason = reason_to_give_up(store, "t", MAX_ATTEMPTS) or ""
    assert "its node was lost 10 times in a row" in reason


def test_what_a_killed_driver_left_counts_only_where_it_was_the_trials_process(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    for local, cut_offs in (False, 0), (True, 1):
        for name, heartbeat in ("ran", 5), ("stopped", 0), ("ended", 5):
            store.claims.write(name, {"attempt": 2, "heartbeat": heartbeat})
        settle_claims(store, {"ended"}, local=local)
        claims = store.claims.all()
        assert {name: claim.get("cut_offs", 0) for name, claim in claims.items()} == {
            "ran": cut_offs,
            "stopped": 0,
        }
        assert {claim["heartbeat"] for claim in claims.values()} == {0}


def job(sweep: Path, store: Store, data_dir: Path) -> Assignment:
    spec = load_sweep(sweep)
    trial = Search(make_plan(spec, data_dir=data_dir), None, {}).next()
    assert trial is not None
    return Assignment(trial, spec.sweep, str(store.folder), str(data_dir), 1, "cpu", "none", "all",
               spec.checkpoint_s, None)  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def epoch(attempt: Iterator[Progress]) -> int:
    """Return the epoch of a trial's next report."""
    return next(progress.epoch for progress in attempt if not progress.within_epoch)


@pytest.mark.parametrize("until", ["running", "ended"])
def test_an_older_attempt_stops_before_it_writes(
    until: str, write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    """A worker lost sight of the driver and goes on; the trial was started again elsewhere."""
    from grid.trial.trial import run_trial

    store = Store(tmp_path / "small")
    what = replace(
        job(write_sweep(checkpoint_s=0.001, fixed={"epochs": 4}), store, data_dir), slot=3
    )
    older = run_trial(what, store)
    assert epoch(older) == 1
    assert store.claims.read(what.trial.trial_id)["slot"] == 3
    newer = run_trial(what, store)
    assert epoch(newer) == 1  # it goes on from the older one's checkpoint
    assert epoch(newer) == 2
    if until == "ended":
        assert [progress.epoch for progress in newer if not progress.within_epoch] == [3, 4]
    before = content(store.folder)
    with pytest.raises(Superseded, match="ended elsewhere" if until == "ended" else "process"):
        next(older)
    assert content(store.folder) == before
    assert [row["attempt"] for row in store.epochs()][:2] == [1, 2]


def test_a_trial_that_died_after_its_row_was_stored_is_not_run_again(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    from rich.console import Console

    from grid.cost.disk import Sizes
    from grid.cost.forecast import planned_work
    from grid.run.capacity import Capacity
    from grid.run.checkpoints import Keeper
    from grid.run.display import Display
    from grid.run.driver import Driver, RunOptions
    from grid.run.signals import StopSignals
    from grid.trial.lineage import Lineage
    from grid.trial.trial import run_trial

    store = Store(tmp_path / "small")
    plan = make_plan(load_sweep(write_sweep(fixed={"epochs": 1})), data_dir=data_dir)
    capacity = Capacity(1, "cpu")
    display = Display(Console(quiet=True), "small", 4, capacity, {}, work=planned_work(plan))
    keeper = Keeper(plan, store, lambda trial: Sizes(0, 0), set, print)
    driver = Driver(
        plan,
        store,
        RunOptions(tmp_path, data_dir),
        Search(plan, store, {}),
        Lineage(store, {}),
        display,
        keeper,
        capacity,
        StopSignals(print),
        commit=None,
    )
    first = driver.next()
    assert first is not None
    assert first.slot == 0
    assert [progress.done for progress in run_trial(first, store)] == [True]
    driver.lost(first.trial.trial_id, DIED)
    assert driver.states == {"complete": 1}
    second = driver.next()
    assert second is not None
    assert second.trial != first.trial
    driver.lost(second.trial.trial_id, DIED)
    third = driver.next()
    assert third is not None
    assert third.trial == second.trial


@pytest.mark.soak
@pytest.mark.slow
def test_a_trial_that_kills_its_process_every_time_fails_and_the_rest_goes_on(
    write_sweep: Write,
    tmp_path: Path,
    cnngrid_process: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the plan imports the module from here
    (tmp_path / "poison.py").write_text(
        "import os\nfrom torch import nn\n"
        "class Poison(nn.Flatten):\n"
        "    def forward(self, images):\n"
        "        if len(images) > 2: os.kill(os.getpid(), 9)  # not when the plan tries it\n"
        "        return super().forward(images)\n"
        "def kill(classes): return nn.Sequential(Poison(), nn.Linear(192, classes))\n"
        "def fine(classes): return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))\n"
    )
    fixed: dict[str, Any] = {"image_size": 8, "lr": 0.1, "augment": [], "epochs": 1}
    sweep = write_sweep(compare={"arch": ["poison:kill", "poison:fine"]}, fixed=fixed, seeds=[0])
    store = Store(tmp_path / "results" / "small")
    poison = job(sweep, store, tmp_path).trial.trial_id
    note_loss(store, poison, Cause("driver"))
    assert cnngrid_process("run", sweep, "--local").returncode == -signal.SIGKILL
    assert cnngrid_process("run", sweep, "--local").returncode == 1
    rows = store.finished().values()
    assert {row.state: row.reason for row in rows} == {
        "complete": None,
        "failed": "given up after 3 attempts: its process was ended by SIGKILL",
    }


@pytest.mark.slow
def test_a_trial_whose_drivers_were_killed_ends_as_if_nothing_had_been(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    """A process of its own gives the numbers of the driver's, and can be stopped and go on."""
    from grid.run.apart import run_apart
    from grid.trial.trial import run_trial

    sweep = write_sweep(fixed={"epochs": 2})
    stores = Store(tmp_path / "undisturbed"), Store(tmp_path / "apart")
    undisturbed, apart = (job(sweep, store, data_dir) for store in stores)
    for _ in run_trial(undisturbed, stores[0]):
        pass
    trial_id = apart.trial.trial_id
    for _ in range(MAX_ATTEMPTS):
        note_loss(stores[1], trial_id, Cause("driver"))
    assert reason_to_give_up(stores[1], trial_id, MAX_ATTEMPTS) is None
    assert is_suspect(stores[1], trial_id)
    first = run_apart(apart, stores[1])
    assert epoch(first) == 1
    first.close()
    assert [progress.epoch for progress in run_apart(apart, stores[1]) if progress.done] == [2]
    one, other = (
        {name: value for name, value in store.row(trial_id).items() if "top1" in name}
        for store in stores
    )
    assert one == other
    assert [row["attempt"] for row in stores[1].epochs()] == [1, 2]

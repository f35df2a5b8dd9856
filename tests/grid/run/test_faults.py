"""Trials that hang, die, or run out of memory, on a real Ray and without: the rest goes on."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import open_results
from analysis.results.database import rows
from grid.lock.heartbeat import process_started
from grid.run.ray_tune.watchdog import Watchdog
from grid.store.folder import Store
from tests.small_sweeps import SMALL, metrics, run_local

Write = Callable[..., Path]

# Faults of a trial's process. `greedy` always runs out of memory, `crowded` once and while another
# trial runs; `stops` hangs and `trips` runs out of memory once, in the eighth step; `breaks` breaks
# its process's GPU once, `asserts` always, and then every network of that process fails.
NETWORKS = """
import os, signal
from pathlib import Path
import torch
from torch import nn

HERE = Path(__file__).parent

class Faulty(nn.Module):
    def __init__(self, classes, how):
        super().__init__()
        self.how, self.linear, self.steps = how, nn.Linear(3 * 8 * 8, classes), 0

    def forward(self, x):
        if len(x) <= 2:  # the plan tries it
            return self.linear(x.flatten(1))
        self.steps += self.training
        marker = HERE / f"{self.how}-{os.getpid()}"
        first = not list(HERE.glob(f"{self.how}-*"))
        if self.how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how in ("stops", "trips") and self.steps == 8 and first:
            marker.touch()
            if self.how == "trips":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            os.kill(os.getpid(), signal.SIGSTOP)
        broken = HERE / f"broken-{os.getpid()}"
        if self.how == "breaks" and self.steps == 8 and first:
            marker.touch()
            broken.touch()
        if self.how == "asserts":
            broken.touch()
        if broken.exists():
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        claims = HERE.glob("results/small/run/trials/*.json")
        others = [c for c in claims if \'"heartbeat": 0\' not in c.read_text()]
        if self.how == "greedy" or self.how == "crowded" and (first or len(others) > 1):
            marker.touch()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.linear(x.flatten(1))

def dies(classes): return Faulty(classes, "dies")
def stops(classes): return Faulty(classes, "stops")
def trips(classes): return Faulty(classes, "trips")
def breaks(classes): return Faulty(classes, "breaks")
def asserts(classes): return Faulty(classes, "asserts")
def crowded(classes): return Faulty(classes, "crowded")
def greedy(classes): return Faulty(classes, "greedy")
"""


def faulty(write_sweep: Write, tmp_path: Path, *names: str, **more: Any) -> Path:
    (tmp_path / "faulty_networks.py").write_text(NETWORKS)
    return write_sweep(
        compare={"arch": [f"faulty_networks:{name}" for name in names]},
        fixed={"image_size": 8, "lr": 0.01, "augment": [], "epochs": 4},
        seeds=[0],
        checkpoint_s=0.001,
        **more,
    )


def by_network(folder: Path) -> dict[str, dict[str, Any]]:
    trials = rows(open_results(folder), "SELECT * FROM trials")
    return {row["arch"].partition(":")[2]: row for row in trials}


def undisturbed(sweep: Path, tmp_path: Path, data_dir: Path) -> list[dict[str, Any]]:
    """Return the rows of the same trials without a new fault."""
    run_local(sweep, tmp_path / "whole", data_dir)
    return metrics(tmp_path / "whole" / "small")["trials"]


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.slow
def test_hung_dead_and_hungry_trials_are_run_again_or_fail_and_the_rest_goes_on(
    write_sweep: Write,
    tmp_path: Path,
    data_dir: Path,
    cnngrid_process: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("stops", "dies", "breaks", "crowded", "greedy")
    sweep = faulty(write_sweep, tmp_path, *names, max_attempts=3, hung_after_s=12)
    result = cnngrid_process("run", sweep, "--slots", "2")
    folder = tmp_path / "results" / "small"
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    trials = by_network(folder)
    assert {name: row["state"] for name, row in trials.items()} == {
        "stops": "complete", "dies": "failed", "breaks": "complete", "crowded": "complete",
        "greedy": "failed",
    }  # fmt: skip

    # It hung once, was killed and resumed from its last checkpoint, with the same numbers.
    (marker,) = tmp_path.glob("stops-*")
    assert process_started(int(marker.name.partition("-")[2])) is None
    messages = " ".join(result.stderr.split())
    silent = "killed after 12 s without a sign of life (hung_after_s)"
    stops = trials["stops"]
    assert f"lost: faulty_networks:stops seed 0 ({stops['trial_id']}): {silent}" in messages
    trained = [r for r in Store(folder).epochs() if r["trial_id"] == stops["trial_id"]]
    last = stops["attempts"]
    assert last >= 2
    assert [row["attempt"] for row in trained] == [1, 1, last, last]
    monkeypatch.chdir(tmp_path)
    again = faulty(write_sweep, tmp_path, "stops", "breaks", "crowded")
    ids = {trials[name]["trial_id"] for name in ("stops", "breaks", "crowded")}
    disturbed = [row for row in metrics(folder)["trials"] if row["trial_id"] in ids]
    assert disturbed == undisturbed(again, tmp_path, data_dir)

    assert trials["dies"]["reason"].startswith("given up after 3 attempts: ")
    assert "its process died (killed, by the kernel where" in trials["dies"]["reason"]
    assert trials["dies"]["attempts"] == 3
    # The process with the broken GPU ended, so no other trial met it.
    assert trials["breaks"]["attempts"] == 2
    fault = "AcceleratorError: CUDA error: device-side assert triggered"
    lost = f"lost: faulty_networks:breaks seed 0 ({trials['breaks']['trial_id']})"
    assert f"{lost}: {fault}" in messages
    # Alone on the device, `crowded` had enough memory; `greedy` still had not.
    for name in ("crowded", "greedy"):
        assert f"again: faulty_networks:{name} seed 0" in messages
        assert trials[name]["attempts"] >= 2
    assert trials["greedy"]["reason"].startswith(
        "out of memory, with nothing else on the device: it needs "
    )
    assert trials["greedy"]["peak_memory_mib"] > 2048


@pytest.mark.slow
def test_out_of_memory_without_ray_is_tried_once_more_too(
    write_sweep: Write, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = faulty(write_sweep, tmp_path, "trips", "greedy")
    summary = run_local(sweep, tmp_path / "cut", data_dir)
    assert summary.states == {"complete": 1, "failed": 1}
    trials = by_network(tmp_path / "cut" / "small")
    assert (trials["trips"]["attempts"], trials["greedy"]["attempts"]) == (2, 2)
    assert trials["greedy"]["reason"].startswith("out of memory, with nothing else on the device")
    trips = [row for row in metrics(tmp_path / "cut" / "small")["trials"] if row["epochs_run"]]
    assert trips == undisturbed(faulty(write_sweep, tmp_path, "trips"), tmp_path, data_dir)


@pytest.mark.soak
@pytest.mark.slow
def test_a_broken_gpu_without_ray_costs_its_trial_an_attempt_and_no_other_trial_anything(
    write_sweep: Write, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # before the folder of an earlier test
    sweep = faulty(write_sweep, tmp_path, "breaks", "asserts", max_attempts=2)
    summary = run_local(sweep, tmp_path / "cut", data_dir)
    assert summary.states == {"complete": 1, "failed": 1}
    trials = by_network(tmp_path / "cut" / "small")
    fault = "AcceleratorError: CUDA error: device-side assert triggered"
    assert trials["asserts"]["reason"] == f"given up after 2 attempts: {fault}"
    assert (trials["breaks"]["attempts"], trials["asserts"]["attempts"]) == (2, 2)
    # One broke this process's GPU; each attempt at the other broke that of a process of its own.
    assert len({str(path) for path in tmp_path.glob("broken-*")}) == 3
    rows_cut = [row for row in metrics(tmp_path / "cut" / "small")["trials"] if row["epochs_run"]]
    next(tmp_path.glob("broken-" + str(os.getpid()))).unlink()
    whole = undisturbed(faulty(write_sweep, tmp_path, "breaks"), tmp_path, data_dir)
    assert rows_cut == whole


def test_an_actor_with_a_broken_gpu_is_a_lost_process(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from types import SimpleNamespace

    from grid.run.ray_tune.tune import _cause

    error = tmp_path / "error.txt"
    error.write_text(
        "Failure # 1 (occurred at 2026-01-01_00-00-00)\nray::TrialActor.train()\n  File ...\n"
        "grid.errors.BrokenDevice: AcceleratorError: CUDA error: device-side assert triggered\n"
    )
    cause = _cause(SimpleNamespace(error_file=error, pickled_error_file=error))
    assert (cause.what, cause.reason) == (
        "process",
        "AcceleratorError: CUDA error: device-side assert triggered",
    )


@pytest.mark.ray
def test_a_trial_that_must_be_alone_asks_for_a_whole_gpu() -> None:
    from types import SimpleNamespace

    from grid.run.ray_tune.tune import trial_request

    def requested_resources(gpus: float, alone: bool) -> dict[str, float]:
        (bundle,) = trial_request(2, gpus)({"assignment": SimpleNamespace(alone=alone)}).bundles
        return dict(bundle)

    assert requested_resources(0.25, False) == {"CPU": 2, "GPU": 0.25}
    assert requested_resources(0.25, True) == {"CPU": 2, "GPU": 1}
    # Rounded up to Ray's four digits, seven sevenths would take more than a GPU.
    assert requested_resources(1 / 7, False) == {"CPU": 2, "GPU": 0.1428}
    assert requested_resources(0, True) == {"CPU": 2}


def test_a_heartbeat_is_judged_by_its_change_not_by_its_time(tmp_path: Path) -> None:
    clock = [1000.0]
    store = Store(tmp_path)
    dog = Watchdog(store, 60, lambda: clock[0])
    for trial_id in ("live", "hung", "ended", "starts"):
        dog.started(trial_id)
        store.claims.write(trial_id, {"heartbeat": 0, "trains": trial_id != "starts"})
    named = []
    for minute in range(1, 5):
        clock[0] += 59
        # The other machine's clock is years off and almost stopped.
        store.claims.write("live", {"heartbeat": 5 + minute / 1000, "trains": True})
        dog.ended("ended")
        named.append(dog.hung())
    # Opening the data, before the first step, may take one minute more.
    assert named == [[], [], ["hung"], ["starts"]]
    never = Watchdog(store, 0, lambda: clock[0])
    never.started("hung")
    clock[0] += 1e9
    assert never.hung() == []


def test_small_has_three_steps_an_epoch_as_these_tests_think() -> None:
    assert SMALL["fixed"]["limit_train"] / SMALL["fixed"]["batch_size"] == 3

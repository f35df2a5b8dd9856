"""Estimates from counted operations and from trials that were measured before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnncore.config import TrialConfig
from grid.api import make_plan
from grid.cost.estimate import RUN_S, Cost, estimate
from grid.cost.slots import makespan_s
from grid.cost.times.machine import machine_speed, speed_folder
from grid.cost.times.measured import Measurement, of_trial, read_measurements, record, speed_key
from grid.cost.times.trial_cost import factors
from grid.plan.planned_data import SplitSizes
from grid.sweep.load import load_sweep
from tests.small_sweeps import run_local, trial_rows

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test a cache of its own, on a machine that is taken to be quiet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("cnncore.training.speed.machine.busy_share", lambda: 0.0)


def cost_of(sweep: Path, tmp_path: Path, data_dir: Path, *, measure: bool = False) -> Cost:
    plan = make_plan(load_sweep(sweep), data_dir=data_dir)
    return estimate(plan, tmp_path / "elsewhere", data_dir, 1, measure=measure)


def config(**changes: Any) -> TrialConfig:
    keys = {"arch": "cnn3", "dataset": "digits", "image_size": 32, "optimizer": "sgd", "lr": 0.1}
    return TrialConfig.model_validate({**keys, "epochs": 3, **changes})


@pytest.mark.slow
def test_finished_trials_tell_the_time_of_the_next_ones(
    write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep()
    counted = cost_of(sweep, tmp_path, data_dir)
    assert dict(counted.bases) == {"counted": 1}, "both rates take the same time"
    run_local(sweep, tmp_path / "results", data_dir)
    rows = trial_rows(tmp_path / "results" / "small")
    known = cost_of(sweep, tmp_path, data_dir)
    assert dict(known.bases) == {"trials": 1}
    assert known.measured_trials == len(rows) == 4
    truth = sum(row.wall_time_s for row in rows)
    assert known.time_s - RUN_S == pytest.approx(truth, rel=0.5)
    low, high = (seconds - RUN_S for seconds in known.range_s)
    assert high / low < 1.5 < (counted.range_s[1] - RUN_S) / (counted.range_s[0] - RUN_S)
    # What changes no speed shares the measurement; a batch of another size has none.
    other_rate = write_sweep(compare={"arch": ["cnn3"], "lr": [0.2]})
    assert dict(cost_of(other_rate, tmp_path, data_dir).bases) == {"trials": 1}
    other_batch = write_sweep(fixed={"batch_size": 16})
    assert dict(cost_of(other_batch, tmp_path, data_dir).bases) == {"counted": 1}


@pytest.mark.slow
def test_a_probe_measures_what_fits_and_is_remembered(
    write_sweep: Write, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3", "vgg11"], "lr": [0.1, 0.2]}, seeds=[0])
    free = [4000.0]
    monkeypatch.setattr("cnncore.measure.memory.free_memory_mib", lambda device: free[0])
    monkeypatch.setattr("grid.cost.times.probe.LONGEST_S", 0.0)
    late = cost_of(sweep, tmp_path, data_dir, measure=True)
    assert dict(late.bases) == {"counted": 2}
    assert len(late.skipped) == 1
    assert "2 kinds of trials, such as cnn3 at 32 pixels" in late.skipped[0], "the smallest first"
    monkeypatch.setattr("grid.cost.times.probe.LONGEST_S", 60.0)
    free[0] = 500.0
    small = cost_of(sweep, tmp_path, data_dir, measure=True)
    assert dict(small.bases) == {"probe": 1, "counted": 1}
    (note,) = small.skipped
    assert "vgg11 at 32 pixels in batches of 32 is not measured: it may need" in note
    assert "500 are free" in note
    free[0] = 4000.0
    whole = cost_of(sweep, tmp_path, data_dir, measure=True)
    assert dict(whole.bases) == {"probe": 2}
    assert whole.skipped == ()
    monkeypatch.setattr("cnncore.training.speed.steps.measure_steps", None)
    assert dict(cost_of(sweep, tmp_path, data_dir, measure=True).bases) == {"probe": 2}


@pytest.mark.slow
def test_more_work_counts_as_more_time(write_sweep: Write, tmp_path: Path, data_dir: Path) -> None:
    def seconds(**fixed: Any) -> float:
        arch = fixed.pop("arch", "cnn3")
        sweep = write_sweep(compare={"arch": [arch], "lr": [0.1]}, fixed=fixed, seeds=[0])
        return cost_of(sweep, tmp_path, data_dir).time_s - RUN_S

    usual = seconds(epochs=100)
    # Twice the epochs take twice the time but for what a trial costs once.
    assert 1.5 * usual < seconds(epochs=200) < 2 * usual
    assert seconds(epochs=100, limit_train=192) > 1.3 * usual
    assert seconds(epochs=100, arch="resnet18") > 3 * usual
    # Six optimizer steps in place of three.
    assert seconds(epochs=100, batch_size=16) > usual
    assert seconds(epochs=100, optimizer="radam") > usual
    distorted = ["trivial_augment"]
    assert seconds(epochs=100, augment=distorted) > seconds(epochs=100, augment=[])


def test_a_trial_is_not_divided_over_slots() -> None:
    assert makespan_s([3.0], 8) == 3.0
    assert makespan_s([2.0, 2.0, 2.0], 2) == 4.0
    assert makespan_s([1.0, 1.0, 4.0], 2) == 5.0, "in the order in which trials start"
    assert makespan_s([], 4) == 0.0


def test_the_range_follows_the_largest_part() -> None:
    assert factors([(10.0, "counted")]) == (0.5, 2.0)
    low, high = factors([(1.0, "counted"), (99.0, "trials")])
    assert 0.85 < low < 1 < high < 1.17
    assert factors([]) == (1.0, 1.0)


def test_a_speed_key_leaves_out_what_changes_no_speed() -> None:
    def key(**changes: Any) -> str:
        return speed_key(config(**changes), "cpu", 1)

    same: list[dict[str, Any]] = [
        *({"lr": 0.5}, {"epochs": 9}, {"weight_decay": 0.1}, {"schedule": "cosine"}),
        *({"momentum": 0.5}, {"limit_train": 64}, {"early_stop": {"patience": 3}}),
    ]
    assert {key(**change) for change in same} == {key()}
    others: list[dict[str, Any]] = [
        *({"batch_size": 64}, {"precision": "bf16"}, {"optimizer": "adam"}, {"momentum": 0.0}),
        *(
            {"augment": ["flip"]},
            {"ema": 0.9},
            {"image_size": 33},
            {"mixup": 0.2},
            {"arch": "vgg11"},
        ),
    ]
    assert len({key(), *(key(**change) for change in others)}) == len(others) + 1
    assert speed_key(config(), "cpu", 2) != key() != speed_key(config(), "gpu", 1)


def epochs(*train_s: float) -> list[dict[str, Any]]:
    return [{"train_time_s": seconds, "eval_time_s": 0.5} for seconds in train_s]


def test_a_trial_tells_its_speed_only_if_it_ran_in_one_go() -> None:
    sizes = SplitSizes(train=100, val=10, test=20)
    row = {"state": "complete", "attempts": 1, "epochs_run": 3, "wall_time_s": 12.0}
    measured = of_trial(row, epochs(3.0, 2.0, 2.0), sizes, 2)
    # 12 s = 3 x (2 + 0.5) s of epochs, 1 s of test, and the rest, the warm-up among it.
    assert measured == Measurement(train_s=0.02, eval_s=0.05, fixed_s=3.5, beside=2)
    three = epochs(3.0, 2.0, 2.0)
    for change in (
        {"attempts": 2},
        {"continued_from": "x"},
        {"state": "failed"},
        {"epochs_run": 4},
    ):
        assert of_trial({**row, **change}, three, sizes, 2) is None


def test_damaged_lines_of_the_cache_do_not_count(tmp_path: Path) -> None:
    assert read_measurements({"a"}, tmp_path / "absent") == {}
    for n in range(15):
        record("a", Measurement(1.0 + n, 2.0, None, 1), tmp_path)
    with (tmp_path / "trials.jsonl").open("ab") as file:
        bad = {"key": "a", "train_s": float("nan"), "eval_s": 1, "fixed_s": 1, "beside": 1}
        file.write(b'{"key": "a", "tra\n\xff\xfe\n[]\n"a"\n' + json.dumps(bad).encode() + b"\n")
    record("b", Measurement(1.0, 2.0, 3.0, 4), tmp_path)
    known = read_measurements({"a", "b"}, tmp_path)
    assert [one.train_s for one in known["a"]] == [float(n) for n in range(4, 16)], "the newest"
    assert known["b"] == [Measurement(1.0, 2.0, 3.0, 4)]


def test_the_machine_is_measured_again_only_while_it_was_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cnncore.training.speed.machine.busy_share", lambda: 1.0)
    busy = machine_speed("cpu", 1, "fp32", 1)
    assert busy.busy == 1.0
    monkeypatch.setattr("cnncore.training.speed.machine.busy_share", lambda: 0.0)
    quiet = machine_speed("cpu", 1, "fp32", 1)
    assert quiet.busy == 0.0
    assert machine_speed("cpu", 1, "fp32", 1) == quiet
    (file,) = speed_folder().glob("machine-*.json")
    file.write_text('{"forward": 3}')
    assert machine_speed("cpu", 1, "fp32", 1) != quiet, "a damaged file is measured again"

"""The search: the same points after a rebuild, nothing done twice, every cell alike."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grid.ids import Trial
from grid.plan import Plan, make_plan
from grid.search import Outcome, Search
from grid.spec import parse_sweep
from grid.store import Finished, Store, now

AXES = """{
  lr: {log_uniform: [1e-4, 1e-1]},
  batch_size: {int_range: [8, 64]},
  momentum: {uniform: [0.5, 0.99], when: {optimizer: sgd}},
  schedule: [constant, cosine, {step: {every: 2}}],
  warmup_epochs: {choice: [0, 1], when: {schedule: cosine}}
}"""


def tuned(trials: int = 14, sampler: str = "tpe", seeds: str = "[0]", axes: str = AXES) -> Plan:
    text = (
        "sweep: s\ncompare: {arch: [cnn3], optimizer: [sgd, adam]}\n"
        "fixed: {dataset: digits, image_size: 32, epochs: 4}\n"
        f"tune: {{trials: {trials}, sampler: {sampler}, axes: {axes}}}\nseeds: {seeds}\n"
    )
    facts = SimpleNamespace(image_size=8, fingerprint=None)
    return make_plan(parse_sweep(text), lambda name, size: facts)


def outcome(trial: Trial) -> Outcome:
    """A made-up result that depends on the config alone, some pruned and some lost."""
    number = int(trial.trial_id, 16)
    state = ("complete", "complete", "complete", "pruned", "diverged", "failed")[number % 6]
    value = (number % 1000) / 1000 if state in ("complete", "pruned") else None
    return Outcome(state, value, 4 if state == "complete" else 1 + number % 3)


def write(store: Store, trial: Trial, result: Outcome) -> None:
    row = {
        "trial_id": trial.trial_id,
        "config_id": trial.config_id,
        "state": result.state,
        "val_top1": result.val_top1,
        "epochs_run": result.epochs_run,
        "ended_at": now(),
    }
    store.write("trials", trial.trial_id, [row])


def run(plan: Plan, store: Store, stop_after: int | None = None) -> list[str]:
    """Run until the end, or until so many trials were started (the last is then cut off)."""
    search = Search(plan, store, store.finished())
    started: list[str] = []
    while (trial := search.next()) is not None:
        started.append(trial.trial_id)
        if stop_after is not None and len(started) >= stop_after:
            break
        result = outcome(trial)
        write(store, trial, result)
        search.tell(trial, result)
    return started


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes"])
@pytest.mark.parametrize("seeds", ["[0]", "[0, 1]"])
def test_a_rebuilt_search_asks_for_the_points_of_an_uninterrupted_one(
    tmp_path: Path, sampler: str, seeds: str
) -> None:
    plan = tuned(sampler=sampler, seeds=seeds)
    whole = run(plan, Store(tmp_path / "whole"))
    cut = Store(tmp_path / "cut")
    started: list[str] = []
    for stop_after in (5, 9, 1, 7, None):
        first = run(plan, cut, stop_after)
        # The trial that was cut off comes again, first.
        if started:
            assert first[0] == started.pop()
        started += first
    assert started == whole
    assert len(whole) == plan.planned


def test_the_model_differs_from_chance() -> None:
    # Guards the test above: a sampler that ignores what it was told would pass it too.
    points = {}
    for name, good in (("low", 0.0), ("high", 1.0)):
        search = Search(tuned(trials=40, axes="{lr: {uniform: [0.1, 0.9]}}"), None, {})
        late = []
        while (trial := search.next()) is not None:
            lr = trial.config.lr
            search.tell(trial, Outcome("complete", -abs(lr - (0.1 + 0.8 * good)), 4))
            if trial.suggestion is not None and trial.suggestion >= 20:
                late.append(lr)
        points[name] = sum(late) / len(late)
    assert points["low"] < 0.35
    assert points["high"] > 0.65


def test_every_cell_has_the_same_budget_and_makes_progress_alike(tmp_path: Path) -> None:
    plan = tuned(trials=6, seeds="[0, 1, 2]")
    search = Search(plan, Store(tmp_path), {})
    cells = []
    while (trial := search.next()) is not None:
        cells.append(trial.cell_id)
        search.tell(trial, outcome(trial))
    counts = Counter(cells)
    assert list(counts.values()) == [18, 18]
    assert [len(set(cells[n : n + 6])) for n in range(0, 36, 6)] == [2] * 6


def test_conditional_axes_never_reach_a_trial_they_do_not_apply_to() -> None:
    search = Search(tuned(trials=30, sampler="random"), None, {})
    seen = set()
    while (trial := search.next()) is not None:
        config = trial.config
        assert (config.momentum is not None) == (config.optimizer == "sgd")
        assert (config.warmup_epochs is not None) == (config.schedule.kind == "cosine")
        seen.add((config.optimizer, config.schedule.kind))
    assert len(seen) == 6


def test_a_point_that_was_run_before_is_not_run_again() -> None:
    axes = "{lr: {choice: [0.1, 0.2, 0.3]}}"
    plan = tuned(trials=12, sampler="random", axes=axes)
    search = Search(plan, None, {})
    started: list[str] = []
    while (trial := search.next()) is not None:
        started.append(trial.trial_id)
        search.tell(trial, Outcome("complete", 0.5, 4))
    assert len(started) == len(set(started)) == 6
    assert not search.unfinished()


def test_trials_in_flight_are_not_handed_out_twice() -> None:
    search = Search(tuned(trials=12, sampler="random", axes="{lr: [0.1, 0.2]}"), None, {})
    running = []
    while (trial := search.next()) is not None:
        running.append(trial)
    assert len({trial.trial_id for trial in running}) == len(running) == 4
    for trial in running:
        search.tell(trial, Outcome("complete", 0.5, 4))
    assert not search.unfinished()


def test_a_longer_search_goes_on_where_the_shorter_one_ended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    short = run(tuned(trials=5), store)
    more = run(tuned(trials=9), store)
    assert len(short) == 10
    assert len(more) == 8
    assert short + more == run(tuned(trials=9), Store(tmp_path / "at-once"))


def test_suggestions_of_other_axes_no_longer_count(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(tuned(trials=4, axes="{lr: {uniform: [0.1, 0.2]}}"), store)
    again = run(tuned(trials=4, axes="{lr: {uniform: [0.3, 0.4]}}"), store)
    assert len(again) == 8


def test_finished_trials_of_a_grid_are_not_handed_out() -> None:
    text = "sweep: s\ncompare: {arch: [cnn3], lr: [0.1, 0.2, 0.3]}\n" + (
        "fixed: {dataset: digits, image_size: 32, epochs: 1, optimizer: sgd}\nseeds: [0, 1]\n"
    )
    facts = SimpleNamespace(image_size=8, fingerprint=None)
    plan = make_plan(parse_sweep(text), lambda name, size: facts)
    done: dict[str, Any] = {
        trial.trial_id: Finished(trial.trial_id, trial.config_id, "complete", None, 0.5, 1, 0)
        for trial in plan.trials[1:4]
    }
    search = Search(plan, None, done)
    left = []
    while (trial := search.next()) is not None:
        left.append(trial.trial_id)
    assert left == [trial.trial_id for trial in (plan.trials[0], *plan.trials[4:])]

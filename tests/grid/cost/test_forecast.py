"""Forecast of the time left, against the real duration on recorded learning curves."""

from __future__ import annotations

from statistics import median

import pytest

from benchmarks.search.curves import read
from benchmarks.search.simulate import simulate
from grid.cost.forecast import CellWork, StartedTrial, epochs_left, planned_work, time_left_s
from grid.plan.ids import Trial

CURVES = read()
SLOTS = 8


def forecasts(stop: str) -> list[tuple[float, float]]:
    """Return pairs: share of time elapsed, and forecast time left / real time left."""
    plan = CURVES.plan("random", stop, None, 0)
    times = CURVES.seconds_by_arch
    work = planned_work(plan)
    forecast_points: list[tuple[float, float]] = []

    def record_forecast(time_s: float, trial: Trial, state: str, epochs: int) -> None:
        seconds = epochs * times[trial.config.arch]
        work[trial.cell_id].started[trial.trial_id] = StartedTrial(state, epochs, seconds)
        left = time_left_s([*work.values()], plan.spec.stop, 1, SLOTS)
        if left is not None:
            forecast_points.append((time_s, left))

    whole = simulate(
        plan, CURVES.value, SLOTS, lambda trial: times[trial.config.arch], listener=record_forecast
    ).time_s
    assert forecast_points[-1][1] == 0
    return [(at / whole, left / (whole - at)) for at, left in forecast_points if at < whole]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop",
    [
        "",
        '{"halving": {"reduction": 3, "rungs": 2}}',
        '{"halving": {"reduction": 3}}',
        '{"asha": {"reduction": 3}}',
        '{"hyperband": {"reduction": 3}}',
        '{"first_epochs": {"epochs": 3, "keep": 2}}',
        '{"median": {"grace_epochs": 3}}',
    ],
)
def test_the_time_left_is_about_what_it_then_takes(stop: str) -> None:
    shares_and_ratios = forecasts(stop)
    for start, end in (0.1, 0.4), (0.4, 0.7), (0.7, 0.9):
        ratio = median(ratio for share, ratio in shares_and_ratios if start <= share < end)
        assert 0.6 < ratio < 1.6, (start, ratio)


def test_a_config_that_waits_counts_by_its_epochs_and_the_best_go_on() -> None:
    from grid.sweep.spec import Halving, Stop

    cell = CellWork(configs=9, replicates=1, confirmed=2, epochs=27)
    cell.started = {str(n): StartedTrial("paused", 3, 3.0) for n in range(9)}
    rule = Stop(halving=Halving(grace_epochs=3, reduction=3))
    left = epochs_left(cell, rule, wanted=1)
    # Three of nine train 6 epochs more, one of them 18 more, and two trials confirm it.
    assert left.epochs == 3 * 6 + 18 + 2 * 27
    assert left.in_a_row == 24 + 27


def test_the_last_trial_is_not_shared_out_over_idle_slots() -> None:
    cell = CellWork(configs=2, replicates=1, confirmed=0, epochs=10)
    cell.started = {"a": StartedTrial("complete", 10, 20.0), "b": StartedTrial("running", 4, 8.0)}
    assert time_left_s([cell], None, 1, slots=8) == 12.0


def test_trials_that_stop_by_themselves_are_expected_to_do_so_again() -> None:
    cell = CellWork(configs=4, replicates=1, confirmed=0, epochs=100)
    cell.started = {str(n): StartedTrial("complete", 20, 20.0) for n in range(3)}
    assert epochs_left(cell, None, 1).epochs == 20

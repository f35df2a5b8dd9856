"""Forecast of the rest of a sweep: epochs by its stopping rule, seconds by the epochs so far.

Trials are no measure: one that was stopped early or waits took only its epochs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grid.search.rungs import Stage
from grid.search.stopping import cell_rule
from grid.sweep.spec import Stop

if TYPE_CHECKING:
    from grid.plan.plan import Plan

# States of trials that have not ended.
OPEN = frozenset({"running", "paused", "planned"})


@dataclass(frozen=True)
class StartedTrial:
    """Started trial: its epochs so far and their seconds, evaluation included."""

    state: str
    epochs: int
    seconds: float = 0.0
    confirmed: bool = False
    # The first replicate of its config, the only one that is compared with others.
    first: bool = True


@dataclass
class CellWork:
    """Planned trials of a cell, and the started ones among them by id."""

    configs: int
    replicates: int
    confirmed: int
    # The budget of each trial.
    epochs: int
    started: dict[str, StartedTrial] = field(default_factory=dict)


def planned_work(plan: Plan) -> dict[str, CellWork]:
    """Return the work of a plan's cells before any trial started."""
    tune = plan.spec.tune
    confirmed = tune.confirm.top * len(plan.confirm_replicates) if tune and tune.confirm else 0
    known = Counter(trial.cell_id for trial in plan.trials)
    return {
        cell.cell_id: CellWork(
            configs=cell.budget if tune else known[cell.cell_id],
            replicates=len(plan.replicates) if tune else 1,
            confirmed=confirmed,
            epochs=cell.epochs,
        )
        for cell in plan.cells
    }


@dataclass(frozen=True)
class Left:
    """Epochs that a cell still trains, and how many of them at least run one after another."""

    epochs: float
    in_a_row: float


def time_left_s(
    cells: Sequence[CellWork], stop: Stop | None, wanted: int, slots: int
) -> float | None:
    """Estimate the seconds until the sweep ends on `slots` slots; None before any measurement.

    `wanted` configs of a cell are trained to the end whatever the rule decides.
    """
    rates = [_seconds_per_epoch(cell.started.values()) for cell in cells]
    measured = [rate for rate in rates if rate]
    if not measured:
        return None
    mean_rate = sum(measured) / len(measured)
    work = longest = 0.0
    for cell, rate in zip(cells, rates, strict=True):
        left = epochs_left(cell, stop, wanted)
        work += left.epochs * (rate or mean_rate)
        longest = max(longest, left.in_a_row * (rate or mean_rate))
    return max(work / max(slots, 1), longest)


def epochs_left(cell: CellWork, stop: Stop | None, wanted: int) -> Left:
    """Estimate the epochs that a cell still trains, by its rule and by its trials so far."""
    searched = [trial for trial in cell.started.values() if not trial.confirmed]
    confirmed = [trial for trial in cell.started.values() if trial.confirmed]
    planned = cell.configs * cell.replicates
    last = _to_the_end(confirmed, cell.confirmed, cell.epochs)
    if len(searched) >= planned and all(trial.state not in OPEN for trial in searched):
        return last
    rule = cell_rule(stop, cell.epochs, wanted) if stop else None
    stages = rule.stages(cell.configs, cell.epochs) if rule else None
    if stages is None:
        first = _by_earlier_trials(searched, planned, cell.epochs)
    else:
        firsts = [trial for trial in searched if trial.first]
        others = [trial for trial in searched if not trial.first]
        first, complete = _through(stages, firsts)
        follow = _to_the_end(others, round((cell.replicates - 1) * complete), cell.epochs)
        first = Left(first.epochs + follow.epochs, max(first.in_a_row, follow.in_a_row))
    return Left(first.epochs + last.epochs, first.in_a_row + last.in_a_row)


def _through(stages: Sequence[Stage], started: Sequence[StartedTrial]) -> tuple[Left, float]:
    """Estimate what a cell's first trials still train, and how many of them become complete.

    Asynchronous rules let more configs through than they plan, so trials beyond count as well.
    """
    left = in_a_row = 0.0
    configs, begin = stages[0].configs, 0
    for n, stage in enumerate(stages):
        if n:
            configs *= stage.configs / stages[n - 1].configs
        length = stage.end - begin
        # Epochs of this stage that are done; a trial that ended inside it has none left to do.
        done = [
            length if trial.state not in OPEN else min(trial.epochs - begin, length)
            for trial in started
            if trial.epochs > begin or (trial.epochs == begin and trial.state == "running")
        ]
        configs = max(configs, len(done))
        left += configs * length - sum(done)
        if configs - len(done) >= 0.5:  # a trial must come from an earlier stage
            below = [t.epochs for t in started if t.state in OPEN and t.epochs <= begin]
            in_a_row = stage.end - max(below, default=0)
        elif under_way := [length - epochs for epochs in done if epochs < length]:
            in_a_row = max(in_a_row, *under_way)
        begin = stage.end
    return Left(max(left, in_a_row), in_a_row), configs


def _to_the_end(started: Sequence[StartedTrial], planned: int, epochs: int) -> Left:
    """Count the epochs left to trials that no rule stops."""
    left = [epochs - trial.epochs for trial in started if trial.state in OPEN]
    left += [epochs] * max(planned - len(started), 0)
    return Left(sum(left), max(left, default=0))


def _by_earlier_trials(started: Sequence[StartedTrial], planned: int, epochs: int) -> Left:
    """Estimate the epochs left to trials that may end by themselves, as earlier ones did."""
    expected = _expected_epochs(started, epochs)
    left = [expected[min(trial.epochs, epochs)] for trial in started if trial.state in OPEN]
    left += [expected[0]] * max(planned - len(started), 0)
    return Left(sum(left), max(left, default=0.0))


def _expected_epochs(started: Iterable[StartedTrial], epochs: int) -> list[float]:
    """Estimate the epochs that a trial trains beyond the 0, 1, ... that it has.

    This is the product-limit estimate of Kaplan and Meier (1958): a trial that still runs counts
    as one that reached its last epoch.
    """
    ended, reached = [0] * (epochs + 1), [0] * (epochs + 2)
    for trial in started:
        last = min(trial.epochs, epochs)
        reached[last] += 1
        ended[last] += trial.state not in OPEN
    for epoch in reversed(range(epochs)):
        reached[epoch] += reached[epoch + 1]
    expected = [0.0] * (epochs + 1)
    for epoch in reversed(range(epochs)):
        ends = ended[epoch + 1] / reached[epoch + 1] if reached[epoch + 1] else 0.0
        expected[epoch] = 1.0 + (1.0 - ends) * expected[epoch + 1]
    return expected


def _seconds_per_epoch(started: Iterable[StartedTrial]) -> float | None:
    """Return the mean seconds of an epoch over all trials; None before any measurement."""
    timed = [trial for trial in started if trial.seconds and trial.epochs]
    if not timed:
        return None
    return sum(trial.seconds for trial in timed) / sum(trial.epochs for trial in timed)

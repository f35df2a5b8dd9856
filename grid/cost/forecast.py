"""How much of a sweep is left: in epochs by what its stopping rule lets through, in seconds by what
epochs took so far.

A trial that was stopped early or waits took its epochs and no more, so trials are no measure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grid.search.stopping import bracket_shares, rung_epochs
from grid.sweep.spec import Asha, FirstEpochs, Halving, Hyperband, Stop

if TYPE_CHECKING:
    from grid.plan.plan import Plan

# States of trials that are not over.
OPEN = frozenset({"running", "paused", "planned"})


@dataclass(frozen=True)
class Seen:
    """A trial that was started: its epochs so far and what they took, evaluation included."""

    state: str
    epochs: int
    seconds: float = 0.0
    confirmed: bool = False
    # The first replicate of its config, which alone is compared with others.
    first: bool = True


@dataclass
class CellWork:
    """A cell's planned trials, and those of them that were started or are over."""

    configs: int
    replicates: int
    confirmed: int
    # The budget of each trial.
    epochs: int
    seen: dict[str, Seen] = field(default_factory=dict)


def planned_work(plan: Plan) -> dict[str, CellWork]:
    """The cells of a plan before any of it was done."""
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
    """Epochs that a cell still trains, and how many of them at least one after another."""

    epochs: float
    in_a_row: float


def time_left_s(
    cells: Sequence[CellWork], stop: Stop | None, wanted: int, slots: int
) -> float | None:
    """Seconds until all is done on `slots` slots; None before anything was measured.

    `wanted` configs of a cell are trained to the end whatever the rule says.
    """
    rates = [_seconds_per_epoch(cell.seen.values()) for cell in cells]
    known = [rate for rate in rates if rate]
    if not known:
        return None
    usual = sum(known) / len(known)
    work = longest = 0.0
    for cell, rate in zip(cells, rates, strict=True):
        left = epochs_left(cell, stop, wanted)
        work += left.epochs * (rate or usual)
        longest = max(longest, left.in_a_row * (rate or usual))
    return max(work / max(slots, 1), longest)


def epochs_left(cell: CellWork, stop: Stop | None, wanted: int) -> Left:
    """What a cell still trains, if its trials fare as the rule says and as others did so far."""
    searched = [seen for seen in cell.seen.values() if not seen.confirmed]
    confirmed = [seen for seen in cell.seen.values() if seen.confirmed]
    planned = cell.configs * cell.replicates
    last = _to_the_end(confirmed, cell.confirmed, cell.epochs)
    if len(searched) >= planned and all(seen.state not in OPEN for seen in searched):
        return last
    stages = race(stop, cell.configs, cell.epochs, wanted) if stop else None
    if stages is None:
        first = _by_those_before(searched, planned, cell.epochs)
    else:
        firsts = [seen for seen in searched if seen.first]
        others = [seen for seen in searched if not seen.first]
        first, complete = _through(stages, firsts)
        follow = _to_the_end(others, round((cell.replicates - 1) * complete), cell.epochs)
        first = Left(first.epochs + follow.epochs, max(first.in_a_row, follow.in_a_row))
    return Left(first.epochs + last.epochs, first.in_a_row + last.in_a_row)


@dataclass(frozen=True)
class Stage:
    """Epochs after the stage before up to `end`, and how many configs of a cell train them."""

    end: int
    configs: float


def race(stop: Stop, configs: int, epochs: int, wanted: int) -> list[Stage] | None:
    """What a rule that lets configs wait plans for a cell, by stages; None for other rules."""
    rule = stop.rule
    if isinstance(rule, FirstEpochs):
        keep = max(rule.keep, wanted)
        stages = [Stage(min(rule.epochs, epochs), configs), Stage(epochs, keep)]
    elif isinstance(rule, Asha):
        stages = _halving(rule.grace_epochs, rule.reduction, configs, epochs)
    elif isinstance(rule, Halving):
        stages = _halving(rule.grace_epochs, rule.reduction, configs, epochs, rule.rungs)
    elif isinstance(rule, Hyperband):
        ends = [*rung_epochs(rule.grace_epochs, rule.reduction, epochs), epochs]
        shares = bracket_shares(len(ends), rule.reduction)
        sizes = [configs * share / sum(shares) for share in shares]
        stages = [
            Stage(end, sum(size / rule.reduction ** max(n - b, 0) for b, size in enumerate(sizes)))
            for n, end in enumerate(ends)
        ]
    else:
        return None
    last = stages[-1]
    return [*stages[:-1], Stage(last.end, min(max(last.configs, wanted), configs))]


def _halving(
    grace_epochs: int, reduction: int, configs: int, epochs: int, rungs: int | None = None
) -> list[Stage]:
    ends = [*rung_epochs(grace_epochs, reduction, epochs)[:rungs], epochs]
    stages = []
    for end in ends:
        stages.append(Stage(end, configs))
        configs = -(-configs // reduction)
    return stages


def _through(stages: Sequence[Stage], seen: Sequence[Seen]) -> tuple[Left, float]:
    """What a cell's first trials still train, and how many of them are complete in the end.

    Asynchronous rules let more through than they plan, so those that are further count as well.
    """
    left = in_a_row = 0.0
    configs, at = stages[0].configs, 0
    for n, stage in enumerate(stages):
        if n:
            configs *= stage.configs / stages[n - 1].configs
        length = stage.end - at
        # Ended inside it, as failed ones do, a trial leaves nothing of it to do.
        here = [
            length if each.state not in OPEN else min(each.epochs - at, length)
            for each in seen
            if each.epochs > at or (each.epochs == at and each.state == "running")
        ]
        configs = max(configs, len(here))
        left += configs * length - sum(here)
        if configs - len(here) >= 0.5:  # somebody must come from a stage before
            below = [each.epochs for each in seen if each.state in OPEN and each.epochs <= at]
            in_a_row = stage.end - max(below, default=0)
        elif under_way := [length - epochs for epochs in here if epochs < length]:
            in_a_row = max(in_a_row, *under_way)
        at = stage.end
    return Left(max(left, in_a_row), in_a_row), configs


def _to_the_end(seen: Sequence[Seen], planned: int, epochs: int) -> Left:
    """Trials that nothing stops."""
    open_ = [epochs - each.epochs for each in seen if each.state in OPEN]
    open_ += [epochs] * max(planned - len(seen), 0)
    return Left(sum(open_), max(open_, default=0))


def _by_those_before(seen: Sequence[Seen], planned: int, epochs: int) -> Left:
    """Trials that may end early for reasons of their own, as those before them did."""
    further = _further(seen, epochs)
    open_ = [further[min(each.epochs, epochs)] for each in seen if each.state in OPEN]
    open_ += [further[0]] * max(planned - len(seen), 0)
    return Left(sum(open_), max(open_, default=0.0))


def _further(seen: Iterable[Seen], epochs: int) -> list[float]:
    """Epochs that a trial is expected to train beyond the 0, 1, ... that it has: the product-limit
    estimate of Kaplan and Meier (1958), to which a trial that still runs adds that it came so far.
    """
    ended, came = [0] * (epochs + 1), [0] * (epochs + 2)
    for each in seen:
        last = min(each.epochs, epochs)
        came[last] += 1
        ended[last] += each.state not in OPEN
    for epoch in reversed(range(epochs)):
        came[epoch] += came[epoch + 1]
    further = [0.0] * (epochs + 1)
    for epoch in reversed(range(epochs)):
        ends = ended[epoch + 1] / came[epoch + 1] if came[epoch + 1] else 0.0
        further[epoch] = 1.0 + (1.0 - ends) * further[epoch + 1]
    return further


def _seconds_per_epoch(seen: Iterable[Seen]) -> float | None:
    timed = [each for each in seen if each.seconds and each.epochs]
    if not timed:
        return None
    return sum(each.seconds for each in timed) / sum(each.epochs for each in timed)

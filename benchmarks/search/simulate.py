"""A sweep with a virtual clock: real search and early stopping, made-up or recorded curves."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter

from grid.plan.ids import Trial
from grid.plan.plan import Plan
from grid.search.outcomes import Outcome
from grid.search.sweep_search import Search
from grid.store.folder import Finished, Store

# Score of a trial (validation accuracy, but for another objective) after an epoch, or the state in
# which it ended.
Curve = Callable[[Trial, int], float | str]
Seconds = Callable[[Trial], float]
# Called when a trial starts, ends an epoch, waits or ends, with the clock, trial, state and epochs.
Listener = Callable[[float, Trial, str, int], None]


@dataclass
class Simulated:
    """The result of a sweep: epochs trained, seconds on the virtual clock, and every outcome."""

    epochs: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    # Trials in the order of their starts; a trial that waited is listed again when it continues.
    started: list[str] = field(default_factory=list)
    # Largest number of trials that waited with a checkpoint at the same time.
    most_waiting: int = 0
    time_s: float = 0.0
    # Real seconds of every decision and of every request for a trial.
    decision_s: list[float] = field(default_factory=list)
    request_s: list[float] = field(default_factory=list)

    @property
    def total_epochs(self) -> int:
        """Number of epochs of all trials."""
        return sum(self.epochs.values())

    def winner(self, cell_id: str) -> Trial | None:
        """Return the complete searched trial of a cell with the best score."""
        complete = [
            trial
            for trial in self.trials.values()
            if trial.cell_id == cell_id
            and trial.role == "searched"
            and self.outcomes[trial.trial_id].state == "complete"
        ]
        score = {t.trial_id: self.outcomes[t.trial_id].score or 0.0 for t in complete}
        return max(complete, key=lambda trial: score[trial.trial_id], default=None)


def simulate(
    plan: Plan,
    curve: Curve,
    slots: int = 1,
    seconds: Seconds = lambda trial: 1.0,
    store: Store | None = None,
    finished: Mapping[str, Finished] | None = None,
    listener: Listener = lambda time_s, trial, state, epochs: None,
) -> Simulated:
    """Run a plan on `slots` slots; an epoch of a trial takes `seconds` of virtual time."""
    search = Search(plan, store, finished or {})
    result = Simulated()
    best: dict[str, float] = {}
    waiting: set[str] = set()
    tie_breaker = count()
    running: list[tuple[float, int, Trial, int]] = []

    def end(trial: Trial, state: str, epoch: int) -> None:
        outcome = Outcome(state, best.get(trial.trial_id), epoch)
        result.outcomes[trial.trial_id] = outcome
        search.tell(trial, outcome)
        listener(result.time_s, trial, state, epoch)

    def fill() -> None:
        while len(running) < slots:
            began = perf_counter()
            trial = search.next()
            result.request_s.append(perf_counter() - began)
            for skipped, _ in search.skipped():
                epochs = result.epochs.get(skipped.trial_id, 0)
                value = best.get(skipped.trial_id)
                result.outcomes[skipped.trial_id] = Outcome("pruned", value, epochs)
                result.trials[skipped.trial_id] = skipped
                waiting.discard(skipped.trial_id)
                listener(result.time_s, skipped, "pruned", epochs)
            if trial is None:
                return
            waiting.discard(trial.trial_id)
            result.started.append(trial.trial_id)
            result.trials[trial.trial_id] = trial
            epoch = result.epochs.get(trial.trial_id, 0) + 1
            listener(result.time_s, trial, "running", epoch - 1)
            ends_s = result.time_s + seconds(trial)
            heapq.heappush(running, (ends_s, next(tie_breaker), trial, epoch))

    fill()
    while running:
        result.time_s, _, trial, epoch = heapq.heappop(running)
        value = curve(trial, epoch)
        result.epochs[trial.trial_id] = epoch
        if isinstance(value, str):
            end(trial, value, epoch)
        else:
            best[trial.trial_id] = max(value, best.get(trial.trial_id, value))
            if epoch >= trial.config.epochs:
                end(trial, "complete", epoch)
            else:
                began = perf_counter()
                verdict = search.judge(trial, epoch, value)
                result.decision_s.append(perf_counter() - began)
                if verdict.action == "go":
                    listener(result.time_s, trial, "running", epoch)
                    ends_s = result.time_s + seconds(trial)
                    heapq.heappush(running, (ends_s, next(tie_breaker), trial, epoch + 1))
                elif verdict.action == "wait":
                    search.wait(trial, Outcome("paused", best[trial.trial_id], epoch))
                    waiting.add(trial.trial_id)
                    result.most_waiting = max(result.most_waiting, len(waiting))
                    listener(result.time_s, trial, "paused", epoch)
                else:
                    end(trial, "pruned", epoch)
        fill()
    return result

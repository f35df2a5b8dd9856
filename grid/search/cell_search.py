"""The search of one tuned cell: suggestions asked, raced, dropped, and the best ones confirmed.

A suggestion is one config with a trial per seed and fold. With `stop:` its first trial races
against those of the other suggestions; the rest follows once the first is complete. With `drop:`
the seeds follow one by one while the config does not clearly lose. What never starts ends as
`pruned` with no epoch.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter
from typing import Any

from cnncore.config import TrialConfig
from grid.plan.ids import Role, Trial, config_json, make_trial
from grid.plan.plan import Cell, Plan, active_axes
from grid.plan.resolve import ConfigProblem
from grid.search.outcomes import Ledger, Outcome, worse
from grid.search.stopping import GO, Standing, Verdict, cell_rule
from grid.search.study import AHEAD, CellStudy, Params, Told
from grid.store.folder import Store, now
from grid.sweep.axes import finite_points, inside
from grid.sweep.spec import Drop, Tune

# After this many draws in a row of points that the cell has, one at random is taken that it lacks.
MOST_DUPLICATES = 10
# A suggestion that takes longer is made ahead, so that no slot waits for it.
LONGEST_ASK_S = 0.01
# Axes with more points than this are as good as continuous.
MOST_POINTS = 10_000


@dataclass
class Suggestion:
    """One config of a tuned cell: its values and its trials; the first `released` may run."""

    number: int
    params: Params
    trials: tuple[Trial, ...]
    released: int = 0
    settled: bool = False


class CellSearch:
    """Hands out the trials of one tuned cell and takes what becomes of them."""

    def __init__(
        self, plan: Plan, cell: Cell, tune: Tune, ledger: Ledger, store: Store | None
    ) -> None:
        self.cell = cell
        self._plan = plan
        self._tune = tune
        self._ledger = ledger
        self._store = store
        self._axes = active_axes(plan.spec, cell.values)
        self._study = CellStudy(tune, self._axes, cell.cell_id)
        wanted = tune.confirm.top if tune.confirm else 1
        stop = plan.spec.stop
        self._rule = cell_rule(stop, cell.epochs, wanted) if stop else None
        self.suggestions: list[Suggestion] = []
        self.confirmed: list[Suggestion] | None = None
        # Trials that were never started and never will be, with the reason.
        self.skipped: list[tuple[Trial, str]] = []
        # No further trial is handed out.
        self.halted = False
        self._queue: deque[Trial] = deque()
        self._draws = 0
        self._of_config: dict[str, Suggestion] = {}
        self._of_trial: dict[str, Suggestion] = {}
        # Suggestions with a trial that runs or is about to.
        self._active: set[int] = set()
        self._waiting: dict[int, str] = {}
        self._complete = 0
        self._told: dict[int, Told] = {}
        self._news: list[Told] = []
        # How many of the news the last draw knew, what it took, and one that is made ahead.
        self._known = 0
        self._ask_s = 0.0
        self._ahead: Future[Params] | None = None
        # Nothing can happen before something else does.
        self._idle = False
        # The axes have fewer points than the budget.
        self._exhausted = False

    # -- handing out -----------------------------------------------------------------------

    @property
    def may_ask(self) -> bool:
        """Whether another suggestion belongs to the budget."""
        return not self.halted and not self._all_asked

    @property
    def _all_asked(self) -> bool:
        return self._exhausted or len(self.suggestions) >= self.cell.budget

    def next(self) -> Trial | None:
        """A trial that may run now without a new suggestion."""
        if self.halted or self._idle:
            return None
        while True:
            if self._queue:
                return self._queue.popleft()
            if (number := self._promoted()) is not None:
                del self._waiting[number]
                trial = self.suggestions[number].trials[0]
                self._ledger.waiting.pop(trial.trial_id, None)
                self._active.add(number)
                return trial
            if not self._close():
                self._idle = True  # until something happens in this cell
                return None

    def ask(self) -> None:
        """Take one more suggestion, and store it."""
        self._idle = False
        if (found := self._new_point()) is None:
            self._exhausted = True
            return
        params, own = found
        draw = self._draws - 1
        self._study.take(draw, params, own=own)
        suggestion = self._add(params)
        if self._store:
            self._keep(self._store, suggestion, draw, own)
        self._news = self._news[self._known :]
        self._known = 0
        self._advance(suggestion)  # its trials may have run in an earlier version of the sweep

    def trials(self) -> Iterator[Trial]:
        """Every trial known so far."""
        for suggestion in (*self.suggestions, *(self.confirmed or ())):
            yield from suggestion.trials

    # -- what happens ----------------------------------------------------------------------

    def judge(self, trial: Trial, epoch: int, val_top1: float | None) -> Verdict:
        """Say what a trial does after an epoch."""
        self._idle = False
        suggestion = self._of_trial.get(trial.trial_id)
        if self._rule is None or val_top1 is None or suggestion is None:
            return GO
        if trial.trial_id != suggestion.trials[0].trial_id:
            return GO
        return self._rule.judge(suggestion.number, epoch, val_top1, trial.config.epochs)

    def pause_epochs(self, trial: Trial) -> tuple[int, ...]:
        """Epochs after which a trial may have to wait, so that it needs a checkpoint then."""
        suggestion = self._of_trial.get(trial.trial_id)
        if self._rule is None or suggestion is None or trial != suggestion.trials[0]:
            return ()
        return self._rule.pause_epochs(suggestion.number, trial.config.epochs)

    def wait(self, trial: Trial, outcome: Outcome) -> None:
        """A trial stopped with a checkpoint; it may go on later."""
        self._idle = False
        suggestion = self._of_trial[trial.trial_id]
        self._active.discard(suggestion.number)
        self._waiting[suggestion.number] = trial.trial_id
        self._tell(Told(suggestion.number, "pruned", outcome.val_top1, outcome.epochs_run))

    def end(self, trial: Trial) -> None:
        """A trial ended; the ledger has how."""
        self._idle = False
        if suggestion := self._of_trial.get(trial.trial_id):
            self._advance(suggestion)

    # -- from the results folder -----------------------------------------------------------

    def restore(
        self,
        asked: Iterable[dict[str, Any]],
        ended_at: dict[str, int],
        epochs: dict[str, list[tuple[int, float]]],
    ) -> list[Trial]:
        """Take up what the results folder says; returns trials that were cut off.

        `asked` are the rows of this cell, `ended_at` orders ended and waiting trials, `epochs` has
        the validation accuracies of every trial.
        """
        for row in asked:
            params = json.loads(row["params"])
            if row["suggestion"] != len(self.suggestions) or not self._possible(params):
                break  # another version of the sweep file: what it asked no longer counts
            for event in json.loads(row["told"] or "[]"):
                told = Told(*event)
                self._told[told.number] = told
                self._study.tell(told)
            draw = row["suggestion"] if row["draw"] is None else row["draw"]
            for left in range(self._draws, draw):
                self._study.leave(left)
            self._draws = draw + 1
            own = row["sampled_by"] != "fallback"
            self._study.take(draw, params, own=own)
            suggestion = self._add(params)
            if self._store and row["trial_ids"] != [t.trial_id for t in suggestion.trials]:
                self._keep(self._store, suggestion, draw, own, json.loads(row["told"] or "[]"))
        for suggestion in self.suggestions:
            for epoch, value in epochs.get(suggestion.trials[0].trial_id, ()):
                if self._rule:
                    self._rule.note(suggestion.number, epoch, value)
        return self._take_up(ended_at)

    def _take_up(self, ended_at: dict[str, int]) -> list[Trial]:
        """Bring every suggestion to where its trials are, in the order in which they ended."""
        ledger = self._ledger

        def latest(suggestion: Suggestion) -> int:
            return max((ended_at.get(t.trial_id, 0) for t in suggestion.trials), default=0)

        for suggestion in sorted(self.suggestions, key=lambda s: (latest(s), s.number)):
            first = suggestion.trials[0].trial_id
            if first in ledger.waiting and first not in ledger.ended:
                self.wait(suggestion.trials[0], ledger.waiting[first])
            else:
                self._advance(suggestion)
        cut = list(self._queue)
        self._queue.clear()
        return cut

    def _possible(self, params: Params) -> bool:
        """Whether a stored suggestion is one that the axes of today can make."""
        return all(key in self._axes and inside(self._axes[key], params[key]) for key in params)

    # -- suggestions -----------------------------------------------------------------------

    def prepare(self, executor: Executor) -> None:
        """Have the next suggestion made meanwhile, where that takes longer than is good.

        It will not know of trials that end until it is taken.
        """
        slow = self._tune.sampler in AHEAD and self._ask_s > LONGEST_ASK_S
        if slow and self.may_ask and self._ahead is None:
            self._known = len(self._news)
            self._ahead = executor.submit(self._draw, self._next_draw())

    def _draw(self, draw: int) -> Params:
        began = perf_counter()
        params = self._study.ask(draw)
        self._ask_s = perf_counter() - began
        return params

    def _new_point(self) -> tuple[Params, bool] | None:
        """A point that the cell does not have yet, and whether it is the sampler's own."""
        for _ in range(MOST_DUPLICATES):
            if self._ahead is not None:
                params = self._ahead.result()
                self._ahead = None
            else:
                self._known = len(self._news)
                params = self._draw(self._next_draw())
            if self._is_new(params):
                return params, True
            self._study.leave(self._draws - 1)
        draw = self._next_draw()
        points = finite_points(self._axes, MOST_POINTS)
        if points is None:
            params = self._study.random_point(draw)
            return (params, False) if self._is_new(params) else None
        new = [point for point in points if self._is_new(point)]
        return (new[draw % len(new)], False) if new else None

    def _next_draw(self) -> int:
        self._draws += 1
        return self._draws - 1

    def _is_new(self, params: Params) -> bool:
        # The id of any seed's trial will do: configs are the same where these are.
        config = self._config(params)
        return make_trial(config, 0, self.cell.cell_id).config_id not in self._of_config

    def _add(self, params: Params) -> Suggestion:
        number = len(self.suggestions)
        trials = self._trials(self._config(params), self._plan.replicates, "searched", number)
        suggestion = Suggestion(number, params, trials)
        self.suggestions.append(suggestion)
        self._of_config[trials[0].config_id] = suggestion
        self._of_trial.update({trial.trial_id: suggestion for trial in trials})
        self._release(suggestion, self._allowed(suggestion))
        return suggestion

    def _trials(
        self,
        config: TrialConfig,
        replicates: Iterable[tuple[int, int | None]],
        role: Role,
        number: int,
    ) -> tuple[Trial, ...]:
        folds = self._plan.spec.folds
        return tuple(
            make_trial(
                config,
                seed,
                self.cell.cell_id,
                role=role,
                suggestion=number,
                fold=fold,
                folds=folds,
            )
            for seed, fold in replicates
        )

    def _config(self, params: Params) -> TrialConfig:
        try:
            return self._plan.resolver.resolve({**self.cell.values, **params})
        except ConfigProblem as problem:  # the plan tried every end of every axis
            raise AssertionError(f"{params} cannot be resolved: {problem}") from problem

    def _keep(
        self,
        store: Store,
        suggestion: Suggestion,
        draw: int | None,
        own: bool,
        told: list[Any] | None = None,
    ) -> None:
        confirmed = draw is None
        trials = suggestion.trials
        row = {
            "cell_id": self.cell.cell_id,
            "suggestion": suggestion.number,
            "config_id": trials[0].config_id if trials else None,
            "config": config_json(trials[0].config) if trials else None,
            "params": json.dumps(suggestion.params),
            "role": "confirmed" if confirmed else "searched",
            "draw": draw,
            "sampled_by": None if confirmed else self._tune.sampler if own else "fallback",
            "trial_ids": [trial.trial_id for trial in trials],
            "told": json.dumps(told if told is not None else self._told_since()),
            "told_order": list(self._told),
            "asked_at": now(),
        }
        name = f"{self.cell.cell_id}-{'confirmed-' if confirmed else ''}{suggestion.number}"
        store.write("asked", name, [row])

    def _told_since(self) -> list[Any]:
        return [told.as_list() for told in self._news[: self._known]]

    # -- one suggestion's way --------------------------------------------------------------

    def _advance(self, suggestion: Suggestion) -> None:
        """Release more of its trials, or settle it, once all that may run have ended."""
        ended = self._ledger.ended
        while not suggestion.settled:
            if any(t.trial_id not in ended for t in suggestion.trials[: suggestion.released]):
                return
            allowed = self._allowed(suggestion)
            if allowed <= suggestion.released:
                self._settle(suggestion)
                return
            self._release(suggestion, allowed)

    def _allowed(self, suggestion: Suggestion) -> int:
        """How many of its trials may run, by those that have ended."""
        total, drop = len(suggestion.trials), self._tune.drop
        outcomes = [
            self._ledger.ended[t.trial_id] for t in suggestion.trials[: suggestion.released]
        ]
        if self._rule:
            if not outcomes:
                return 1
            if outcomes[0].state != "complete":
                return suggestion.released
        if drop is None:
            return total
        if any(outcome.state != "complete" for outcome in outcomes):
            return suggestion.released
        if len(outcomes) < min(drop.after, total):
            return min(drop.after, total)
        if suggestion.released < total and self._loses(suggestion, drop):
            return suggestion.released
        return min(suggestion.released + 1, total)

    def _release(self, suggestion: Suggestion, allowed: int) -> None:
        ledger = self._ledger
        for trial in suggestion.trials[suggestion.released : allowed]:
            known = trial.trial_id in ledger.ended or trial.trial_id in ledger.running
            if not known and trial.trial_id not in ledger.waiting:
                self._queue.append(trial)
        self._active.add(suggestion.number)
        suggestion.released = allowed

    def _loses(self, suggestion: Suggestion, drop: Drop) -> bool:
        """Whether a paired t test says that the config is worse than the cell's best so far."""
        ledger = self._ledger
        others = [s for s in self.suggestions if s is not suggestion]
        best = max(
            (s for s in others if ledger.mean(s.trials) is not None),
            key=lambda s: (ledger.mean(s.trials), -s.number),
            default=None,
        )
        if best is None:
            return False
        done = suggestion.trials[: suggestion.released]
        pairs = zip(done, best.trials, strict=False)
        differences = [ledger.value(ours) - ledger.value(its) for ours, its in pairs]
        return worse(differences, drop.p)

    def _settle(self, suggestion: Suggestion) -> None:
        """All its trials have ended or never start: tell the study."""
        suggestion.settled = True
        self._active.discard(suggestion.number)
        ended = self._ledger.ended
        ran = suggestion.trials[: suggestion.released]
        first = ended[suggestion.trials[0].trial_id]
        for trial in suggestion.trials[suggestion.released :]:
            if trial.trial_id not in ended:
                why = (
                    f"its config was dropped after {len(ran)} seeds"
                    if first.state == "complete"
                    else f"the first trial of its config is {first.state}"
                )
                ended[trial.trial_id] = Outcome("pruned", None, 0)
                self.skipped.append((trial, why))
        outcomes = [ended[trial.trial_id] for trial in ran]
        values = [outcome.val_top1 for outcome in outcomes if outcome.val_top1 is not None]
        states = {outcome.state for outcome in outcomes}
        if states & {"failed", "diverged"} or len(values) < len(outcomes):
            self._tell(Told(suggestion.number, "failed"))
        elif "pruned" in states:
            step = min(outcome.epochs_run or 0 for outcome in outcomes)
            self._tell(Told(suggestion.number, "pruned", fmean(values), step))
        else:
            self._complete += self._ledger.mean(suggestion.trials) is not None
            self._tell(Told(suggestion.number, "complete", fmean(values)))

    def _tell(self, told: Told) -> None:
        if self._told.get(told.number) != told:
            self._told[told.number] = told
            self._news.append(told)
            self._study.tell(told)

    # -- the end of the cell ---------------------------------------------------------------

    def _promoted(self) -> int | None:
        if self._rule is None or not self._waiting:
            return None
        standing = Standing(
            waiting=self._waiting,
            running=self._active,
            asked=self._all_asked,
            complete=self._complete,
        )
        return self._rule.promote(standing)

    def _close(self) -> bool:
        """Once nothing runs and nothing goes on: end what waits, then confirm the best.

        Returns whether that changed anything.
        """
        if not self._all_asked or self._active:
            return False
        if self._waiting:
            for number, trial_id in sorted(self._waiting.items()):
                at = self._ledger.waiting.pop(trial_id)
                self._ledger.ended[trial_id] = Outcome("pruned", at.val_top1, at.epochs_run)
                self.skipped.append((self.suggestions[number].trials[0], ""))
            numbers = sorted(self._waiting)
            self._waiting.clear()
            for number in numbers:
                self._advance(self.suggestions[number])
            return True
        if self.confirmed is None:
            self._confirm()
            return True
        return False

    def _confirm(self) -> None:
        """Plan fresh trials of the best configs."""
        self.confirmed = []
        if (confirm := self._tune.confirm) is None:
            return
        means = [(self._ledger.mean(s.trials), s) for s in self.suggestions]
        best = sorted(
            ((mean, s) for mean, s in means if mean is not None),
            key=lambda found: (-found[0], found[1].number),
        )
        replicates = self._plan.confirm_replicates
        for rank in range(confirm.top):
            if rank < len(best):
                winner = best[rank][1]
                config = winner.trials[0].config
                trials = self._trials(config, replicates, "confirmed", rank)
                suggestion = Suggestion(rank, winner.params, trials, released=len(trials))
            else:  # the cell has no further config that is complete
                suggestion = Suggestion(rank, {}, ())
            self.confirmed.append(suggestion)
            if self._store:
                self._keep(self._store, suggestion, None, True)
            for trial in suggestion.trials:
                if trial.trial_id not in self._ledger.ended:
                    self._queue.append(trial)

"""Search of one tuned cell: it asks for suggestions, races and drops them, confirms the best.

A suggestion is one config with a trial per seed and fold. With `stop:` its first trial races
against those of the other suggestions; the rest follows once the first is complete. With `drop:`
the seeds follow one by one while the config does not clearly lose. A trial that never starts ends
as `pruned` with no epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from statistics import fmean
from typing import Any

from cnncore.config import TrialConfig
from grid.plan.config_problem import ConfigProblem
from grid.plan.ids import Role, Trial, make_trial
from grid.plan.plan import Cell, Plan, active_axes
from grid.search.new_points import NewPoints, Point
from grid.search.outcomes import Outcome, Outcomes, worse
from grid.search.stopping import GO, CellProgress, Verdict, cell_rule
from grid.search.study import Params, SuggestionResult
from grid.search.suggestion import (
    StoredSuggestion,
    Suggestion,
    make_search_id,
    suggestion_name,
    suggestion_row,
)
from grid.store.folder import Store
from grid.sweep.spec import Drop, Tune


class CellSearch:
    """Search of one tuned cell: it hands out trials and takes their outcomes."""

    def __init__(
        self, plan: Plan, cell: Cell, tune: Tune, outcomes: Outcomes, store: Store | None
    ) -> None:
        """Without a `store` nothing is written."""
        self.cell = cell
        self._plan = plan
        self._tune = tune
        self._outcomes = outcomes
        self._store = store
        self._axes = active_axes(plan.spec, cell.values)
        self._search_id = make_search_id(tune, self._axes)
        self._points = NewPoints(tune, self._axes, cell.cell_id)
        wanted = tune.confirm.top if tune.confirm else 1
        stop = plan.spec.stop
        self._rule = cell_rule(stop, cell.epochs, wanted, plan.objective) if stop else None
        self.suggestions: list[Suggestion] = []
        self.confirmed: list[Suggestion] | None = None
        # Trials that end as pruned without running (again), with the reason.
        self.skipped: list[tuple[Trial, str]] = []
        # Trials of new suggestions that ended before, in another version of the sweep.
        self.reused: list[Trial] = []
        # Stored suggestions that the present sweep file could not have made.
        self.left_behind = 0
        # Once true, no further trial is handed out.
        self.halted = False
        self._queue: deque[Trial] = deque()
        self._of_config: dict[str, Suggestion] = {}
        self._of_trial: dict[str, Suggestion] = {}
        # Suggestions with a trial that runs or is about to.
        self._active: set[int] = set()
        self._waiting: dict[int, str] = {}
        self._complete = 0
        # True while only an event in this cell can bring its next trial.
        self._idle = False
        # True once the axes have no further point, although the budget has room.
        self._exhausted = False

    # -- handing out -----------------------------------------------------------------------

    @property
    def may_ask(self) -> bool:
        """Return whether the budget has room for another suggestion."""
        return not self.halted and not self._all_asked

    @property
    def _all_asked(self) -> bool:
        return self._exhausted or len(self.suggestions) >= self.cell.budget

    def next(self) -> Trial | None:
        """Return a trial that may run now without a new suggestion; None if there is none."""
        if self.halted or self._idle:
            return None
        while True:
            if self._queue:
                return self._queue.popleft()
            if (number := self._promoted()) is not None:
                del self._waiting[number]
                trial = self.suggestions[number].trials[0]
                self._outcomes.waiting.pop(trial.trial_id, None)
                self._active.add(number)
                return trial
            if not self._close():
                self._idle = True  # until something happens in this cell
                return None

    def ask(self) -> None:
        """Ask for one more suggestion, and store it."""
        self._idle = False
        if (point := self._points.next(self._is_new)) is None:
            self._exhausted = True
            return
        suggestion = self._add(point.params)
        self._store_suggestion(suggestion, point, self._points.known_results())
        self._points.mark_stored()
        self._note_reused(suggestion)
        self._advance(suggestion)

    def trials(self) -> Iterator[Trial]:
        """Yield every trial known so far."""
        for suggestion in (*self.suggestions, *(self.confirmed or ())):
            yield from suggestion.trials

    # -- events of trials ----------------------------------------------------------------------

    def judge(self, trial: Trial, epoch: int, score: float | None) -> Verdict:
        """Decide on a trial after an epoch by its score."""
        self._idle = False
        suggestion = self._of_trial.get(trial.trial_id)
        if self._rule is None or score is None or suggestion is None:
            return GO
        if trial.trial_id != suggestion.trials[0].trial_id:
            return GO
        return self._rule.judge(suggestion.number, epoch, score, trial.config.epochs)

    def pause_epochs(self, trial: Trial) -> tuple[int, ...]:
        """Return the epochs after which a trial may have to wait, and so needs a checkpoint."""
        suggestion = self._of_trial.get(trial.trial_id)
        if self._rule is None or suggestion is None or trial != suggestion.trials[0]:
            return ()
        return self._rule.pause_epochs(suggestion.number, trial.config.epochs)

    def wait(self, trial: Trial, outcome: Outcome) -> None:
        """Let a trial wait with a checkpoint; it may go on later."""
        self._idle = False
        suggestion = self._of_trial[trial.trial_id]
        self._active.discard(suggestion.number)
        self._waiting[suggestion.number] = trial.trial_id
        self._points.tell(
            SuggestionResult.of(suggestion.number, "pruned", outcome.score, outcome.epochs_run)
        )

    def end(self, trial: Trial) -> None:
        """Go on after the end of a trial, whose outcome is known."""
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
        """Restore the search from the results folder; return trials that were cut off.

        `asked` are the rows of this cell, `ended_at` orders ended and waiting trials, `epochs` has
        the scores of every trial.
        """
        rows = list(asked)
        searched = [row for row in rows if row["role"] == "searched"]
        confirmed = [row for row in rows if row["role"] == "confirmed"]
        for row in searched:
            stored = StoredSuggestion.read(row)
            if stored.number != len(self.suggestions) or not self._counts(stored):
                break  # later ones followed from its result
            self._points.restore(stored.point, stored.known)
            suggestion = self._add(stored.point.params)
            if stored.trial_ids != suggestion.trial_ids:
                self._store_suggestion(suggestion, stored.point, stored.known)
        self._leave_behind(searched[len(self.suggestions) :], confirmed)
        for suggestion in self.suggestions:
            for epoch, value in epochs.get(suggestion.trials[0].trial_id, ()):
                if self._rule:
                    self._rule.note(suggestion.number, epoch, value)
        return self._advance_all(ended_at)

    def _counts(self, stored: StoredSuggestion) -> bool:
        """Check that the present sweep file can have made a stored suggestion."""
        if not stored.possible(self._axes, self._search_id, self._tune.sampler):
            return False
        config = self._config(stored.point.params)
        return make_trial(config, 0, self.cell.cell_id).config_id == stored.config_id

    def _leave_behind(
        self, searched: list[dict[str, Any]], confirmed: list[dict[str, Any]]
    ) -> None:
        """Remove suggestions that no longer count, and winners that were chosen among them.

        The rows of their trials stay; those that are suggested again are done.
        """
        self.left_behind = len(searched)
        stale = [*searched]
        winners = {row["config_id"] for row in confirmed if row["config_id"]}
        if searched or winners - self._of_config.keys():
            stale += confirmed
        if self._store is not None:
            for row in stale:
                name = suggestion_name(row["cell_id"], row["suggestion"], row["role"])
                self._store.drop_asked(name, row)

    def _advance_all(self, ended_at: dict[str, int]) -> list[Trial]:
        """Advance every suggestion by its trials, in the order in which they ended."""
        outcomes = self._outcomes

        def latest(suggestion: Suggestion) -> int:
            return max((ended_at.get(t.trial_id, 0) for t in suggestion.trials), default=0)

        for suggestion in sorted(self.suggestions, key=lambda s: (latest(s), s.number)):
            first = suggestion.trials[0].trial_id
            if first in outcomes.waiting and first not in outcomes.ended:
                self.wait(suggestion.trials[0], outcomes.waiting[first])
            else:
                self._advance(suggestion)
        cut_off = list(self._queue)
        self._queue.clear()
        return cut_off

    # -- suggestions -----------------------------------------------------------------------

    def prepare(self, executor: Executor) -> None:
        """Precompute the next suggestion if the sampler is slow."""
        if self.may_ask:
            self._points.prepare(executor)

    def _note_reused(self, suggestion: Suggestion) -> None:
        self.reused += [t for t in suggestion.trials if t.trial_id in self._outcomes.ended]

    def _is_new(self, params: Params) -> bool:
        # Any seed will do: the config's id is the same for all.
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

    def _store_suggestion(
        self, suggestion: Suggestion, point: Point | None, known: Iterable[SuggestionResult]
    ) -> None:
        if self._store is None:
            return
        order = self._points.told_order()
        row = suggestion_row(
            self.cell.cell_id,
            suggestion,
            self._tune.sampler,
            self._search_id,
            point,
            known,
            order,
        )
        name = suggestion_name(self.cell.cell_id, suggestion.number, row["role"])
        self._store.write("asked", name, [row])

    # -- the trials of one suggestion --------------------------------------------------------------

    def _advance(self, suggestion: Suggestion) -> None:
        """Once all released trials have ended, release more of them or settle the suggestion."""
        ended = self._outcomes.ended
        while not suggestion.settled:
            if any(t.trial_id not in ended for t in suggestion.trials[: suggestion.released]):
                return
            allowed = self._allowed(suggestion)
            if allowed <= suggestion.released:
                self._settle(suggestion)
                return
            self._release(suggestion, allowed)

    def _allowed(self, suggestion: Suggestion) -> int:
        """Count the trials of a suggestion that may run, by the outcomes of the released ones."""
        total, drop = len(suggestion.trials), self._tune.drop
        ended = [self._outcomes.ended[t.trial_id] for t in suggestion.trials[: suggestion.released]]
        if self._rule:
            if not ended:
                return 1
            if ended[0].state != "complete":
                return suggestion.released
        if drop is None:
            return total
        if any(outcome.state != "complete" for outcome in ended):
            return suggestion.released
        if len(ended) < min(drop.after, total):
            return min(drop.after, total)
        if suggestion.released < total and self._loses(suggestion, drop):
            return suggestion.released
        return min(suggestion.released + 1, total)

    def _release(self, suggestion: Suggestion, allowed: int) -> None:
        """Queue the trials up to `allowed`, except those that ended, run or wait."""
        outcomes = self._outcomes
        for trial in suggestion.trials[suggestion.released : allowed]:
            known = trial.trial_id in outcomes.ended or trial.trial_id in outcomes.running
            if not known and trial.trial_id not in outcomes.waiting:
                self._queue.append(trial)
        self._active.add(suggestion.number)
        suggestion.released = allowed

    def _loses(self, suggestion: Suggestion, drop: Drop) -> bool:
        """Return whether a paired t test shows that the config is worse than the best so far."""
        outcomes = self._outcomes
        others = [s for s in self.suggestions if s is not suggestion]
        best = max(
            (s for s in others if outcomes.mean(s.trials) is not None),
            key=lambda s: (outcomes.mean(s.trials), -s.number),
            default=None,
        )
        if best is None:
            return False
        pairs = zip(suggestion.trials[: suggestion.released], best.trials, strict=False)
        differences = [outcomes.value(one) - outcomes.value(other) for one, other in pairs]
        return worse(differences, drop.p)

    def _settle(self, suggestion: Suggestion) -> None:
        """End the trials that never start, and tell the study the result of the suggestion."""
        suggestion.settled = True
        self._active.discard(suggestion.number)
        ended = self._outcomes.ended
        ran = suggestion.trials[: suggestion.released]
        first = ended[suggestion.trials[0].trial_id]
        for trial in suggestion.trials[suggestion.released :]:
            if trial.trial_id not in ended:
                reason = (
                    f"its config was dropped after {len(ran)} seeds"
                    if first.state == "complete"
                    else f"the first trial of its config is {first.state}"
                )
                ended[trial.trial_id] = Outcome("pruned", None, 0)
                self.skipped.append((trial, reason))
        outcomes = [ended[trial.trial_id] for trial in ran]
        scores = [outcome.score for outcome in outcomes if outcome.score is not None]
        states = {outcome.state for outcome in outcomes}
        if states & {"failed", "diverged"} or len(scores) < len(outcomes):
            result = SuggestionResult(suggestion.number, "failed")
        elif "pruned" in states:
            epoch = min(outcome.epochs_run or 0 for outcome in outcomes)
            result = SuggestionResult.of(suggestion.number, "pruned", fmean(scores), epoch)
        else:
            self._complete += self._outcomes.mean(suggestion.trials) is not None
            result = SuggestionResult.of(suggestion.number, "complete", fmean(scores))
        self._points.tell(result)

    # -- the end of the cell ---------------------------------------------------------------

    def _promoted(self) -> int | None:
        """Return the waiting suggestion that goes on now; None if none does."""
        if self._rule is None or not self._waiting:
            return None
        progress = CellProgress(
            waiting=self._waiting,
            running=self._active,
            all_asked=self._all_asked,
            complete=self._complete,
        )
        return self._rule.promote(progress)

    def _close(self) -> bool:
        """End the waiting trials, then confirm the best configs, once nothing runs or goes on.

        Returns whether that changed anything.
        """
        if not self._all_asked or self._active:
            return False
        if self._waiting:
            for number, trial_id in sorted(self._waiting.items()):
                last = self._outcomes.waiting.pop(trial_id)
                self._outcomes.ended[trial_id] = Outcome("pruned", last.score, last.epochs_run)
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
        means = [(self._outcomes.mean(s.trials), s) for s in self.suggestions]
        best = sorted(
            ((mean, s) for mean, s in means if mean is not None),
            key=lambda pair: (-pair[0], pair[1].number),
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
            self._store_suggestion(suggestion, None, self._points.known_results())
            self._note_reused(suggestion)
            for trial in suggestion.trials:
                if trial.trial_id not in self._outcomes.ended:
                    self._queue.append(trial)

"""What runs next: grid cells enumerated, tuned cells asked from one Optuna study each.

Suggestion n of a cell comes from a sampler made for it alone, seeded by the sweep, the cell and n,
over the trials told before it. Every suggestion is stored before its first trial starts, so a
search rebuilt from the results folder goes on as an uninterrupted one would.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnncore.config import TrialConfig
from grid.axes import Choice, IntRange, LogUniform, holds
from grid.ids import Trial, config_json, make_trial
from grid.plan import Cell, Plan, active_axes
from grid.resolve import ConfigProblem
from grid.spec import Tune
from grid.store import Finished, Store, now

if TYPE_CHECKING:
    import optuna

# Random suggestions before a model takes over (Optuna's default for TPE and GP, made explicit).
STARTUP_TRIALS = 10


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, as far as a search cares."""

    state: str
    val_top1: float | None
    epochs_run: int | None


@dataclass
class Suggestion:
    """One point of a tuned cell: its values and its trials, one per seed and fold."""

    number: int
    params: dict[str, Any]
    trials: tuple[Trial, ...]


class CellStudy:
    """The Optuna study of one tuned cell; trials in it have the suggestions' numbers.

    What is replayed or told waits until the first `ask`, so a search with nothing left to ask
    imports no Optuna.
    """

    def __init__(self, tune: Tune, axes: Mapping[str, Any], cell: Cell) -> None:
        self._tune = tune
        self._axes = dict(axes)
        self._cell = cell
        self._study: optuna.Study | None = None
        self._waiting: list[Callable[[optuna.Study], object]] = []

    def ask(self, number: int) -> dict[str, Any]:
        """Values of the next suggestion, by axis; axes whose `when` fails are left out."""
        import optuna

        if self._study is None:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            sampler = _sampler("random", 0)  # replaced before every ask
            self._study = optuna.create_study(direction="maximize", sampler=sampler)
        for event in self._waiting:
            event(self._study)
        self._waiting.clear()
        return self._ask(self._study, number)

    def replay(self, number: int, params: Mapping[str, Any]) -> None:
        """Bring the study to where it stood after `ask(number)` returned `params`."""
        if self._tune.sampler == "cmaes":  # keeps its state in the trials it asked for
            self._waiting.append(lambda study: self._ask(study, number))
        else:
            self._waiting.append(lambda study: self._add(study, params))

    def tell(self, number: int, outcomes: Iterable[Outcome]) -> None:
        """The suggestion's trials ended: their mean, or that they were pruned or lost."""
        ended = list(outcomes)
        self._waiting.append(lambda study: _tell(study, number, ended))

    def _ask(self, study: optuna.Study, number: int) -> dict[str, Any]:
        seed = _seed(self._tune.seed, self._cell.cell_id, number)
        study.sampler = _sampler(self._tune.sampler, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of features that Optuna calls experimental
            return self._suggest(study.ask())

    def _add(self, study: optuna.Study, params: Mapping[str, Any]) -> None:
        import optuna

        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params={key: _encode(self._axes[key], value) for key, value in params.items()},
                distributions={key: _distribution(self._axes[key]) for key in params},
            )
        )

    def _suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        params: dict[str, Any] = {}
        waiting = dict(self._axes)
        while waiting:
            # An axis comes after the axes its condition names; the sweep file has no circles.
            key = next(
                k for k, axis in waiting.items() if not (set(axis.when or {}) - {k}) & set(waiting)
            )
            axis = waiting.pop(key)
            tuned = {k: v for k, v in (axis.when or {}).items() if k in self._axes}
            if not holds(tuned, params):
                continue
            params[key] = _suggest_value(trial, key, axis)
        return params


def _tell(study: optuna.Study, number: int, outcomes: list[Outcome]) -> None:
    import optuna

    values = [outcome.val_top1 for outcome in outcomes if outcome.val_top1 is not None]
    states = {outcome.state for outcome in outcomes}
    if states & {"failed", "diverged"} or len(values) < len(outcomes):
        study.tell(number, state=optuna.trial.TrialState.FAIL)
        return
    mean = sum(values) / len(values)
    if "pruned" in states:
        step = min(outcome.epochs_run or 0 for outcome in outcomes)
        frozen = study.get_trials(deepcopy=False)[number]
        optuna.trial.Trial(study, frozen._trial_id).report(mean, step)
        study.tell(number, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(number, mean)


@dataclass
class _CellSearch:
    """Where the search of one tuned cell stands."""

    cell: Cell
    axes: dict[str, Any]
    study: CellStudy
    suggestions: list[Suggestion] = field(default_factory=list)
    told: list[int] = field(default_factory=list)


class Search:
    """Hands out trials one by one and takes their outcomes.

    Trials that `finished` has are never handed out; asked and unfinished ones come first.
    """

    def __init__(self, plan: Plan, store: Store | None, finished: Mapping[str, Finished]) -> None:
        """Without a `store` suggestions are neither read nor kept: a rehearsal."""
        self._plan = plan
        self._store = store
        self._outcomes = {
            trial_id: Outcome(row.state, row.val_top1, row.epochs_run)
            for trial_id, row in finished.items()
        }
        self._ended_at = {trial_id: row.ended_at for trial_id, row in finished.items()}
        self._running: set[str] = set()
        self._queue = deque(t for t in plan.trials if t.trial_id not in self._outcomes)
        self._cells: dict[str, _CellSearch] = {}
        if plan.spec.tune:
            self._rebuild(plan.spec.tune)

    def next(self) -> Trial | None:
        """The next trial to run, or None when none is left to hand out."""
        while not self._queue:
            behind = [cell for cell in self._cells.values() if self._left(cell)]
            if not behind:
                return None
            # The cell with the fewest suggestions: all cells make progress alike.
            self._ask(min(behind, key=lambda cell: len(cell.suggestions)))
        trial = self._queue.popleft()
        self._running.add(trial.trial_id)
        return trial

    def give_back(self, trial: Trial) -> None:
        """A trial that was handed out was not run to its end; it comes again."""
        self._running.discard(trial.trial_id)
        self._queue.appendleft(trial)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """A trial ended."""
        self._running.discard(trial.trial_id)
        self._outcomes[trial.trial_id] = outcome
        if cell := self._cells.get(trial.cell_id):
            # Two suggestions may be one config, and then share their trials.
            for suggestion in [s for s in cell.suggestions if s.number not in cell.told]:
                self._tell_if_complete(cell, suggestion)

    def unfinished(self) -> list[str]:
        """Trials that are planned or asked and have not ended."""
        return [trial_id for trial_id in self.trials() if trial_id not in self._outcomes]

    def trials(self) -> dict[str, Trial]:
        """Every trial known so far, by id: planned and asked."""
        asked = (t for c in self._cells.values() for s in c.suggestions for t in s.trials)
        return {trial.trial_id: trial for trial in (*self._plan.trials, *asked)}

    def _left(self, cell: _CellSearch) -> bool:
        assert self._plan.spec.tune is not None
        return len(cell.suggestions) < self._plan.spec.tune.trials

    def _rebuild(self, tune: Tune) -> None:
        asked: dict[str, list[dict[str, Any]]] = {}
        for row in self._store.asked() if self._store else ():
            asked.setdefault(row["cell_id"], []).append(row)
        for cell in self._plan.cells:
            axes = active_axes(self._plan.spec, cell.values)
            search = _CellSearch(cell, axes, CellStudy(tune, axes, cell))
            self._cells[cell.cell_id] = search
            for row in asked.get(cell.cell_id, []):
                params = json.loads(row["params"])
                if row["suggestion"] != len(search.suggestions) or not self._same(search, params):
                    break  # another version of the sweep file: what it asked no longer counts
                self._tell_in_order(search, row["told_order"])
                search.study.replay(row["suggestion"], params)
                self._add(search, params)
            ended = [s for s in search.suggestions if self._complete(s)]
            self._tell_in_order(
                search, [s.number for s in sorted(ended, key=self._suggestion_ended)]
            )

    def _same(self, search: _CellSearch, params: dict[str, Any]) -> bool:
        """Whether a stored suggestion is one that the axes of today can make."""
        return all(key in search.axes and _inside(search.axes[key], params[key]) for key in params)

    def _tell_in_order(self, search: _CellSearch, order: Iterable[int]) -> None:
        for number in order:
            suggestion = search.suggestions[number]
            if number not in search.told and self._complete(suggestion):
                self._tell_if_complete(search, suggestion)

    def _ask(self, search: _CellSearch) -> None:
        number = len(search.suggestions)
        params = search.study.ask(number)
        told = list(search.told)
        suggestion = self._add(search, params)
        if self._store:
            self._keep(self._store, search.cell.cell_id, suggestion, told)
        self._tell_if_complete(search, suggestion)  # the same point may have been run before

    def _keep(self, store: Store, cell_id: str, suggestion: Suggestion, told: list[int]) -> None:
        row = {
            "cell_id": cell_id,
            "suggestion": suggestion.number,
            "config_id": suggestion.trials[0].config_id,
            "config": config_json(suggestion.trials[0].config),
            "params": json.dumps(suggestion.params),
            "role": "searched",
            "trial_ids": [trial.trial_id for trial in suggestion.trials],
            "told_order": told,
            "asked_at": now(),
        }
        store.write("asked", f"{cell_id}-{suggestion.number}", [row])

    def _add(self, search: _CellSearch, params: dict[str, Any]) -> Suggestion:
        number = len(search.suggestions)
        config = self._config(search, params)
        trials = tuple(
            make_trial(
                config,
                seed,
                search.cell.cell_id,
                suggestion=number,
                fold=fold,
                folds=self._plan.spec.folds,
            )
            for seed, fold in self._plan.replicates
        )
        suggestion = Suggestion(number, params, trials)
        search.suggestions.append(suggestion)
        known = {*self._outcomes, *self._running, *(trial.trial_id for trial in self._queue)}
        self._queue.extend(trial for trial in trials if trial.trial_id not in known)
        return suggestion

    def _config(self, search: _CellSearch, params: dict[str, Any]) -> TrialConfig:
        try:
            return self._plan.resolver.resolve({**search.cell.values, **params})
        except ConfigProblem as problem:  # the plan tried every end of every axis
            raise AssertionError(f"{params} cannot be resolved: {problem}") from problem

    def _complete(self, suggestion: Suggestion) -> bool:
        return all(trial.trial_id in self._outcomes for trial in suggestion.trials)

    def _tell_if_complete(self, search: _CellSearch, suggestion: Suggestion) -> None:
        if self._complete(suggestion) and suggestion.number not in search.told:
            outcomes = [self._outcomes[trial.trial_id] for trial in suggestion.trials]
            search.study.tell(suggestion.number, outcomes)
            search.told.append(suggestion.number)

    def _suggestion_ended(self, suggestion: Suggestion) -> Any:
        return max(self._ended_at[trial.trial_id] for trial in suggestion.trials)


def _seed(sweep_seed: int, cell_id: str, number: int) -> int:
    text = f"{sweep_seed}:{cell_id}:{number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """A sampler with every argument that matters given, so that a version's defaults do not."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that Optuna calls experimental
        if name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if name == "gp":
            return optuna.samplers.GPSampler(
                seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=False
            )
        if name == "cmaes":
            return optuna.samplers.CmaEsSampler(
                seed=seed, n_startup_trials=1, warn_independent_sampling=False
            )
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,
            n_ei_candidates=24,
            multivariate=True,
            constant_liar=True,
        )


def _distribution(axis: Any) -> optuna.distributions.BaseDistribution:
    import optuna.distributions as known

    if isinstance(axis, Choice):
        return known.CategoricalDistribution([json.dumps(value) for value in axis.values])
    if isinstance(axis, IntRange):
        return known.IntDistribution(axis.low, axis.high)
    return known.FloatDistribution(axis.low, axis.high, log=isinstance(axis, LogUniform))


def _suggest_value(trial: optuna.Trial, key: str, axis: Any) -> Any:
    if isinstance(axis, Choice):
        # As JSON, because Optuna stores no lists or mappings.
        return json.loads(trial.suggest_categorical(key, [json.dumps(v) for v in axis.values]))
    if isinstance(axis, IntRange):
        return trial.suggest_int(key, axis.low, axis.high)
    return trial.suggest_float(key, axis.low, axis.high, log=isinstance(axis, LogUniform))


def _encode(axis: Any, value: Any) -> Any:
    return json.dumps(value) if isinstance(axis, Choice) else value


def _inside(axis: Any, value: Any) -> bool:
    if isinstance(axis, Choice):
        return any(json.dumps(value) == json.dumps(option) for option in axis.values)
    return isinstance(value, (int, float)) and axis.low <= value <= axis.high
